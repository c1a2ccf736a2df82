"""Scores a de-rainer on pairs of rainy and clean pictures."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

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

Pair = tuple[int, np.ndarray, np.ndarray | None]  # index, rainy, clean

_THREADS = 2  # that decode, encode and score while the network runs
_AHEAD = 4  # pictures queued before and after the network


class EvaluationError(UserError):
    """An evaluation cannot run. The message says why."""


def evaluate(
    derain: Callable[[np.ndarray], np.ndarray],
    source: PairSource | RainySource,
    *,
    family: Family = "uint8",
    measures: Mapping[Perceptual, Measure] = MappingProxyType({}),
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
    from tqdm import tqdm

    count = min(limit, len(source)) if limit else len(source)
    if count == 0:
        raise EvaluationError("there are no pictures to score")
    record = record or {}
    names = [source.name(index) for index in range(count)]
    main = processes.index() == 0
    images = as_path(output) / "images" if output and save_images else None
    if images and main:
        paths = [] if (images.parent / FILE).exists() else [images / f"{name}.png" for name in names]
        if foreign := next((path for path in paths if path.exists()), None):
            raise EvaluationError(
                f"{foreign} would be replaced, and there is no {FILE} to say that an evaluation wrote it; choose "
                "another output folder, or move it away"
            )
        make_folder(images)
    journal = Journal(make_folder(output) if output and main else None, record, resume)
    done = {k: v for k, v in journal.done.items() if images is None or (images / f"{k}.png").is_file()}
    known = set(processes.gather(list(done))[0])
    if images and not is_remote(images) and not images.is_dir():  # a bucket has no empty folders
        raise EvaluationError(
            f"process {processes.index()} does not see {images}, which process 0 made; the output must lie on a file "
            "system that all of them share, or eval.save_images be off"
        )
    if output and not main and (is_remote(output) or as_path(output).is_dir()):
        journal = Journal(as_path(output), record, resume=False, process=processes.index())
    todo = [index for index, name in enumerate(names) if name not in known]
    share = todo[processes.index() :: processes.count()]

    def finish(name: str, rainy: np.ndarray, clean: np.ndarray | None, result: np.ndarray) -> PictureScores:
        if images:
            picture = Image.fromarray(result)
            path = images / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file: picture.save(file, "png"))
        try:
            before, after = ({}, {}) if clean is None else (score_all(rainy, clean), score_all(result, clean))
            scores = PictureScores(name, rainy.shape[1], rainy.shape[0], before, after)
            for key, measure in measures.items():
                scores.perceptual[key] = measure(rainy, clean), measure(result, clean)
        except MetricError as error:
            raise MetricError(f"{name}: {error}") from None
        return scores

    bar = tqdm(total=len(done) + len(share), unit="picture", disable=not progress, dynamic_ncols=True)
    with ThreadPoolExecutor(_THREADS) as pool, bar, journal:
        bar.update(len(done))
        waiting: deque[Future[PictureScores]] = deque()

        def collect(most: int) -> None:
            while len(waiting) > most:
                scores = waiting.popleft().result()
                journal.add(scores)
                done[scores.name] = scores
                bar.update(1)

        try:
            for batch in _batches(_ahead(pool, source, share), batch_size):
                rainy = [picture for _, picture, _ in batch]
                rainy += rainy[-1:] * (batch_size - len(batch))  # filled up, so that no other size has to be compiled
                for (index, before, clean), result in zip(batch, derain(np.stack(rainy)), strict=False):
                    waiting.append(pool.submit(finish, names[index], before, clean, result))
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


def _ahead(pool: ThreadPoolExecutor, source: PairSource | RainySource, share: Iterable[int]) -> Iterator[Pair]:
    """The pictures of these indices, a few of them loaded in advance."""

    def load(index: int) -> Pair:
        rainy, clean = source.load(index)
        return index, rainy, clean

    waiting: deque[Future[Pair]] = deque()
    for index in share:
        waiting.append(pool.submit(load, index))
        if len(waiting) == _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batches(pairs: Iterable[Pair], batch_size: int) -> Iterator[list[Pair]]:
    """Groups of pictures of equal size; the last group of a size may be smaller."""
    groups: dict[tuple[int, ...], list[Pair]] = {}
    for pair in pairs:
        group = groups.setdefault(pair[1].shape, [])
        group.append(pair)
        if len(group) == batch_size:
            yield groups.pop(pair[1].shape)
    yield from groups.values()
