"""Check, prepare, recombine and time data sets.

examples:
  multifocal data check /data/mine
  multifocal data check data/rain800 --against data/rain100l
  multifocal data prepare rain200h --root archives/ --data-dir data/tfds
  multifocal data recombine data/rain100l data/more --held-out 20
  multifocal data bench data/rain100l
"""

import argparse
import json
import os
import typing
from dataclasses import asdict
from pathlib import Path

from multifocal_jax.cli.flags import at_least, duration
from multifocal_jax.config import DataConfig, Dataset, SourceConfig
from multifocal_jax.data.published import PUBLISHED
from multifocal_jax.paths import as_path

FAULTY = 1  # exit status of `check` if it finds faults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="look for faults in a set, and for overlap with another")
    check.add_argument("root", metavar="ROOT", help="folder of a set, of pairs or of photographs, or a list file")
    check.add_argument("--against", default="", metavar="OTHER", help="a set to compare the backgrounds with")
    kinds = [*PUBLISHED, "folder", "clean"]
    check.add_argument("--dataset", default="", choices=kinds, help="kind of ROOT; default: by name and layout")
    check.add_argument("--against-dataset", default="", choices=kinds, help="kind of OTHER")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_argument("--limit", type=at_least(0), default=20, metavar="N", help="faults of each kind to print (20)")
    check.set_defaults(run=_check)

    prepare = commands.add_parser("prepare", help="build a published set as TFDS files (array_record)")
    prepare.add_argument("name", metavar="NAME", choices=list(PUBLISHED), help=", ".join(PUBLISHED))
    prepare.add_argument("--root", required=True, metavar="RAW", help="folder with the set's unpacked archives")
    prepare.add_argument("--data-dir", required=True, metavar="OUT", help="folder of prepared sets")
    prepare.add_argument("--any-size", action="store_true", help="accept other numbers of pairs, or a single split")
    prepare.set_defaults(run=_prepare)

    pairs = "make more pairs: the rain of one over the clean side of another, where rain was added as a grey layer"
    recombine = commands.add_parser("recombine", help=pairs)
    recombine.add_argument("root", metavar="ROOT", help="folder of a set of pairs, or a list file")
    recombine.add_argument("output", type=Path, metavar="OUT", help="folder to write rain/ and norain/ to")
    copies = "pairs for every clean side (%(default)s)"
    recombine.add_argument("--copies", type=at_least(1), default=5, metavar="N", help=copies)
    left_out = "use none of the N pairs that held_out=N of their source holds out"
    recombine.add_argument("--held-out", type=at_least(0), default=0, metavar="N", help=left_out)
    kinds = [*PUBLISHED, "folder"]
    recombine.add_argument("--dataset", default="", choices=kinds, help="kind of ROOT; default: by name and layout")
    recombine.add_argument("--seed", type=at_least(0), default=0, help="of the choice of rain (%(default)s)")
    recombine.set_defaults(run=_recombine)

    bench = commands.add_parser("bench", help="measure how fast training batches are made")
    bench.add_argument("root", nargs="?", default="", metavar="ROOT", help="folder of the set; default: the demo")
    kinds = [kind for kind in typing.get_args(Dataset) if kind != "rainy"]  # which nothing can be trained on
    bench.add_argument("--dataset", default="", choices=kinds, help="kind of ROOT")
    bench.add_argument("--reader", default="folder", choices=("folder", "tfds"))
    bench.add_argument("--rain", default="", help="synthesise rain of this style")
    modes = ["device", "memory", "stream"]
    bench.add_argument("--modes", nargs="+", default=modes, choices=modes)
    bench.add_argument("--batch-size", type=at_least(1), default=4, metavar="N")
    bench.add_argument("--crop-size", type=at_least(1), default=128, metavar="PIXELS")
    workers = "processes that decode; 0 uses threads"
    bench.add_argument("--workers", type=at_least(0), default=0, metavar="N", help=workers)
    bench.add_argument("--seconds", type=duration, default=5, metavar="S", help="duration of each measurement")
    length = "length of a step"
    bench.add_argument("--steps", type=duration, nargs="+", default=[10, 30, 100], metavar="MS", help=length)
    bench.add_argument("--json", action="store_true", help="print JSON")
    bench.set_defaults(run=_bench)


def _check(options: argparse.Namespace) -> int:
    from multifocal_jax.data.check import check

    report = check(options.root, options.dataset, options.against, options.against_dataset)
    print(json.dumps(report.to_json(), indent=2) if options.json else report.text(options.limit))
    return FAULTY if report.faults else 0


def _prepare(options: argparse.Namespace) -> int:
    from multifocal_jax.data.builders import prepare

    sizes = prepare(options.name, options.root, options.data_dir, options.any_size)
    built = ", ".join(f"{size:,} {split}" for split, size in sizes.items())
    print(f"{options.name}: {built} pairs prepared in {options.data_dir}")
    print(
        f"read them with SourceConfig(dataset={options.name!r}, reader='tfds', "
        f"root={os.path.abspath(options.data_dir)!r})"
    )
    return 0


def _recombine(options: argparse.Namespace) -> int:
    from multifocal_jax.data.check import recognise
    from multifocal_jax.data.recombine import recombine

    kind = options.dataset or recognise(as_path(options.root))
    source = SourceConfig(dataset="folder" if kind == "clean" else kind, root=options.root)  # "clean": no pairs found
    written = recombine(source, options.output, options.copies, options.held_out, options.seed)
    print(f"{written:,} pairs written to {options.output}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    import jax

    from multifocal_jax.data.bench import decoder_speed, measure
    from multifocal_jax.data.check import recognise
    from multifocal_jax.data.pipeline import TrainingData
    from multifocal_jax.data.sources import PhotographFiles, open_photographs

    dataset: Dataset = options.dataset or (recognise(as_path(options.root)) if options.root else "demo")
    rain = options.rain or ("heavy" if dataset in ("demo", "clean") else "none")
    source = SourceConfig(dataset=dataset, root=options.root, reader=options.reader, rain=rain)
    pictures = open_photographs(source)
    load = pictures.load_clean if rain != "none" or isinstance(pictures, PhotographFiles) else pictures.load
    decoder = decoder_speed(load, len(pictures), options.seconds)
    steps = tuple(step / 1000 for step in options.steps)
    speeds = []
    for mode in options.modes:
        config = DataConfig(train=(source,), crop_size=options.crop_size, mode=mode, workers=options.workers)
        speeds.append(measure(TrainingData(config, options.batch_size, seed=0), options.seconds, steps))
    device = jax.devices()[0]
    where = f"{os.cpu_count()} cores, {device.device_kind} ({device.platform})"
    if options.json:
        modes = [asdict(speed) for speed in speeds]
        print(json.dumps({"machine": where, "decoder": decoder, "modes": modes}, indent=2))
        return 0
    crops = f"batches of {options.batch_size} crops of {options.crop_size}"
    print(f"{dataset}: {len(pictures):,} pictures, {crops}; {where}")
    print(f"Pillow decodes {decoder:,.0f} whole {'pairs' if rain == 'none' else 'pictures'} per second")
    waits = "".join(f" | waiting, step of {1000 * step:g} ms" for step in steps)
    print(f"| mode | pairs/s from the host | pairs/s on the device{waits} |")
    print("|" + "---|" * (3 + len(steps)))
    for speed in speeds:
        shares = "".join(f" | {share:.2%}" for share in speed.waiting.values())
        print(f"| {speed.mode} | {speed.host:,.0f} | {speed.prepared:,.0f}{shares} |")
    return 0
