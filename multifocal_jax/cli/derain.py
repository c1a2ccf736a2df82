"""De-rain pictures, folders of pictures, and videos.

Format, quality, bit depth, transparency and metadata are kept; a picture that
its camera marked as rotated is written upright. Videos need the extra `video`.
Exit status: 0 all done, 1 some files failed, 2 wrong usage.

examples:
  derain photo.jpg                # makes photo-derained.jpg
  derain photo.jpg -o clean.jpg
  derain holiday/ -o clean/       # a folder and its subfolders
  derain 'holiday/**/*.png' -o out
  cat photo.png | derain - > clean.png
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from multifocal_jax.cli.flags import Listing
from multifocal_jax.config import Precision

if TYPE_CHECKING:
    import numpy as np

    from multifocal_jax.media.derain_files import Derain


def _derain(arguments: argparse.Namespace) -> int:
    from multifocal_jax.media.derain_files import check_overwriting, derain_files, output_beside, plan

    beside = arguments.output is None
    if beside:
        arguments.output = output_beside(arguments.inputs)
    if "-" in arguments.inputs or arguments.output == "-":
        return _pipe(arguments)
    jobs, left_out = plan(arguments.inputs, arguments.output, arguments.compare)
    check_overwriting(jobs, arguments.overwrite)
    derainer = _load(arguments)
    begin = time.perf_counter()
    options = {name: getattr(arguments, name) for name in ("overwrite", "niqe", "quiet")}
    account = derain_files(derainer, jobs, left_out=left_out, **options)
    if not arguments.quiet:
        print(account.summary(time.perf_counter() - begin), file=sys.stderr)
        if beside and not account.failed:
            print(f"written to {arguments.output}", file=sys.stderr)
    return 1 if account.failed else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="pictures, videos, folders, patterns, or - for stdin")
    add("-o", "--output", help="file, folder, or - for stdout; default: next to the input, with -derained in the name")
    add("--weights", metavar="NAME", help="file, workdir of a training, or name of packaged weights")
    add("--list-weights", action=Listing, lines=_weights, help="list the packaged weights and exit")
    add("--overwrite", action="store_true", help="replace existing outputs")
    add("--compare", type=Path, metavar="DIR", help="also write before and after side by side into DIR")
    told = parser.add_mutually_exclusive_group().add_argument
    told("--niqe", action="store_true", help="print the NIQE of pictures before and after; lower is better")
    sizes = "side of the tiles, 0 for none; default: none if the picture fits into memory, else 2048, 1024 or 512"
    add("--tile", type=int, metavar="PIXELS", help=sizes)
    add("--overlap", type=int, default=32, metavar="PIXELS", help="overlap of the tiles; default: 32")
    add("--ensemble", action="store_true", help="average over 8 flips and rotations")
    strength = "how much of the rain to remove, 0 to 1.5; default: 1, what the network finds"
    add("--strength", type=float, default=1.0, metavar="S", help=strength)
    add("--precision", choices=get_args(Precision), default="float32", help="of the computation; default: float32")
    add("--devices", type=int, default=1, metavar="N", help="split every picture over N devices")
    told("--quiet", action="store_true", help="print errors only")
    parser.set_defaults(run=_derain)


def _weights() -> str:
    from multifocal_jax.weights_lookup import list_weights

    return "\n\n".join(map(str, list_weights()))


def _load(arguments: argparse.Namespace) -> "Derain":
    """Load the de-rainer; its errors name the option that helps."""
    from multifocal_jax.cli.cache import keep_programs
    from multifocal_jax.cli.progress import Display
    from multifocal_jax.evaluation.inference import InferenceError, TooLargeError, load
    from multifocal_jax.weights_lookup import DEFAULT_NAME

    keep_programs()
    names = ("precision", "tile", "overlap", "ensemble", "strength", "devices")
    options = {name: getattr(arguments, name) for name in names}
    progress = None if arguments.quiet else Display()
    derainer = load(arguments.weights or DEFAULT_NAME, progress=progress, **options)

    def derain(image: "np.ndarray") -> "np.ndarray":
        try:
            return derainer(image)
        except TooLargeError as error:
            raise InferenceError(error.advice("--tile ")) from None

    return derain


def _pipe(arguments: argparse.Namespace) -> int:
    """De-rain one picture from stdin or to stdout."""
    from multifocal_jax.errors import UserError
    from multifocal_jax.files import OutputError, make_folder, write_whole
    from multifocal_jax.media.derain_files import InputError, check_folder, derain_bytes, known_kind
    from multifocal_jax.media.photographs import format_of

    if len(arguments.inputs) > 1:
        raise InputError("a pipe takes one picture; name one input, or write to a folder")
    if arguments.compare or arguments.niqe:
        raise InputError("--compare and --niqe do not go with a pipe; name a file to read and one to write")
    source, target = arguments.inputs[0], Path(arguments.output)
    if source != "-" and not Path(source).is_file():
        raise InputError(f"{source} is not a file")
    to_pipe = arguments.output == "-"
    if not to_pipe and target.exists() and not arguments.overwrite:
        raise OutputError(f"{target} exists; choose another output, or add --overwrite")
    kind = "" if to_pipe else format_of(target)
    derainer = _load(arguments)
    try:
        if source != "-" and known_kind(Path(source)) == "video":
            raise InputError(f"{source} is a video, and a pipe takes one picture; name a file to write")
        if not to_pipe:
            check_folder(target)
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        result = derain_bytes(derainer, data, "stdin" if source == "-" else source, kind)
        if not to_pipe:
            make_folder(target.parent)
            write_whole(target, lambda file: file.write(result))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if to_pipe:
        sys.stdout.buffer.write(result)
    return 0
