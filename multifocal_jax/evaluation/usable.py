"""Checks from the files' headers, before any work, which pictures can be scored."""

from collections.abc import Mapping, Sequence
from typing import Any

from multifocal_jax.data.crops import in_threads
from multifocal_jax.data.errors import ImageError
from multifocal_jax.data.sources import RainyFiles, ScoredPairs, Selection
from multifocal_jax.evaluation.metrics import MetricError
from multifocal_jax.evaluation.perceptual import Perceptual, check_size
from multifocal_jax.evaluation.scoring import EvaluationError

_LISTED = 20  # faults in one message


def usable(
    source: ScoredPairs | RainyFiles, count: int, metrics: Sequence[Perceptual], skip: bool
) -> tuple[ScoredPairs | RainyFiles, dict[str, str]]:
    """The usable ones among the first pictures of a source.

    Args:
        source: of the pictures.
        count: number of pictures to check.
        metrics: to be measured in addition to PSNR and SSIM.
        skip: decode every picture and leave out those that cannot be scored; otherwise these are refused, and faults
            beyond the headers are only found when the picture is scored.

    Returns:
        The usable pictures, and those left out with the reason, by name.

    Raises:
        EvaluationError: pictures cannot be scored; all of them are listed.
    """
    truth = not isinstance(source, RainyFiles)

    def fault(index: int) -> str:
        try:
            check_size(metrics, truth, *source.check(index, whole=skip))
        except MetricError as error:
            return f"{source.name(index)}: {error}"
        except ImageError as error:
            return str(error)
        return ""

    faults = in_threads(fault, count, "checking pictures")
    left_out = {source.name(index): reason for index, reason in enumerate(faults) if reason}
    if not left_out:
        return source, {}
    if not skip or len(left_out) == count:
        raise EvaluationError(_spell(left_out, count, "" if skip else "--config.data.on_broken=skip"))
    good: Any = [(0, index) for index, reason in enumerate(faults) if not reason]
    return Selection([source], good), left_out  # pyright: ignore[reportArgumentType]  # it hands on what it is given


def _spell(left_out: Mapping[str, str], count: int, option: str) -> str:
    reasons = list(left_out.values())
    if len(reasons) == 1 and option:
        return f"{reasons[0]} ({option} scores the others)"
    advice = f"repair or remove them, or score the others with {option}" if option else "there is nothing left to score"
    more = [f"and {len(reasons) - _LISTED} more"] if len(reasons) > _LISTED else []
    lines = [f"{len(reasons)} of {count} pictures cannot be scored; {advice}:", *reasons[:_LISTED], *more]
    return "\n  ".join(lines)
