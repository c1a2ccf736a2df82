"""Packs a finished training: its weights in float16, with architecture, training record and scores."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from multifocal_jax.config import DataConfig, ExperimentConfig
from multifocal_jax.config_files import changed_fields, from_dict, to_dict
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.evaluation.trained_on import find_trained_on
from multifocal_jax.paths import as_path
from multifocal_jax.release.purposes import PURPOSES, purpose_of
from multifocal_jax.release.scores import Group, held_out_groups, score_group, score_unharmed
from multifocal_jax.weights import Weights, describe_weights, file_checksum, load_weights, save_weights
from multifocal_jax.weights_lookup import find_weights, lineage

LARGEST = 12_000_000  # bytes of one packaged file
LARGEST_TOGETHER = 25_000_000
_POINTS = 60  # of the curve that the record keeps


class ReleaseError(UserError):
    """Weights cannot be released. The message says why."""


def pack(
    workdir: str | Path,
    folder: Path,
    *,
    base: ExperimentConfig,
    base_file: str,
    name: str = "",
    average: Sequence[str] = (),
    data_root: str = "",
    limit: int = 0,
    note: str = "",
) -> Path:
    """Score the weights of a finished training and write them as `folder/NAME.safetensors`.

    The scores are those of the written file, that is, of the rounded weights; the cost of rounding on the first group
    of pictures is recorded with them, and so is a version, one more than that of the file that is replaced.

    Args:
        workdir: of a training.
        folder: of the file; created if necessary.
        base: the config that the training was started with, before overrides.
        base_file: name or path of that config, for the command on the card.
        name: of the weights, one in the table of purposes; if empty, the name in the training's config.
        average: further weights of the same network: files, workdirs or packaged names. What is packed is the mean of
            their parameters and the training's, each counted once (Wortsman et al., Model soups, ICML 2022).
        data_root: the current `DataConfig.root`; if empty, that of the training.
        limit: score at most this many pictures of each group; 0 scores all.
        note: a remark on the training for the card.

    Raises:
        ReleaseError: the weights were not trained here, it is not known what some training before started from, the
            name is unknown, weights to average have another network, pictures to score were trained on or have changed
            since, or the file would be too large; an earlier file is then kept.
    """
    trained = load_weights(find_weights(workdir))
    if "config" not in trained.record:
        raise ReleaseError(f"{workdir} has no record of a training, as weights have that were converted")
    config = from_dict(ExperimentConfig, trained.record["config"])
    name = name or config.name
    if (purpose := purpose_of(name)) is None:
        known = ", ".join(PURPOSES)
        raise ReleaseError(f"nothing says what weights {name!r} are for; known: {known}, also with -small")
    files = [find_weights(one) for one in average]
    others = list(zip(average, map(load_weights, files), strict=True))
    params = _mean(trained, others)
    averaged = [_spell(file, weights.record) for file, (_, weights) in zip(files, others, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    record = trained.record | {
        "name": name,
        "purpose": purpose.summary,
        "data": purpose.data,
        "overrides": overrides(base, config),
        "config_file": base_file,
        "curve": curve(as_path(workdir) / "metrics.jsonl"),
        "stages": stages(trained.record),
        "averaged": averaged,
        "note": note,
    }
    record["images"] = sum(stage["images"] for stage in record["stages"])
    record |= succession(folder / f"{name}.safetensors", record["stages"], averaged)
    # Without the paths of data and initial weights, which mean nothing on other machines.
    train = dataclasses.replace(config.train, init_weights=Path(config.train.init_weights).name)
    record["config"] = to_dict(dataclasses.replace(config, train=train, data=dataclasses.replace(config.data, root="")))

    data = dataclasses.replace(config.data, root=data_root or config.data.root, mode="memory")
    groups = held_out_groups(data)
    for whose, weights in [(str(workdir), trained), *others]:
        _check_unseen(whose, weights.record, groups, data)
    partial = folder / f".{name}.new"
    try:
        _save(partial, Weights(params, trained.model, record))
        exact = Derainer(params, trained.model)
        rounded = exact.with_params(load_weights(partial).params)
        rows = [score_group(rounded, group, limit) for group in groups]
        before_rounding = score_group(exact, groups[0], limit)
        record["float16_loss_db"] = before_rounding.result["uint8"][0] - rows[0].result["uint8"][0]
        rows.append(score_unharmed(rounded, groups, limit))
        record["scores"] = [dataclasses.asdict(row) for row in rows]
        _save(partial, Weights(params, trained.model, record))
        return partial.replace(folder / f"{name}.safetensors")
    finally:
        partial.unlink(missing_ok=True)


def _mean(trained: Weights, others: Sequence[tuple[str, Weights]]) -> dict[str, Any]:
    """The mean of the parameters of a training and of further weights, which have names."""
    for name, other in others:
        if other.model != trained.model:
            raise ReleaseError(f"{name} has another network than the training; only weights of one can be averaged")
    return jax.tree.map(lambda *all_: sum(all_) / len(all_), trained.params, *(other.params for _, other in others))


def _spell(file: Path, record: Mapping[str, Any]) -> str:
    return f"`{record.get('name') or record.get('experiment') or file.name}` (SHA-256 `{file_checksum(file)}`)"


def _check_unseen(name: str, record: Mapping[str, Any], groups: Sequence[Group], data: DataConfig) -> None:
    """Raise ReleaseError if weights are known to be trained on pictures to score, or these have changed since."""
    for title, pairs in groups:
        found = find_trained_on(record, pairs, len(pairs), data)
        if found.changed:
            raise ReleaseError(f"{found.changed}; bring them back, or other pictures are held out than in training")
        if found.indices:
            raise ReleaseError(
                f"{name} was trained on {len(found.indices)} of the {len(pairs)} pictures to score ({title}), also by "
                "way of what it started from; leave it out, or train without these pictures"
            )


def _save(path: Path, weights: Weights) -> None:
    save_weights(path, weights, dtype="float16")
    size = path.stat().st_size
    if size > LARGEST:
        raise ReleaseError(f"{weights.record['name']} would have {size:,} bytes; packaged weights may have {LARGEST:,}")
    others = [file for file in path.parent.glob("*.safetensors") if file.stem != weights.record["name"]]
    together = size + sum(file.stat().st_size for file in others)
    if together > LARGEST_TOGETHER:
        raise ReleaseError(
            f"all weights in {path.parent} would have {together:,} bytes; they may have {LARGEST_TOGETHER:,}"
        )


def overrides(base: ExperimentConfig, config: ExperimentConfig) -> list[str]:
    """`--config.FIELD=VALUE` for every field in which a training's config differs from the one in its file."""
    changes = changed_fields(base, config)
    return [change.override() for change in changes if change.name not in ("data.root", "train.init_weights")]


def curve(metrics: Path) -> list[tuple[int, float]]:
    """Step and mean training loss since the point before, at most 60 points; from a training's `metrics.jsonl`."""
    by_step: dict[int, float] = {}
    for line in metrics.read_text().splitlines() if metrics.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):  # a killed run may leave half a line
            if "loss" in (entry := json.loads(line)):
                by_step[entry["step"]] = entry["loss"]  # the later line of a repeated step counts
    points = sorted(by_step.items())
    width = -(-len(points) // _POINTS)
    chunks = [points[start : start + width] for start in range(0, len(points), max(width, 1))]
    return [(chunk[-1][0], round(sum(loss for _, loss in chunk) / len(chunk), 6)) for chunk in chunks]


def stages(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trainings that led to some weights, in order: each started from the weights of the one before.

    Raises:
        ReleaseError: it is not known what one of them started from.
    """
    found: list[dict[str, Any]] = []
    records, gap = lineage(record)
    for _, each in records:
        if "stages" in each:  # packed weights know all before them
            return [*each["stages"], *found]
        train = each["config"]["train"]
        stage = {key: each.get(key) for key in ("experiment", "step", "images", "seed", "commit")}
        planned = train["steps"] or f"{train['epochs']} epochs"
        crop_size = each["config"]["data"]["crop_size"]
        stage |= {"planned": planned, "learning_rate": train["learning_rate"], "crop_size": crop_size}
        found.insert(0, stage)
    if gap:
        raise ReleaseError(f"not all trainings that led to these weights are known: {gap}")
    return found


def succession(before: Path, stages: list[dict[str, Any]], averaged: Sequence[str] = ()) -> dict[str, Any]:
    """The version of weights that take the place of the file `before`, and the version and SHA-256 of that file.

    Weights of the same trainings and averages, packed again, keep their version.
    """
    if not before.is_file():
        return {"release": 1}
    earlier = describe_weights(before).record
    release = earlier.get("release", 1)  # the first ones have none
    if earlier.get("stages") == stages and earlier.get("averaged", []) == list(averaged):
        return {key: earlier[key] for key in ("release", "replaces") if key in earlier} or {"release": release}
    return {
        "release": release + 1,
        "replaces": {"release": release, "sha256": file_checksum(before)},
    }
