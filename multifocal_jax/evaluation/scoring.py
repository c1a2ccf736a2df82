"""Scores a de-rainer on pairs of rainy and clean pictures."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from etils import epath
from PIL import Image

from multifocal_jax import processes
from multifocal_jax.data.sources import PairSource, RainySource
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.journal import FILE, Journal
from multifocal_jax.evaluation.metrics import Family, MetricError, score_all
from multifocal_jax.evaluation.perceptual import Measure, Perceptual
from multifocal_jax.evaluation.report import PictureScores, Report, picture_from_dict, picture_to_dict
from multifocal_jax.files import make_folder, write_whole
from multifocal_jax.paths import as_path, is_remote

Item = TypeVar("Item")
Result = TypeVar("Result")
Pair = tuple[str, np.ndarray, np.ndarray | None]

_THREADS = 2  # that decode, encode and score while the network runs
_AHEAD = 4  # pictures queued before and after the network


class EvaluationError(UserError):
    """An evaluation cannot run. The message says why."""


def evaluate(
    derain: Callable[[np.ndarray], np.ndarray],
    source: PairSource | RainySource,
    *,
    family: Family = "uint8",
    measures: Mapping[Perceptual, Measure] | None = None,
    limit: int = 0,
    batch_size: int = 1,
    output: epath.PathLike | None = None,
    save_images: bool = True,
    resume: bool = False,
    progress: bool = False,
    record: dict[str, Any] | None = None,
) -> Report:
    """De-rain the pictures of a source and compare them with their ground truth.

    A result is clamped, scaled and rounded to 8 bits, as for writing, and then scored. Several processes
    (`processes.join`) share the pictures; process 0 stores all scores, and all return the same report.

    Args:
        derain: maps uint8 (B, H, W, 3) to the same; a `Derainer`.
        source: the pairs, or rainy pictures without ground truth.
        family: metric family of the report's headline figures; every family is measured.
        measures: further metrics, from `open_measures`.
        limit: score at most this many pictures; 0 scores all.
        batch_size: pictures of equal size that are de-rained together.
        output: folder for `images/NAME.png` and `scores.jsonl`, to which every score is written at once; None writes
            nothing.
        save_images: write the pictures.
        resume: reuse the scores in `scores.jsonl` if it was written with the same `record`.
        progress: show a bar on stderr.
        record: what is scored, for the report.

    Raises:
        EvaluationError: there are no pictures, or pictures that no evaluation wrote would be replaced.
        JournalError: `resume` finds scores with another record.
        ImageError: a picture cannot be read.
        MetricError: a pair cannot be compared; names the picture.
        OutputError: the output cannot be written.
    """
    count = min(limit, len(source)) if limit else len(source)
    if count == 0:
        raise EvaluationError("there are no pictures to score")
    record = record or {}
    names = [source.name(index) for index in range(count)]
    main = processes.index() == 0
    images = as_path(output) / "images" if output and save_images else None
    if images and main:
        _keep_what_is_not_ours(images, names)
        make_folder(images)
    journal = Journal(make_folder(output) if output and main else None, record, resume)
    done = {name: scores for name, scores in journal.done.items() if _complete(name, images)}
    known = set(processes.gather(list(done))[0])
    if images and not is_remote(images) and not images.is_dir():  # a bucket has no empty folders
        raise EvaluationError(
            f"process {processes.index()} does not see {images}, which process 0 made; --output must lie on a file "
            "system that all of them share, or pass --config.eval.save_images=False"
        )
    if output and not main and (is_remote(output) or as_path(output).is_dir()):
        journal = Journal(as_path(output), record, resume=False, process=processes.index())
    todo = [index for index, name in enumerate(names) if name not in known]
    share = todo[processes.index() :: processes.count()]

    def load(index: int) -> Pair:
        rainy, clean = source.load(index)
        return names[index], rainy, clean

    def finish(name: str, rainy: np.ndarray, clean: np.ndarray | None, result: np.ndarray) -> PictureScores:
        if images:
            picture = Image.fromarray(result)
            path = images / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file: picture.save(file, "png"))
        return score_picture(name, rainy, result, clean, measures or {})

    with ThreadPoolExecutor(_THREADS) as pool, _bar(progress, len(done) + len(share)) as bar, journal:
        bar.update(len(done))
        waiting: deque[Future[PictureScores]] = deque()

        def keep(scores: PictureScores) -> None:
            journal.add(scores)
            done[scores.name] = scores
            bar.update(1)

        def collect(most: int) -> None:
            while len(waiting) > most:
                keep(waiting.popleft().result())

        try:
            for batch in _batches(_ahead(pool, load, share), batch_size):
                for (name, rainy, clean), result in zip(batch, _derain(derain, batch, batch_size), strict=False):
                    waiting.append(pool.submit(finish, name, rainy, clean, result))
                collect(_AHEAD)
            collect(0)
            rows = processes.gather([picture_to_dict(scores) for scores in done.values()])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            with contextlib.suppress(Exception):  # the error that is being raised says more
                collect(0)  # what is known is kept
            raise
        for picture in (picture_from_dict(row) for others in rows for row in others):
            if picture.name not in done:
                done[picture.name] = picture
                if main:
                    journal.add(picture)
        processes.gather("the first process has all scores")
        journal.taken_over = not main
    return Report(tuple(done[name] for name in names), family, record)


def _keep_what_is_not_ours(images: Path, names: list[str]) -> None:
    """Refuse to overwrite pictures that no evaluation has written."""
    if (images.parent / FILE).exists():
        return
    foreign = [name for name in names if (images / f"{name}.png").exists()]
    if foreign:
        raise EvaluationError(
            f"{images / foreign[0]}.png would be replaced, and there is no {FILE} to say that an evaluation wrote it; "
            "choose another --output, or move it away"
        )


def _complete(name: str, images: Path | None) -> bool:
    return images is None or (images / f"{name}.png").is_file()


def _derain(derain: Callable[[np.ndarray], np.ndarray], batch: list[Pair], batch_size: int) -> np.ndarray:
    """De-rain a batch; an incomplete one is filled up, so that no other size has to be compiled."""
    rainy = [pair[1] for pair in batch]
    return derain(np.stack(rainy + rainy[-1:] * (batch_size - len(rainy))))


def _ahead(pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in order, a few of them computed in advance."""
    items = iter(items)
    futures = deque(pool.submit(function, item) for item in itertools.islice(items, _AHEAD))
    while futures:
        yield futures.popleft().result()
        futures.extend(pool.submit(function, item) for item in itertools.islice(items, 1))


def _batches(pairs: Iterable[Pair], batch_size: int) -> Iterator[list[Pair]]:
    """Groups of pictures of equal size; the last group of a size may be smaller."""
    groups: dict[tuple[int, ...], list[Pair]] = {}
    for pair in pairs:
        group = groups.setdefault(pair[1].shape, [])
        group.append(pair)
        if len(group) == batch_size:
            yield groups.pop(pair[1].shape)
    yield from groups.values()


def _bar(progress: bool, count: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=count, unit="picture", disable=not progress, dynamic_ncols=True)


def score_picture(
    name: str,
    rainy: np.ndarray,
    result: np.ndarray,
    clean: np.ndarray | None,
    measures: Mapping[Perceptual, Measure],
) -> PictureScores:
    """Score a rainy picture and its de-rained result.

    Args:
        name: of the picture.
        rainy: (H, W, 3) uint8.
        result: the de-rained picture, likewise.
        clean: the ground truth, likewise; if None, PSNR and SSIM are left out.
        measures: further metrics, from `open_measures`.

    Raises:
        MetricError: the picture cannot be scored; names it.
    """
    try:
        before, after = ({}, {}) if clean is None else (score_all(rainy, clean), score_all(result, clean))
        perceptual: dict[Perceptual, tuple[float, float]] = {
            key: (measure(rainy, clean), measure(result, clean)) for key, measure in measures.items()
        }
    except MetricError as error:
        raise MetricError(f"{name}: {error}") from None
    height, width, _ = rainy.shape
    return PictureScores(name, width, height, before, after, perceptual)
