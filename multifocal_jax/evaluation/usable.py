"""Checks from the files' headers, before any work, which pictures can be scored."""

from collections.abc import Sequence
from typing import Any

from multifocal_jax.data.crops import in_threads
from multifocal_jax.data.errors import ImageError
from multifocal_jax.data.sources import RainyFiles, ScoredPairs, Selection
from multifocal_jax.evaluation.metrics import MetricError
from multifocal_jax.evaluation.perceptual import Perceptual, check_size
from multifocal_jax.evaluation.scoring import EvaluationError

_LISTED = 20  # faults in one message
_SKIP = "--config.data.on_broken=skip"


def usable(
    source: ScoredPairs | RainyFiles, count: int, metrics: Sequence[Perceptual], skip: bool
) -> tuple[ScoredPairs | RainyFiles, dict[str, str]]:
    """The usable ones among the first `count` pictures of a source; and those left out with the reason, by name.

    Args:
        source: of the pictures.
        count: number of pictures to check.
        metrics: to be measured in addition to PSNR and SSIM.
        skip: decode every picture and leave out those that cannot be scored; otherwise these are refused, and faults
            beyond the headers are only found when the picture is scored.

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
    if skip and len(left_out) < count:
        good: Any = [(0, index) for index, reason in enumerate(faults) if not reason]
        return Selection([source], good), left_out  # pyright: ignore[reportArgumentType]  # it hands on what it is given
    reasons = list(left_out.values())
    if len(reasons) == 1 and not skip:
        raise EvaluationError(f"{reasons[0]} ({_SKIP} scores the others)")
    advice = "there is nothing left to score" if skip else f"repair or remove them, or score the others with {_SKIP}"
    more = [f"and {len(reasons) - _LISTED} more"] if len(reasons) > _LISTED else []
    lines = [f"{len(reasons)} of {count} pictures cannot be scored; {advice}:", *reasons[:_LISTED], *more]
    raise EvaluationError("\n  ".join(lines))
