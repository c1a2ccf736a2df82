"""Compares what the paper leaves open in short trainings of equal budget: python -m benchmarks.choices OUT.

Every run trains the demo's network, or a variant, on the embedded photographs for the same number of steps and pixels,
and scores the demo's two test photographs. Most take about a minute on two idle cores; a finished run is stored in OUT
as JSON and not repeated, so the command may be stopped and restarted at any time. It prints the table of
docs/reconstruction.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multifocal_jax.cli.flags import exit_on_user_error
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import load_config
from multifocal_jax.files import write_text

STEPS = 300
BASE = {"train.steps": STEPS, "train.batch_size": 4, "train.tensorboard": False, "train.checkpoint_every": STEPS}

# Title, and fields of the config that differ. All runs see equally many pixels.
CHOICES: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("default", {}),
    "residual1": ("1 residual block per module and level", {"model.residual_blocks": 1}),
    "residual2": ("2 residual blocks", {"model.residual_blocks": 2}),
    "modules3": ("3 modules instead of 2", {"model.modules": 3}),
    "modules4": ("4 modules", {"model.modules": 4}),
    "modules8": ("8 modules", {"model.modules": 8}),
    "modules8_residual2": ("8 modules with 2 residual blocks", {"model.modules": 8, "model.residual_blocks": 2}),
    "softmax_query": ("channel softmax over the query's channels", {"model.channel_softmax": "query"}),
    "no_value_projection": ("V not projected", {"model.value_projection": False}),
    "projection3": ("Q, K, V by 3×3 convs", {"model.projection_kernel": 3}),
    "no_global_skip": ("no global skip", {"model.global_skip": False}),
    "rate_quarter": ("learning rate 5e-4", {"train.learning_rate": 5e-4}),
    "rate_half": ("learning rate 1e-3", {"train.learning_rate": 1e-3}),
    "rate_double": ("learning rate 4e-3", {"train.learning_rate": 4e-3}),
    "crop32": ("16 crops of 32×32", {"data.crop_size": 32, "train.batch_size": 16}),
    "crop128": ("1 crop of 128×128", {"data.crop_size": 128, "train.batch_size": 1}),
    "charbonnier": ("Charbonnier loss", {"train.loss": "charbonnier"}),
    "frequency": ("with 0.05 × L1 of the Fourier transform", {"train.frequency_weight": 0.05}),
    "ema": ("mean of the weights, decay 0.99", {"train.ema_decay": 0.99}),
}


def configure(choice: str, seed: int) -> ExperimentConfig:
    return load_config("demo", BASE | CHOICES[choice][1] | {"train.seed": seed, "name": f"{choice}-{seed}"})


def run(config: ExperimentConfig) -> dict[str, Any]:
    import jax

    from multifocal_jax.data.sources import open_source
    from multifocal_jax.evaluation.inference import Derainer
    from multifocal_jax.evaluation.scoring import evaluate
    from multifocal_jax.training.loop import train
    from multifocal_jax.weights import load_weights

    with tempfile.TemporaryDirectory() as workdir:
        result = train(config, workdir, quiet=True)
        assert result.weights is not None
        weights = load_weights(result.weights)
    derainer = Derainer(weights.params, weights.model)
    pairs = open_source(config.data.test, config.data.root)
    mean = evaluate(derainer, pairs).mean("result")
    parameters = sum(leaf.size for leaf in jax.tree.leaves(weights.params))
    return {"psnr": mean.psnr, "ssim": mean.ssim, "parameters": parameters}


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown; `results` holds the finished runs of each choice."""
    lines = [
        "| what changed | parameters | PSNR in dB, mean | lowest to highest | SSIM | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for choice, (title, _) in CHOICES.items():
        runs = results.get(choice, [])
        if not runs:
            lines.append(f"| {title} | | not run | | | 0 |")
            continue
        psnr = [entry["psnr"] for entry in runs]
        cells = [
            title,
            f"{runs[0]['parameters']:,}",
            f"{statistics.mean(psnr):.2f}",
            f"{min(psnr):.2f} to {max(psnr):.2f}",
            f"{statistics.mean(entry['ssim'] for entry in runs):.4f}",
            str(len(runs)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def finished(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        choice: [json.loads(path.read_text()) for path in sorted(folder.glob(f"{choice}-*.json"))] for choice in CHOICES
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("output", type=Path, metavar="OUT", help="folder of the finished runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=list(CHOICES), default=list(CHOICES), metavar="CHOICE")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for choice in () if arguments.table else arguments.only:
        for seed in arguments.seeds:
            file = arguments.output / f"{choice}-{seed}.json"
            if not file.exists():
                entry = run(configure(choice, seed))
                write_text(file, json.dumps(entry))
                print(f"{choice}, seed {seed}: {entry['psnr']:.2f} dB", file=sys.stderr)
    print(table(finished(arguments.output)))
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
