"""Export weights to StableHLO or ONNX.

OUT.onnx takes (B, 3, H, W) of any size, OUT.stablehlo (B, H, W, 3) in
multiples of 8 pixels; float32 in [0, 1]. Both are compared with the network
before they are written. docs/export.md shows how to load them.

examples:
  multifocal export general-small network.onnx
  multifocal export runs/mine network.stablehlo --batch 1 --size 480x320
"""

import argparse
from pathlib import Path

from multifocal_jax.cli.flags import at_least, height_and_width


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("weights", help="file, workdir of a training, or name of packaged weights")
    parser.add_argument("output", type=Path, metavar="OUT", help="file to write: .stablehlo or .onnx")
    parser.add_argument("--size", type=height_and_width, metavar="WxH", help="fix the size, e.g. 480x320; default: any")
    parser.add_argument("--batch", type=at_least(1), metavar="N", help="fix the number of pictures; default: any")
    parser.add_argument("--platforms", default="cpu,cuda,tpu", help="for .stablehlo, default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    from multifocal_jax.interop.export import KNOWN_PLATFORMS, ExportError, export_onnx, export_stablehlo
    from multifocal_jax.weights import load_weights
    from multifocal_jax.weights_lookup import find_weights

    output: Path = arguments.output
    if output.suffix not in (".stablehlo", ".onnx"):
        raise ExportError(f"{output}: cannot write {output.suffix or 'a file without suffix'}; use .stablehlo or .onnx")
    if output.exists() and not arguments.overwrite:
        raise ExportError(f"{output} exists; --overwrite replaces it")
    if not output.absolute().parent.is_dir():
        raise ExportError(f"{output}: folder {output.parent} does not exist")
    weights = load_weights(find_weights(arguments.weights))
    if output.suffix == ".onnx":
        export_onnx(output, weights, batch=arguments.batch, size=arguments.size)
    else:
        platforms = arguments.platforms.split(",")
        if unknown := [name for name in platforms if name not in KNOWN_PLATFORMS]:
            raise ExportError(f"platform {', '.join(unknown)} is unknown; known: {', '.join(KNOWN_PLATFORMS)}")
        export_stablehlo(output, weights, batch=arguments.batch, size=arguments.size, platforms=platforms)
    print(f"wrote {output}, {output.stat().st_size / 1e6:.1f} MB, checked against the network")
    return 0
