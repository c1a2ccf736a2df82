"""What `evaluate.py` does: scores one or more weights on the pictures of a config and writes the reports."""

import contextlib
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from multifocal_jax import processes
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import to_dict
from multifocal_jax.data.errors import DataError, NoPairsError
from multifocal_jax.data.published import PUBLISHED
from multifocal_jax.data.sources import (
    PairFiles,
    PairSource,
    RainySource,
    open_photographs,
    open_rainy,
    open_source,
    place_of,
)
from multifocal_jax.evaluation.evaluate import EvaluationError, evaluate
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.evaluation.page import write_page
from multifocal_jax.evaluation.perceptual import Measure, Perceptual, open_measures
from multifocal_jax.evaluation.report import Report, ReportError, comparison_table
from multifocal_jax.files import make_folder, write_text
from multifocal_jax.paths import as_absolute, as_path
from multifocal_jax.weights import Weights
from multifocal_jax.weights_lookup import find_weights, load_weights_for

REPORT = "report.json"


def run(
    config: ExperimentConfig,
    weights: Sequence[str],
    output: epath.PathLike,
    *,
    metrics: Sequence[Perceptual] = (),
    resume: bool = False,
    devices: int = 1,
    quiet: bool = False,
) -> list[tuple[str, Report]]:
    """Evaluate weights, print the tables, write `report.{json,csv,md,html}`, `scores.jsonl` and the pictures.

    Several processes share the pictures; all return the reports, and process 0 alone prints and writes them.

    Args:
        config: pictures, architecture and `EvalConfig`.
        weights: one or more files, workdirs or packaged names.
        output: folder of the reports; each of several weights has a folder of its own in it.
        metrics: to be measured beside PSNR and SSIM.
        resume: go on with an interrupted evaluation.
        devices: over which the rows of a picture are spread.
        quiet: print nothing.

    Returns:
        Title and report of each of the weights.

    Raises:
        UserError: something that the user gave cannot be used.
    """
    processes.check_joined()
    measures = open_measures(metrics, truth=config.eval.split != "test" or config.data.test.dataset != "rainy")
    loaded = [(name, load_weights_for(name, config.model)) for name in weights]
    titles = _titles(weights)
    source = _open(config)
    repeated = _trained_on(config, source)
    if repeated and processes.index() == 0 and not quiet:
        print(f"warning: {repeated}", file=sys.stderr)
    reports = []
    for title, (name, held) in zip(titles, loaded, strict=True):
        folder = as_path(output) if len(weights) == 1 else as_path(output) / title
        _keep_apart(config, folder)
        record = _record(config, name, held, list(measures))
        if repeated:
            record["dataset"] += ", trained on"
        report = _run_one(config, held, record, source, measures, folder, resume, devices, quiet)
        reports.append((title, report))
    return reports


def read_reports(places: Sequence[str]) -> list[tuple[str, Report]]:
    """Reports of earlier evaluations.

    Args:
        places: `report.json` files, or folders that hold one.

    Raises:
        ReportError: there is none, or it cannot be read.
    """
    reports = []
    for title, place in zip(_titles([_shorten(place) for place in places]), places, strict=True):
        path = as_path(place) / REPORT if as_path(place).is_dir() else as_path(place)
        if not path.is_file():
            raise ReportError(f"{place} holds no {REPORT}; evaluate.py writes one into its output folder")
        reports.append((title, Report.read(path)))
    return reports


def _shorten(place: str) -> str:
    """The workdir where a report lies at its usual place: `runs/rain200h/evaluation` → `runs/rain200h`."""
    path = Path(place)
    path = path.parent if path.name == REPORT else path
    return str(path.parent if path.name in ("evaluation", "photographs") and path.parent.name else path)


def write_comparison(reports: Sequence[tuple[str, Report]], output: epath.PathLike) -> str:
    """Write several reports as one table, `comparison.md`, in process 0; equal titles are numbered.

    Returns:
        The table.
    """
    seen: dict[str, int] = {}
    numbered = []
    for title, report in reports:
        seen[title] = seen.get(title, 0) + 1
        numbered.append((title if seen[title] == 1 else f"{title} ({seen[title]})", report))
    table = comparison_table(numbered)
    if processes.index() == 0:
        write_text(make_folder(output) / "comparison.md", table)
    return table


def _run_one(
    config: ExperimentConfig,
    weights: Weights,
    record: dict[str, Any],
    source: PairSource | RainySource,
    measures: dict[Perceptual, Measure],
    folder: Path,
    resume: bool,
    devices: int,
    quiet: bool,
) -> Report:
    options, main = config.eval, processes.index() == 0
    derainer = Derainer(
        weights.params,
        weights.model,
        precision=options.precision,
        tile=options.tile,
        overlap=options.overlap,
        ensemble=options.ensemble,
        devices=devices,
    )
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
            record=record,
        )
    except KeyboardInterrupt:
        print(f"scores so far are kept in {folder}; the same command with --resume goes on", file=sys.stderr)
        raise
    if not main:
        return report
    write_text(folder / REPORT, report.to_json())
    write_text(folder / "report.csv", report.to_csv())
    write_text(folder / "report.md", report.to_markdown())
    if options.save_images:
        write_page(report, source, folder)
    if not quiet:
        print(report.to_text())
        print(f"written to {folder}")
    return report


def _open(config: ExperimentConfig) -> PairSource | RainySource:
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


def _keep_apart(config: ExperimentConfig, folder: Path) -> None:
    """Refuse results below a folder of photographs, which is read with all that lies below it the next time."""
    if config.eval.split == "test" and config.eval.save_images and config.data.test.dataset in ("rainy", "clean"):
        read = as_absolute(place_of(config.data.test, config.data.root))
        if as_absolute(folder / "images").is_relative_to(read):
            raise EvaluationError(
                f"the results in {folder} would lie among the pictures of {read} and be read as such the next time; "
                "choose another --output"
            )


def _trained_on(config: ExperimentConfig, source: PairSource | RainySource) -> str:
    """What there is to say if pictures to test are trained on, as where a set has no folders for its splits."""
    if config.eval.split != "test" or not isinstance(source, PairFiles):
        return ""
    place = place_of(config.data.test, config.data.root)
    scored = {source.background(index) for index in range(len(source))}
    for settings in config.data.train:
        if settings.reader != "folder" or as_absolute(place_of(settings, config.data.root)) != as_absolute(place):
            continue
        with contextlib.suppress(DataError):  # what cannot be opened was not trained on here
            trained = open_photographs(settings, config.data.root)
            shared = sum(trained.background(index) in scored for index in range(len(trained)))
            if shared:
                return (
                    f"{shared} of the pictures to test in {place} are those to train on, as it has no folders train "
                    "and test; --config.eval.split=held_out scores those that training sets aside"
                )
    return ""


def _record(config: ExperimentConfig, name: str, weights: Weights, metrics: Sequence[Perceptual]) -> dict[str, Any]:
    """What decides the scores: an evaluation with an equal record may be resumed."""
    options = to_dict(config.eval)
    return {
        "name": config.name,
        "weights": name,
        "sha256": hashlib.sha256(find_weights(name).read_bytes()).hexdigest(),
        "trained": {key: value for key, value in weights.record.items() if key != "config"},
        "dataset": _dataset(config),
        "model": to_dict(config.model),
        "data": to_dict(config.data),
        **{key: options[key] for key in ("family", "precision", "tile", "overlap", "ensemble")},
        **({"metrics": list(metrics)} if metrics else {}),
    }


def _dataset(config: ExperimentConfig) -> str:
    """What is scored: `rain200h/test`, or `rain200h/train, held out`."""
    held_out = config.eval.split == "held_out"
    sources = config.data.train if held_out else (config.data.test,)
    names = [f"{one.dataset}/{one.split}" if one.dataset in (*PUBLISHED, "demo") else one.dataset for one in sources]
    return " + ".join(names) + ", held out" * held_out


def _titles(places: Sequence[str]) -> list[str]:
    """Short names of weights or reports: as little of each path's end as tells them apart."""
    named = [str(as_absolute(place)).removesuffix(".safetensors").removesuffix(".json") for place in places]
    parts = [[part for part in Path(place).parts if part != "/"] for place in named]
    for length in range(1, max(len(part) for part in parts) + 1):
        titles = ["_".join(part[-length:]) for part in parts]
        if len(set(titles)) == len(titles):
            return titles
    raise EvaluationError(f"the same weights or reports were named twice: {', '.join(places)}")
