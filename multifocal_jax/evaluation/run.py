"""The work of `multifocal evaluate`: score one or more weights on the pictures of a config and write the reports."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from multifocal_jax import processes
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import to_dict
from multifocal_jax.data.crops import in_threads
from multifocal_jax.data.errors import ImageError, NoPairsError
from multifocal_jax.data.published import PUBLISHED
from multifocal_jax.data.sources import RainyFiles, ScoredPairs, Selection, open_rainy, open_source, place_of
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.evaluation.metrics import MetricError
from multifocal_jax.evaluation.page import PAGE, write_page
from multifocal_jax.evaluation.perceptual import Perceptual, check_size, open_measures
from multifocal_jax.evaluation.report import DERAINER_OPTIONS, Report, ReportError, comparison_table
from multifocal_jax.evaluation.scoring import EvaluationError, evaluate
from multifocal_jax.evaluation.trained_on import TrainedOn, find_trained_on
from multifocal_jax.files import make_folder, write_text
from multifocal_jax.paths import as_absolute, as_path
from multifocal_jax.weights import Weights, file_checksum, load_weights
from multifocal_jax.weights_lookup import find_weights, load_weights_for

REPORT = "report.json"
_LISTED = 20  # faults in one message
_SKIP = "--config.data.on_broken=skip"


def run(
    config: ExperimentConfig,
    weights: Sequence[str],
    output: epath.PathLike,
    *,
    metrics: Sequence[Perceptual] = (),
    resume: bool = False,
    devices: int = 1,
    mark_trained_on: bool = False,
    quiet: bool = False,
) -> list[tuple[str, Report]]:
    """Evaluate weights, print the tables, write `report.{json,csv,md,html}`, `scores.jsonl` and the pictures.

    Several processes share the pictures; all return the reports, and only process 0 prints and writes them.

    Args:
        config: pictures, `EvalConfig`, and the architecture that a single weights file must have.
        weights: one or more files, workdirs or packaged names.
        output: folder of the reports; several weights get a subfolder each.
        metrics: measured in addition to PSNR and SSIM.
        resume: continue an interrupted evaluation.
        devices: number of devices over which the rows of a picture are split.
        mark_trained_on: score pictures as held out that weights were trained on, and mark them; refused otherwise. Such
            pictures of a test source are always scored and marked.
        quiet: print nothing.

    Returns:
        Title and report of each of the weights.

    Raises:
        UserError: something that the user gave cannot be used.
    """
    processes.check_joined()
    truth = config.eval.split != "test" or config.data.test.dataset != "rainy"
    measures = open_measures(metrics, truth=truth)
    alone = len(weights) == 1  # of several, every network has the architecture that it was trained with
    loaded = [load_weights_for(name, config.model) if alone else load_weights(find_weights(name)) for name in weights]
    titles = _titles(weights)
    source = _open(config)
    count = min(config.eval.limit, len(source)) if config.eval.limit else len(source)
    source, left_out = _usable(source, count, list(measures), config.data.on_broken == "skip", quiet)
    count -= len(left_out)
    folders = [as_path(output) if alone else as_path(output) / title for title in titles]
    for folder in folders:
        _keep_apart(config, folder)
    known = [find_trained_on(held.record, source, count, config.data) for held in loaded]
    warnings = [f"{len(left_out)} pictures are left out; the reports name them"] if left_out else []
    for name, found in zip(weights, known, strict=True):
        warnings.append(_spell_trained_on(found, name, count, config, mark_trained_on))
    main, options = processes.index() == 0, config.eval
    for warning in filter(None, warnings if main and not quiet else []):
        print(f"warning: {warning}", file=sys.stderr)
    reports = []
    for name, held, title, folder, found in zip(weights, loaded, titles, folders, known, strict=True):
        dataset = _dataset(config) + ", trained on" * bool(found.indices)
        labels = {"name": config.name, "weights": name, "dataset": dataset, "family": options.family}
        settings = {name: getattr(options, name) for name in DERAINER_OPTIONS}
        derainer = Derainer(held.params, held.model, devices=devices, **settings)
        try:
            report = evaluate(
                derainer,
                source,
                family=options.family,
                measures=measures,
                limit=options.limit,
                batch_size=options.batch_size,
                output=folder,
                save_images=options.save_images,
                resume=resume,
                progress=main and not quiet,
                record=_record(config, name, held, list(measures)),
            )
        except KeyboardInterrupt:
            print(f"scores so far are kept in {folder}; the same command with --resume continues", file=sys.stderr)
            raise
        report = dataclasses.replace(report, left_out=left_out, record=labels | report.record)
        if truth:
            trained_on = frozenset(map(source.name, found.indices))
            report = dataclasses.replace(report, trained_on=trained_on, unknown=found.unknown)
        reports.append((title, report))
        if not main:
            continue
        write_text(folder / REPORT, report.to_json())
        write_text(folder / "report.csv", report.to_csv())
        write_text(folder / "report.md", report.to_markdown())
        if options.save_images:
            write_page(report, source, folder)
        else:
            (folder / PAGE).unlink(missing_ok=True)  # one of an earlier evaluation would show other results
        if not quiet:
            print(f"{report.to_text()}\nwritten to {folder}")
    return reports


def read_reports(places: Sequence[str]) -> list[tuple[str, Report]]:
    """Title and report of earlier evaluations: `report.json` files, or folders that hold one.

    Raises:
        ReportError: there is none, or it cannot be read.
    """
    reports = []
    for title, place in zip(_titles([_shorten(place) for place in places]), places, strict=True):
        path = as_path(place) / REPORT if as_path(place).is_dir() else as_path(place)
        if not path.is_file():
            raise ReportError(f"{place} holds no {REPORT}; an evaluation writes one into its output folder")
        reports.append((title, Report.read(path)))
    return reports


def _shorten(place: str) -> str:
    """The workdir, for a report in its usual place: `runs/rain200h/evaluation` → `runs/rain200h`."""
    path = Path(place)
    path = path.parent if path.name == REPORT else path
    return str(path.parent if path.name in ("evaluation", "photographs") and path.parent.name else path)


def write_comparison(reports: Sequence[tuple[str, Report]], output: epath.PathLike) -> str:
    """Write several reports as one table, `comparison.md`, in process 0, and return it; equal titles are numbered."""
    seen: Counter[str] = Counter()
    numbered = []
    for title, report in reports:
        seen[title] += 1
        numbered.append((title if seen[title] == 1 else f"{title} ({seen[title]})", report))
    table = comparison_table(numbered)
    if processes.index() == 0:
        write_text(make_folder(output) / "comparison.md", table)
    return table


def _open(config: ExperimentConfig) -> ScoredPairs | RainyFiles:
    if config.eval.split == "test":
        if config.data.test.dataset == "rainy":
            return open_rainy(config.data.test, config.data.root)
        try:
            return open_source(config.data.test, config.data.root)
        except NoPairsError as error:
            hint = "; pictures without ground truth: --photographs DIR" if config.data.test.dataset == "folder" else ""
            raise EvaluationError(f"{error}{hint}") from None
    from multifocal_jax.data.pipeline import TrainingData

    source = TrainingData(config.data, config.train.batch_size, config.train.seed).held_out
    if len(source) == 0:
        raise EvaluationError(
            "eval.split is 'held_out', but the config sets none aside; add --config.data.held_out=N as in training"
        )
    return source


def _usable(
    source: ScoredPairs | RainyFiles, count: int, metrics: Sequence[Perceptual], skip: bool, quiet: bool
) -> tuple[ScoredPairs | RainyFiles, dict[str, str]]:
    """The usable ones among the first `count` pictures of a source, and those left out with the reason, by name.

    With `skip` every picture is decoded; otherwise those that cannot be scored are refused, all of them in one message,
    and faults beyond the files' headers are only found when the picture is scored.
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

    faults = in_threads(fault, count, "checking pictures", quiet)
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


def _keep_apart(config: ExperimentConfig, folder: Path) -> None:
    """Refuse results inside the folder of photographs, whose subfolders would be read the next time."""
    if config.eval.split == "test" and config.eval.save_images and config.data.test.dataset in ("rainy", "clean"):
        read = as_absolute(place_of(config.data.test, config.data.root))
        if as_absolute(folder / "images").is_relative_to(read):
            raise EvaluationError(
                f"the results in {folder} would lie among the pictures of {read} and be read as such the next time; "
                "choose another output folder"
            )


def _spell_trained_on(found: TrainedOn, name: str, count: int, config: ExperimentConfig, marked: bool) -> str:
    """The warning about pictures to score that the weights were trained on; empty if there are none.

    Raises:
        EvaluationError: such pictures would be scored as held out, and `marked` does not allow it.
    """
    held_out = config.eval.split == "held_out"
    if held_out and not marked and (found.indices or found.changed):
        what = f"{len(found.indices)} of the {count} pictures to score as held out were trained on by {name}"
        what += f"; {found.advice}"
        if not found.indices:
            what = f"which pictures {name} was trained on cannot be told: {found.changed}; bring them back"
        raise EvaluationError(f"{what}, or pass --mark-trained-on to score them, with a mark at those that are known")
    if found.indices:
        doubt = f" (not certain: {found.unknown})" if found.unknown else ""
        advice = "" if held_out else "; --config.eval.split=held_out scores those that training sets aside, if it does"
        return f"{len(found.indices)} of the {count} pictures to score were trained on by {name}{doubt}{advice}"
    if held_out and found.unknown:
        return f"whether {name} was trained on the pictures to score is not certain: {found.unknown}"
    return ""


def _dataset(config: ExperimentConfig) -> str:
    """What is scored, for readers: `rain200h/test`, or `rain200h/train, held out`."""
    held_out = config.eval.split == "held_out"
    sources = config.data.train if held_out else (config.data.test,)
    names = [f"{one.dataset}/{one.split}" if one.dataset in (*PUBLISHED, "demo") else one.dataset for one in sources]
    return " + ".join(names) + ", held out" * held_out


def _record(config: ExperimentConfig, name: str, weights: Weights, metrics: Sequence[Perceptual]) -> dict[str, Any]:
    """Everything that determines the scores, and nothing else: an evaluation with an equal record may be resumed."""
    selecting = ("root", "train", "held_out") if config.eval.split == "held_out" else ("root", "test")
    data = to_dict(config.data)
    return {
        "sha256": file_checksum(find_weights(name)),
        "trained": {key: value for key, value in weights.record.items() if key != "config"},
        "model": to_dict(weights.model),
        "data": {field: data[field] for field in selecting},
        **{name: getattr(config.eval, name) for name in DERAINER_OPTIONS},
        **({"metrics": list(metrics)} if metrics else {}),
    }


def _titles(places: Sequence[str]) -> list[str]:
    """Short names of weights or reports: the shortest end of each path that distinguishes them."""
    named = [str(as_absolute(place)).removesuffix(".safetensors").removesuffix(".json") for place in places]
    parts = [[part for part in Path(place).parts if part != "/"] for place in named]
    for length in range(1, max(len(part) for part in parts) + 1):
        titles = ["_".join(part[-length:]) for part in parts]
        if len(set(titles)) == len(titles):
            return titles
    raise EvaluationError(f"the same weights or reports were named twice: {', '.join(places)}")
