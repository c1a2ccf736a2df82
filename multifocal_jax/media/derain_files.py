"""De-rains files and folders: planning, processing and a summary."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from multifocal_jax.data.images import find_files
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.metrics import MetricError
from multifocal_jax.files import PARTIAL, OutputError, make_folder, write_whole
from multifocal_jax.media import containers
from multifocal_jax.media.animations import (
    check_animated,
    derain_animation,
    encode_animation,
    first_frame,
    is_animation,
)
from multifocal_jax.media.kinds import PICTURES, Kind, kind_by_suffix, kind_of, why_unknown
from multifocal_jax.media.photographs import (
    check_transparency,
    encode_photograph,
    format_of,
    read_photograph,
    save_picture,
)

Derain = Callable[[np.ndarray], np.ndarray]


class InputError(UserError):
    """There is nothing to de-rain, or inputs conflict with each other."""


@dataclass(frozen=True)
class Job:
    """One file to read and the files to write; `relative` is its path within the input folder."""

    source: Path
    target: Path
    relative: Path
    comparison: Path | None = None  # the picture of before and after, if requested


@dataclass
class Account:
    """The results for all files."""

    done: list[Path] = field(default_factory=list)  # sources
    skipped: list[Path] = field(default_factory=list)  # likewise
    failed: list[str] = field(default_factory=list)  # messages that name the source
    lost: list[str] = field(default_factory=list)  # what the results of videos no longer contain, likewise
    left_out: Counter[str] = field(default_factory=Counter)  # see `plan`
    niqe: list[tuple[float, float]] = field(default_factory=list)  # before and after, if measured

    def summary(self, seconds: float) -> str:
        """The summary at the end of a run."""
        lines = [f"{len(self.done)} de-rained in {seconds:.1f} s"]
        if self.skipped:
            lines[0] += f", {len(self.skipped)} skipped as they exist already (--overwrite replaces them)"
        if self.failed:
            lines[0] += f", {len(self.failed)} failed:"
        lines = ["\n  ".join(lines + self.failed)]
        if self.lost:
            lines.append("\n  ".join(["not kept:", *self.lost]))
        if self.left_out:
            lines.append(f"left out: {_spell(self.left_out)}")
        if self.niqe:
            before, after = np.mean(self.niqe, axis=0)
            lines.append(f"NIQE, lower is better, mean of {len(self.niqe)}: {before:.2f} -> {after:.2f}")
        return "\n".join(lines)


def output_beside(inputs: Sequence[str]) -> str:
    """The default output: `photo-derained.jpg` for photo.jpg, `holiday-derained` for holiday/.

    Raises:
        InputError: there are several inputs, or a pattern.
    """
    if list(inputs) == ["-"]:
        return "-"
    path = Path(inputs[0])
    if len(inputs) > 1 or (glob.has_magic(inputs[0]) and not path.exists()):
        raise InputError("several inputs need a folder to write to: add -o FOLDER")
    path = Path(os.path.normpath(path.absolute())) if path.is_dir() else path
    suffix = "" if path.is_dir() else path.suffix
    return str(path.with_name(f"{path.name.removesuffix(suffix)}-derained{suffix}"))


def _spell(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in left_out.most_common())


def plan(inputs: Sequence[str], output: str, comparisons: Path | None = None) -> tuple[list[Job], Counter[str]]:
    """Match inputs with outputs.

    Args:
        inputs: files, folders (including subfolders) or glob patterns.
        output: a file, if there is a single input file and this has the suffix of a picture or video, or is the result
            of `output_beside`; otherwise a folder, in which the structure of each input folder is kept.
        comparisons: folder for pictures of before and after side by side, as `NAME.jpg`, or with the whole name of the
            picture before the suffix if two pictures differ only in the suffix.

    Returns:
        The jobs, and the number of files in folders that are neither pictures nor videos, by suffix.

    Raises:
        InputError: an input does not exist, a folder is empty, or two files would have the same output.
    """
    target = Path(output)
    outputs = [target, comparisons] if comparisons else [target]
    left_out: Counter[str] = Counter()
    by_source: dict[Path, Path] = {}  # inputs may overlap
    for source, relative in (item for text in inputs for item in _expand(text, outputs, left_out)):
        by_source.setdefault(source, relative)
    found = list(by_source.items())
    alone = len(found) == 1 and len(inputs) == 1 and Path(inputs[0]).is_file()
    known = {*Image.registered_extensions(), *PICTURES, *containers.SUFFIXES, ".ts", found[0][0].suffix.lower()} - {""}
    to_file = alone and not target.is_dir() and (target.suffix.lower() in known or output == output_beside(inputs))
    jobs = [Job(source, target if to_file else target / relative, relative) for source, relative in found]
    if comparisons:
        stems = Counter(job.relative.with_suffix("") for job in jobs)
        for number, job in enumerate(jobs):
            stem = job.relative.with_suffix("")
            name = f"{stem if stems[stem] == 1 else job.relative}.jpg"
            jobs[number] = replace(job, comparison=comparisons / name)
    taken: dict[Path, Path] = {}
    for job in jobs:
        for written in (job.target, job.comparison):
            if written and taken.setdefault(written.resolve(), job.source) != job.source:
                raise InputError(f"{taken[written.resolve()]} and {job.source} would both be written to {written}")
        if job.comparison and job.comparison.resolve() == job.target.resolve():
            raise InputError(f"{job.target} would be both result and comparison; choose another --compare folder")
    return jobs, left_out


def _expand(text: str, outputs: Sequence[Path], left_out: Counter[str]) -> list[tuple[Path, Path]]:
    """The files of an input, each with its path in the output folder; output folders are not searched."""
    path = Path(text)
    if path.is_file():
        return [(path, Path(path.name))]
    if path.is_dir():
        inside = [folder for folder in (output.resolve() for output in outputs) if path.resolve() in folder.parents]
        files = [file for file in find_files(path) if not any(folder in file.resolve().parents for folder in inside)]
        taken = [file for file in files if _is_taken(file)]
        here = Counter(file.suffix.lower() for file in set(files).difference(taken))
        if not taken:
            raise InputError(f"no pictures or videos in {path}" + (f", only {_spell(here)}" if here else ""))
        left_out.update(here)
        return [(file, file.relative_to(path)) for file in taken]
    matches = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) else []
    whole = {Path(match) for match in matches}  # a folder brings what is in it
    matches = [match for match in matches if whole.isdisjoint(Path(match).parents)]
    left_out[PARTIAL] += sum(match.endswith(PARTIAL) for match in matches)
    matches = [match for match in matches if not match.endswith(PARTIAL)]
    if not matches:
        raise InputError(f"{text} does not exist" if not glob.has_magic(text) else f"nothing matches {text}")
    return [item for match in matches for item in _expand(match, outputs, left_out)]


def _is_taken(file: Path) -> bool:
    try:
        return (kind_by_suffix(file) or kind_of(file)) is not None
    except OSError:
        return False


def derain_files(
    derain: Derain,
    jobs: Sequence[Job],
    *,
    overwrite: bool = False,
    niqe: bool = False,
    quiet: bool = False,
    left_out: Counter[str] | None = None,
) -> Account:
    """De-rain files one by one; one that cannot be read or written is reported, and the others are processed.

    Args:
        derain: a `Derainer`.
        jobs: from `plan`.
        overwrite: replace existing outputs; otherwise they are kept.
        niqe: measure NIQE before and after; for animations of the first frame, not for videos.
        quiet: no progress, and no messages but of files that failed.
        left_out: from `plan`, for the summary.
    """
    from tqdm import tqdm

    account = Account(left_out=+Counter(left_out or {}))
    with tqdm(jobs, unit="file", disable=quiet or len(jobs) == 1, dynamic_ncols=True) as bar:
        for job in bar:
            bar.set_postfix_str(str(job.relative), refresh=True)
            if job.target.exists() and not overwrite:
                account.skipped.append(job.source)
                continue
            try:
                check_folder(job.target)
                if known_kind(job.source) == "video":
                    if lost := _derain_video(derain, job, progress=not quiet):
                        account.lost.append(f"{job.source}: {', '.join(lost)}")
                else:
                    both = _derain_picture(derain, job, progress=not quiet)
                    measured = _measure(account, *both) if niqe else ""
                    if measured and not quiet:
                        bar.write(f"{job.source}: NIQE {measured}", file=sys.stderr)
                account.done.append(job.source)
            except (UserError, OSError) as error:
                account.failed.append(f"{job.source}: {error}" if str(job.source) not in str(error) else str(error))
                if quiet or len(jobs) > 1:  # of one, the summary says the same
                    bar.write(f"failed: {account.failed[-1]}", file=sys.stderr)
    return account


def known_kind(path: Path) -> Kind:
    """The kind of a file to de-rain, by its contents or its suffix.

    Raises:
        InputError: it is neither picture nor video, or a camera's raw file or left by a killed run.
    """
    kind = kind_of(path) or kind_by_suffix(path)
    if kind is None:
        raise InputError(f"{path} {why_unknown(path)}")
    return kind


def check_folder(target: Path) -> None:
    """Raise OutputError if a file cannot be written: before long work, and without creating its folder."""
    make_folder(next(folder for folder in target.absolute().parents if folder.exists()))


def derain_bytes(derain: Derain, data: bytes, name: str, kind: str = "") -> bytes:
    """Like `derain_contents`, without the pictures and without progress."""
    return derain_contents(derain, data, name, kind)[0]


def derain_contents(
    derain: Derain, data: bytes, name: str, kind: str = "", target: str = "", *, progress: bool = False
) -> tuple[bytes, np.ndarray, np.ndarray]:
    """De-rain the contents of a picture file.

    Args:
        derain: a `Derainer`.
        data: the file's contents.
        name: what errors call the file.
        kind: Pillow's name of the format to write; empty keeps the file's.
        target: what errors call the file to write; empty means `name`.
        progress: whether animations show a bar on stderr.

    Returns:
        The file to write, and the (first) picture before and after, (H, W, 3) uint8 or uint16 RGB.

    Raises:
        PhotographError: see `read_photograph` and `derain_animation`.
        OutputError: see `encode_photograph` and `encode_animation`; where the format cannot hold an animation or
            transparency, before anything is computed.
    """
    target = target or name
    if is_animation(data):
        if kind:
            check_animated(kind, target)
        animation = derain_animation(derain, data, name, progress=progress)
        contents = encode_animation(animation, kind or animation.format, target)
        return contents, first_frame(data), animation.frames[0][..., :3]
    before = read_photograph(data, name)
    kind = kind or before.format
    check_transparency(before, kind, target)
    after = replace(before, pixels=derain(before.pixels))
    return encode_photograph(after, kind, target), before.pixels, after.pixels


def _measure(account: Account, before: np.ndarray, after: np.ndarray) -> str:
    """NIQE of 8 or 16-bit pictures in words, also recorded in the account."""
    from multifocal_jax.evaluation.niqe import niqe

    sides = [side if side.dtype == np.uint8 else (side >> 8).astype(np.uint8) for side in (before, after)]
    try:
        values = niqe(sides[0]), niqe(sides[1])
    except MetricError as error:
        return f"not measured: {error}"
    account.niqe.append(values)
    return f"{values[0]:.2f} -> {values[1]:.2f}"


def _derain_video(derain: Derain, job: Job, progress: bool) -> list[str]:
    """De-rain a video file; returns what the result no longer contains."""
    try:
        from multifocal_jax.media.video import derain_video
    except ModuleNotFoundError as error:
        raise InputError(
            f"{job.source}: videos need PyAV ({error}); install it with: pip install av (the extra `video`)"
        ) from None
    return derain_video(derain, job.source, job.target, progress=progress)


def _derain_picture(derain: Derain, job: Job, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """De-rain a picture file; returns the picture before and after."""
    data = job.source.read_bytes()
    kind = "" if job.target.suffix.lower() == job.source.suffix.lower() else format_of(job.target)
    contents, before, after = derain_contents(derain, data, str(job.source), kind, str(job.target), progress=progress)
    make_folder(job.target.parent)
    write_whole(job.target, lambda file: file.write(contents))
    if job.comparison:
        save_picture(np.concatenate([before, after], axis=1), job.comparison)
    return before, after


def check_overwriting(jobs: Sequence[Job], overwrite: bool) -> None:
    """Refuse a single output that exists, outputs that are their own inputs, and comparisons that exist.

    Raises:
        OutputError: without `overwrite`, a file would be lost; with it, a comparison would replace a picture.
    """
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.comparison and job.comparison.resolve() in sources:
            raise OutputError(f"{job.comparison} is a picture to de-rain; choose another --compare folder")
    if overwrite:
        return
    if len(jobs) == 1 and jobs[0].target.exists():
        raise OutputError(f"{jobs[0].target} exists; choose another output, or add --overwrite")
    for job in jobs:
        if job.target.resolve() == job.source.resolve():
            raise OutputError(f"{job.source} would be replaced; choose another output folder, or add --overwrite")
        if job.comparison and job.comparison.exists() and not job.target.exists():
            raise OutputError(f"{job.comparison} exists; choose another --compare folder, or add --overwrite")
