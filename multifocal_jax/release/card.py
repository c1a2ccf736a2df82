"""The model card of packaged weights: what they are, how they were trained, and where they do well or badly."""

import datetime
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from multifocal_jax.evaluation.inference import Derainer, load
from multifocal_jax.evaluation.metrics import UNCHANGED, score
from multifocal_jax.evaluation.panels import side_by_side
from multifocal_jax.files import write_text, write_whole
from multifocal_jax.release.plot import plot_curve
from multifocal_jax.release.purposes import FAULTS, Purpose, purpose_of
from multifocal_jax.weights import Description, WeightsError, describe_weights, file_checksum
from multifocal_jax.weights_lookup import DEFAULT_NAME

_SIDE = 288  # pixels of the parts of photographs that are shown
_NO_RAIN = "without-rain"
_QUALITY = 88  # of the JPEG files


class _Example(NamedTuple):
    """One photograph before and after, with the PSNR of input and result in dB."""

    photograph: str
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray]  # input, result, ground truth
    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.after - self.before


def write_card(weights: Path, folder: Path) -> Path:
    """Write `folder/NAME.md`, and its plot and pictures into `folder/NAME/`.

    Everything comes from the weights file, which `pack` has written, except pictures and times, which are made here.

    Raises:
        WeightsError: the file was not written by `pack`.
    """
    about = describe_weights(weights)
    name = about.record.get("name", "")
    purpose = purpose_of(name)
    if purpose is None or "scores" not in about.record:
        raise WeightsError(f"{weights} was not packed; do that by: multifocal release pack WORKDIR --config CONFIG")
    pictures = folder / name
    pictures.mkdir(parents=True, exist_ok=True)
    derainer = load(weights)
    curve = plot_curve(about.record["curve"], "training step", _loss_name(about.record["config"]["train"]))
    write_text(pictures / "curve.svg", curve)
    shown = _write_examples(derainer, pictures, "demo" in name)
    limits = "\n".join(f"- {line}" for line in (*purpose.unfit, *FAULTS.get(name, ())))
    head, origin = _head(about, purpose, weights), _origin(about.record, purpose)
    parts = [head, origin, _scores(about.record), _speed(derainer), shown, f"## Limits\n{limits}"]
    write_text(folder / f"{name}.md", "\n\n".join(parts) + "\n")
    return folder / f"{name}.md"


def _head(about: Description, purpose: Purpose, weights: Path) -> str:
    record, model, name = about.record, about.model, about.record["name"]
    default = " `load()` and `derain` use them by default." if name == DEFAULT_NAME else ""
    small = (
        f" The network is smaller than the paper's and was trained on a CPU with a fraction of the paper's budget; "
        f"`{name.removesuffix('-small')}` is reserved for the full one."
        if name.endswith("-small")
        else ""
    )
    version = f"{record.get('release', 1)}, SHA-256 `{file_checksum(weights)}`, as reports name it"
    if "replaces" in record:
        version += "; replaces version {release}, `{sha256}`".format(**record["replaces"])
    return f"""# Weights `{name}`

For {record["purpose"]}.{default}{small} Written by `multifocal release card {name}`.

| | |
|---|---|
| version | {version} |
| network | channels: {model.channels}, modules: {model.modules}, heads: {model.heads}, levels: {model.levels}, \
residual blocks per module and level: {model.residual_blocks} |
| parameters | {about.parameters:,}, in float16: {about.size / 1e6:.2f} MB |
| cost of rounding to float16 | {record["float16_loss_db"]:z.4f} dB |
| trained on | {record["data"]} |
| licence | {purpose.licence} |"""


def _origin(record: dict[str, Any], purpose: Purpose) -> str:
    train, data, stages = record["config"]["train"], record["config"]["data"], record["stages"]
    sources = "\n".join(f"- {line}" for line in purpose.sources)
    words = [f"python train.py --config {record['config_file']} --workdir runs/{record['name']}"]
    if any(source["root"] for source in data["train"]):
        words.append("--config.data.root=DIR")
    if len(stages) > 1:
        words.append("--config.train.init_weights=WORKDIR_BEFORE")
    command = " \\\n    ".join([*words, *record["overrides"]])
    last = "The last training: batches" if len(stages) > 1 else "Batches"
    note, average = "", ""
    if averaged := record.get("averaged"):
        note = f" Packed is the mean of the last training's parameters and those of {', '.join(averaged)}."
        average = " --average" + " WEIGHTS" * len(averaged)
    note += f" {record['note']}" if record["note"] else ""
    return f"""## Data
{sources}

## Training
{_crops(record)}, {record["date"]}.{note}

| trained as | steps | crops | highest learning rate | seed | commit |
|---|---|---|---|---|---|
{_stage_rows(stages)}

{last} of {train["batch_size"]}, crops of {data["crop_size"]}×{data["crop_size"]}.

```
{command}
multifocal release pack runs/{record["name"]} --config {record["config_file"]}{average}
```

{_curve_note(record)}

![Training loss of the last training]({record["name"]}/curve.svg)

{_curve_table(record["curve"])}"""


def _crops(record: dict[str, Any]) -> str:
    """How many crops there were, and how many of 64×64 have as many pixels, if that is known and differs."""
    crops, stages = f"{record['images']:,} crops in all", record["stages"]
    if not all("crop_size" in stage for stage in stages):
        return crops
    equal = sum(stage["images"] * stage["crop_size"] ** 2 for stage in stages) // 64**2
    return crops if equal == record["images"] else f"{crops}, as many pixels as {equal:,} of 64×64"


def _stage_rows(stages: list[dict[str, Any]]) -> str:
    def planned(steps: int, plan: int | str) -> str:
        return "" if plan == steps else f" of {plan:,}" if isinstance(plan, int) else f", planned: {plan}"

    def size(stage: dict[str, Any]) -> str:  # unknown of earlier releases' stages
        return f" of {crop}×{crop}" if (crop := stage.get("crop_size")) else ""

    return "\n".join(
        f"| {stage['experiment']} | {stage['step']:,}{planned(stage['step'], stage['planned'])} "
        f"| {stage['images']:,}{size(stage)} | {stage['learning_rate']} | {stage['seed']} "
        + f"| `{(stage['commit'] or 'unknown')[:7]}` |"
        for stage in stages
    )


def _loss_name(train: dict[str, Any]) -> str:
    names = {
        "mae": "mean absolute error",
        "psnr": "−PSNR in dB",
        "psnr_ssim": "−PSNR + 10 log₁₀(1 − SSIM) in dB",
        "rmse": "root mean square error",
    }
    name = names.get(train["loss"], str(train["loss"]))
    weight = train["frequency_weight"]
    return f"{name} + {weight:g} × spectrum's" if weight else name


def _curve_note(record: dict[str, Any]) -> str:
    note = "The loss; lower is better. Every point is the mean over some steps, each with crops of its own."
    if len(record["stages"]) > 1:
        note += " This training started from trained weights; over few steps crops differ more than the loss falls."
    return note


def _curve_table(curve: list[tuple[int, float]]) -> str:
    chosen = [curve[round(place * (len(curve) - 1) / 7)] for place in range(8)] if len(curve) > 8 else curve
    steps = " | ".join(f"{step:,}" for step, _ in chosen)
    losses = " | ".join(f"{loss:.4f}" for _, loss in chosen)
    return f"| step | {steps} |\n|{'---|' * (len(chosen) + 1)}\n| loss | {losses} |"


def _scores(record: dict[str, Any]) -> str:
    chosen = ""
    if record["config"]["train"]["eval_every"]:
        chosen = " The weights are those of the training that scored best on some of these, a small advantage."
    lines = [
        "## Scores on pictures that were not trained on",
        'PSNR in dB and SSIM in the two families of the literature, see docs/metrics.md; "rgb" scores the colours. '
        "A picture without rain that comes out unchanged counts as 100 dB." + chosen,
        "",
        "| pictures | | rainy, `uint8` | result, `uint8` | rainy, `double` | result, `double` | result, rgb |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in record["scores"]:
        before, after = row["input"], row["result"]
        columns = (before, "uint8"), (after, "uint8"), (before, "double"), (after, "double"), (after, "rgb")
        cells = ["{:.2f} / {:.4f}".format(*figures[family]) if figures else "–" for figures, family in columns]
        lines.append(f"| {row['title']} | {row['pictures']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _speed(derainer: Derainer) -> str:
    import jax

    picture = np.zeros((321, 481, 3), np.uint8)
    derainer(picture)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        derainer(picture)
        times.append(time.perf_counter() - begin)
    on_cpu = jax.default_backend() == "cpu"
    here = f"{min(times):.2f} s, {datetime.date.today()}, "
    here += f"{os.cpu_count()} cores" if on_cpu else jax.devices()[0].device_kind
    cpu, gpu = (here, "not measured") if on_cpu else ("not measured", here)
    return f"""## Time
| picture of 481×321, float32, compiled before | |
|---|---|
| CPU | {cpu} |
| GPU | {gpu} |

docs/performance.md has times that were measured in turn with PyTorch's."""


def _examples(derainer: Derainer) -> dict[str, list[_Example]]:
    """Every photograph under every style of rain, and without rain; per style, the largest gain first."""
    from multifocal_jax.data.demo import shown_photographs
    from multifocal_jax.data.rain import STYLES, rain_key, rain_over

    def example(photograph: str, rainy: np.ndarray, clean: np.ndarray) -> _Example:
        derained = derainer(rainy)
        before, after = (min(score(picture, clean).psnr, UNCHANGED) for picture in (rainy, derained))
        return _Example(photograph, (rainy, derained, clean), before, after)

    examples: dict[str, list[_Example]] = {style: [] for style in (*STYLES, _NO_RAIN)}
    for number, (photograph, clean) in enumerate(shown_photographs(_SIDE).items()):
        examples[_NO_RAIN].append(example(photograph, clean, clean))
        for style in STYLES:
            examples[style].append(example(photograph, *rain_over(rain_key(7, number), clean, style)))
    return {style: sorted(some, key=lambda one: -one.gain) for style, some in examples.items()}


def _write_examples(derainer: Derainer, folder: Path, known: bool) -> str:
    """Write a good and a bad result of every style, and the clean photograph that suffers most; returns their section.

    `known`: whether the weights were trained on some of the photographs.
    """
    from PIL import Image

    examples = _examples(derainer)
    photographs = len(examples[_NO_RAIN])
    lines = [
        "## Pictures",
        f"Of {photographs} photographs (scikit-image's, {'all but one trained on' if known else 'not trained on'}), "
        "those with the largest and the smallest gain in PSNR under each style of this project's synthesised rain, and "
        "the one that changed most without rain. Input, result, ground truth.",
    ]
    for style, some in examples.items():
        if style == _NO_RAIN:
            shown, caption = [some[-1]], f"Without rain: {some[-1].photograph}."
        else:
            shown = [some[0], some[-1]]
            names = [one.photograph for one in shown]
            caption = "{} rain: {} (largest gain), {} (smallest).".format(style.capitalize(), *names)
        sheet = Image.fromarray(np.concatenate([_row(one) for one in shown]))
        path = folder / f"{style}.jpg"
        write_whole(path, lambda file, sheet=sheet: sheet.save(file, "JPEG", quality=_QUALITY))
        lines.append(f"\n{caption}\n\n![{style}]({folder.name}/{path.name})")
    return "\n".join(lines)


def _row(example: _Example) -> np.ndarray:
    rainy = "no rain" if example.pictures[0] is example.pictures[2] else f"rainy, {example.before:.2f} dB"
    titles = rainy, f"result, {example.after:.2f} dB", "ground truth"
    return side_by_side(list(zip(titles, example.pictures, strict=True)))
