"""Convert weights between PyTorch and JAX.

SOURCE is a .pth, .pt or .safetensors file, the workdir of a training, or the
name of packaged weights. The name of DESTINATION determines the format:
.safetensors is the project's, .pth is PyTorch's, and a name without suffix
creates a folder that can be used as a workdir. Exit status: 0 done, 1 the
frameworks differ, 2 wrong arguments or files.

examples, of which docs/interop.md shows more:
  multifocal convert weights.pth weights.safetensors
  multifocal convert weights.safetensors weights.pth --dtype float16
  multifocal convert foreign.pth --inspect --write-names names.txt
  multifocal convert foreign.pth weights.safetensors --names names.txt --verify
"""

import argparse
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multifocal_jax.interop.workflow import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="SOURCE", help="weights to read")
    parser.add_argument("destination", metavar="DESTINATION", nargs="?", help="weights to write")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument("--dtype", choices=("float16", "float32"), help="type of the tensors written; default: as read")
    add_reading(parser)
    verify = "run both frameworks and compare them block by block"
    add_verifying(parser).add_argument("--verify", action="store_true", help=verify)
    add = parser.add_argument_group("foreign names").add_argument
    add("--inspect", action="store_true", help="list the tensors next to ours, propose --names")
    add("--write-names", metavar="FILE", help="write the names that --inspect proposes")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the arguments about other code bases, and what runs the command."""
    add = parser.add_argument_group("reading PyTorch checkpoints, or writing those of another code base").add_argument
    add("--names", metavar="FILE", help="maps another code base's names to ours, or ours to its")
    add("--key", metavar="ENTRY", help="entry that holds the tensors, if the file has several")
    model = "architecture that the tensors do not show, e.g. --model heads=8 --model pyramid=gaussian"
    add("--model", metavar="FIELD=VALUE", type=_field, action="append", default=[], help=model)
    orders = ("LL,LH,HL,HH", "LL,HL,LH,HH")
    add("--band-order", choices=orders, default=orders[0], help="order of the wavelet bands in the trained network")
    parser.set_defaults(run=_convert)


def add_verifying(parser: argparse.ArgumentParser) -> Any:
    """Add the arguments about comparing with PyTorch; returns their group."""
    verifying = parser.add_argument_group("verifying")
    verifying.add_argument("--image", metavar="FILE", help="photograph to verify on; default: scikit-image's")
    verifying.add_argument("--torch-module", metavar="FILE.py:CLASS", help="verify against your own network")
    verifying.add_argument("--torch-args", metavar="JSON", type=_arguments, default={}, help="constructor arguments")
    verifying.add_argument("--trace", action="store_true", help="find the first block in which your network differs")
    return verifying


def _convert(arguments: argparse.Namespace) -> int:
    from multifocal_jax.interop.workflow import Request

    asked = {name: value for name, value in vars(arguments).items() if name in Request.__dataclass_fields__}
    return 0 if convert(Request(**asked), print) else 1


def convert(request: "Request", show: Callable[[str], None]) -> bool:
    """`multifocal_jax.interop.workflow.run`, with the request's fields called by their flags."""
    from multifocal_jax.interop.errors import ConversionError
    from multifocal_jax.interop.workflow import run

    named = re.compile(rf"`({'|'.join(request.__dataclass_fields__)})( [^`]*)?`")

    def spelled(text: str) -> str:
        return named.sub(lambda found: f"--{found[1].replace('_', '-')}{found[2] or ''}", text)

    try:
        return run(request, lambda line: show(spelled(line)))
    except ConversionError as error:
        raise ConversionError(spelled(str(error))) from error


def _field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    return name, value


def _arguments(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"""{text!r} is not a JSON object such as '{{"channels": 64}}'""")
    return value
