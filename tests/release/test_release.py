"""Packing a training and writing its card, with a tiny network on one demo photograph."""

import dataclasses
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from typing import cast

import jax
import numpy as np
import pytest

from multifocal_jax.cli.main import run
from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig
from multifocal_jax.config_files import load_config, to_dict
from multifocal_jax.data.demo import shown_photographs
from multifocal_jax.data.rain import rain_key, rain_over
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.evaluation.metrics import score
from multifocal_jax.release.card import _examples, _loss_name, _stage_rows, write_card
from multifocal_jax.release.pack import ReleaseError, curve, overrides, pack, stages
from multifocal_jax.release.plot import plot_curve
from multifocal_jax.release.scores import Group, held_out_groups, score_group, score_unharmed, spell_source
from multifocal_jax.weights import Weights, WeightsError, load_weights, save_weights
from tests.evaluation.helpers import random_params

MODEL = ModelConfig(channels=4, modules=0, heads=1, levels=1, interaction="convolution")
CONFIG = """
from multifocal_jax.config import *

def get_config():
    return ExperimentConfig(name="demo", model={model}, data=DataConfig(crop_size=32), train=TrainConfig(steps=9))
"""


STAGE = {"experiment": "demo", "step": 9, "images": 36, "seed": 0, "commit": "0123456789"}


@pytest.fixture
def workdir(tmp_path):
    """What a training leaves behind, as far as packing reads it."""
    (tmp_path / "config.py").write_text(CONFIG.format(model=MODEL))
    trained = load_config(str(tmp_path / "config.py"))
    run = tmp_path / "run"
    run.mkdir()
    record = {"config": to_dict(trained), "date": "today", **STAGE}
    save_weights(run / "weights.safetensors", Weights(random_params(MODEL), MODEL, record))
    (run / "metrics.jsonl").write_text('{"step": 3, "loss": 0.5}\n{"step": 9, "loss": 0.25}\n{"step"')
    return run


def test_a_training_is_packed_and_its_card_written_by_two_commands(workdir, tmp_path, capsys):
    config, folder = str(tmp_path / "config.py"), tmp_path / "packed"
    options = ["--config", config, "--folder", str(folder), "--limit", "1", "--note", "Two."]
    assert run(["release", "pack", str(workdir), *options]) == 0
    assert re.search(r"packed into .*demo\.safetensors \(0\.0 MB\)", capsys.readouterr().out)
    assert [path.name for path in folder.iterdir()] == ["demo.safetensors"]
    packed, trained = load_weights(folder / "demo.safetensors"), load_weights(workdir / "weights.safetensors")
    for mine, original in zip(jax.tree.leaves(packed.params), jax.tree.leaves(trained.params), strict=True):
        np.testing.assert_array_equal(mine, original.astype(np.float16).astype(np.float32))
    assert packed.record["curve"] == [[3, 0.5], [9, 0.25]]
    assert abs(packed.record["float16_loss_db"]) < 0.01
    heavy, dry = packed.record["scores"]
    assert (heavy["title"], heavy["pictures"]) == ("demo under heavy rain, test", 1)
    assert dry["input"] is None
    assert set(dry["result"]) == {"uint8", "double", "rgb"}

    assert run(["release", "card", str(folder / "demo.safetensors"), "--folder", str(tmp_path / "cards")]) == 0
    card = (tmp_path / "cards" / "demo.md").read_text()
    assert "# Weights `demo`" in card
    assert "36 crops in all, as many pixels as 9 of 64×64, today. Two.\n" in card
    assert "| demo | 9 | 36 of 32×32 | 0.0002 | 0 | `0123456` |" in card
    assert "| GPU | not measured |" in card
    assert "| demo | 9, planned: 2 epochs | 36 of 32×32 |" in _stage_rows(
        stages(described_as(trained, steps=0, epochs=2))
    )
    assert "| demo | 9 of 12 | 36 of 32×32 |" in _stage_rows(stages(described_as(trained, steps=12)))
    assert "| network | channels: 4, modules: 0, heads: 1, levels: 1, residual blocks per module and level: 0 |" in card
    assert "mean absolute error</text>" in (tmp_path / "cards" / "demo" / "curve.svg").read_text()
    assert _loss_name({"loss": "mine:edges", "frequency_weight": 0.1}) == "mine:edges + 0.1 × spectrum's"
    pictures = re.findall(r"\]\(demo/(.*)\.jpg\)", card)
    assert pictures == ["light", "heavy", "varied", "real", "without-rain"]
    for picture in pictures:
        assert (tmp_path / "cards" / "demo" / f"{picture}.jpg").stat().st_size < 200_000


def test_examples_are_in_the_order_of_their_gain():
    photographs = list(shown_photographs(288).values())

    def derain(picture):
        return np.uint8(picture // 2) if np.array_equal(picture, photographs[1]) else picture

    examples = _examples(cast(Derainer, derain))
    assert [*examples] == ["light", "heavy", "varied", "real", "without-rain"]
    dry = examples.pop("without-rain")
    np.testing.assert_array_equal(dry[-1].pictures[0], photographs[1])
    assert [one.after for one in dry[:-1]] == [100.0] * 3
    for number, photograph in enumerate(photographs):
        rainy, clean = rain_over(rain_key(7, number), photograph, "heavy")
        (one,) = (one for one in examples["heavy"] if np.array_equal(one.pictures[2], photograph))
        assert one.before == one.after == pytest.approx(score(rainy, clean).psnr)


def described_as(weights, **settings):
    """The record of weights, as if these had been the settings of their training."""
    config = weights.record["config"]
    return weights.record | {"config": config | {"train": config["train"] | settings}}


def test_crops_are_counted_over_a_chain_of_trainings(workdir, tmp_path):
    trained = load_weights(workdir / "weights.safetensors")
    previous = str(workdir)
    for number in (1, 2):
        record = described_as(trained, init_weights=previous)
        previous = str(tmp_path / f"run{number}")
        (tmp_path / f"run{number}").mkdir()
        save_weights(tmp_path / f"run{number}" / "weights.safetensors", Weights(trained.params, MODEL, record))
    base = load_config(str(tmp_path / "config.py"))
    packed = pack(previous, tmp_path / "packed", base=base, base_file="config.py", limit=1)
    record = load_weights(packed).record
    assert record["images"] == 3 * 36
    assert record["stages"] == [STAGE | {"planned": 9, "learning_rate": 2e-4, "crop_size": 32}] * 3
    assert stages(record) == record["stages"]
    assert record["release"] == 1
    assert str(tmp_path) not in json.dumps(record)


def test_new_weights_name_the_version_that_they_replace(workdir, tmp_path):
    base, folder = load_config(str(tmp_path / "config.py")), tmp_path / "packed"
    first = pack(workdir, folder, base=base, base_file="config.py", limit=1)
    assert load_weights(first).record["release"] == 1
    again = pack(workdir, folder, base=base, base_file="config.py", limit=1, note="Packed again.")
    assert "replaces" not in load_weights(again).record
    replaced = hashlib.sha256(again.read_bytes()).hexdigest()

    trained = load_weights(workdir / "weights.safetensors")
    save_weights(workdir / "weights.safetensors", dataclasses.replace(trained, record=trained.record | {"seed": 1}))
    second = pack(workdir, folder, base=base, base_file="config.py", limit=1)
    record = load_weights(second).record
    assert (record["release"], record["replaces"]) == (2, {"release": 1, "sha256": replaced})
    card = write_card(second, tmp_path / "cards").read_text()
    assert f"| version | 2, SHA-256 `{hashlib.sha256(second.read_bytes()).hexdigest()}`" in card
    assert f"replaces version 1, `{replaced}` |" in card


def test_weights_are_averaged_with_others_of_the_same_network(workdir, tmp_path):
    config, folder = str(tmp_path / "config.py"), tmp_path / "packed"
    options = ["--config", config, "--folder", str(folder), "--limit", "1"]
    trained = load_weights(workdir / "weights.safetensors")
    other = tmp_path / "other.safetensors"
    save_weights(other, Weights(jax.tree.map(lambda x: 3 * x + 1, trained.params), MODEL, {"name": "earlier"}))
    assert run(["release", "pack", str(workdir), *options]) == 0
    assert run(["release", "pack", str(workdir), *options, "--average", str(other)]) == 0
    packed = load_weights(folder / "demo.safetensors")
    for mine, original in zip(jax.tree.leaves(packed.params), jax.tree.leaves(trained.params), strict=True):
        expected = ((original + (3 * original + 1)) / 2).astype(np.float16)
        np.testing.assert_allclose(mine, expected, rtol=2e-3)
    assert (packed.record["release"], packed.record["images"]) == (2, 36)
    card = write_card(folder / "demo.safetensors", tmp_path / "cards").read_text()
    checksum = hashlib.sha256(other.read_bytes()).hexdigest()
    assert f"mean of the last training's parameters and those of `earlier` (SHA-256 `{checksum}`)." in card
    assert "--config " + config + " --average WEIGHTS\n" in card


def test_pictures_that_some_weights_were_trained_on_are_not_scored(workdir, tmp_path):
    base = load_config(str(tmp_path / "config.py"))
    trained = load_weights(workdir / "weights.safetensors")
    on_the_test_set = dataclasses.replace(base.data, train=(dataclasses.replace(base.data.train[0], split="test"),))
    record = described_as(trained)
    record["config"] |= {"data": to_dict(on_the_test_set)}
    save_weights(tmp_path / "other.safetensors", Weights(trained.params, MODEL, record))
    refusal = r"other\.safetensors was trained on 2 of the 2 pictures to score \(demo under heavy rain, test\)"
    with pytest.raises(ReleaseError, match=refusal):
        pack(workdir, tmp_path, base=base, base_file="", average=[str(tmp_path / "other.safetensors")])


def test_a_training_that_started_from_what_nobody_knows_is_not_packed(workdir, tmp_path):
    base = load_config(str(tmp_path / "config.py"))
    trained = load_weights(workdir / "weights.safetensors")
    start = tmp_path / "converted.safetensors"
    save_weights(start, Weights(trained.params, MODEL, {"converted_from": "net.pth"}))
    record = described_as(trained, init_weights=str(start))
    save_weights(workdir / "weights.safetensors", Weights(trained.params, MODEL, record))
    with pytest.raises(ReleaseError, match=r"known: the record of .*converted\.safetensors does not say"):
        pack(workdir, tmp_path, base=base, base_file="")
    save_weights(start, Weights(trained.params, MODEL, record))
    with pytest.raises(ReleaseError, match="which it has overwritten since"):
        pack(workdir, tmp_path, base=base, base_file="")


def test_weights_of_another_network_are_not_averaged(workdir, tmp_path):
    larger = dataclasses.replace(MODEL, channels=8)
    save_weights(tmp_path / "larger.safetensors", Weights(random_params(larger), larger, {}))
    base = load_config(str(tmp_path / "config.py"))
    with pytest.raises(ReleaseError, match=r"larger\.safetensors has another network than the training"):
        pack(workdir, tmp_path / "packed", base=base, base_file="", average=[str(tmp_path / "larger.safetensors")])


def test_what_cannot_be_released(workdir, tmp_path):
    base = load_config(str(tmp_path / "config.py"))
    with pytest.raises(ReleaseError, match=r"nothing says what weights 'mine' are for; known: general, rain100l, demo"):
        pack(workdir, tmp_path, base=base, base_file="config.py", name="mine")
    weights = load_weights(workdir / "weights.safetensors")
    save_weights(tmp_path / "converted.safetensors", dataclasses.replace(weights, record={}))
    with pytest.raises(ReleaseError, match=r"converted\.safetensors has no record of a training"):
        pack(tmp_path / "converted.safetensors", tmp_path, base=base, base_file="config.py", name="demo")
    with pytest.raises(WeightsError, match="was not packed; do that by: multifocal release pack WORKDIR --config"):
        run(["release", "card", str(workdir), "--folder", str(tmp_path / "cards")])


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("LARGEST", r"demo would have [\d,]+ bytes; packaged weights may have 100"),
        ("LARGEST_TOGETHER", r"all weights in .*packed would have [\d,]+ bytes; they may have 100"),
    ],
)
def test_what_is_too_large_does_not_replace_what_was_packed(workdir, tmp_path, monkeypatch, limit, message):
    base = load_config(str(tmp_path / "config.py"))
    before = pack(workdir, tmp_path / "packed", base=base, base_file="config.py", limit=1).read_bytes()
    monkeypatch.setattr(f"multifocal_jax.release.pack.{limit}", 100)
    with pytest.raises(ReleaseError, match=message):
        pack(workdir, tmp_path / "packed", base=base, base_file="config.py", limit=1)
    assert (tmp_path / "packed" / "demo.safetensors").read_bytes() == before
    assert len(list((tmp_path / "packed").iterdir())) == 1


def test_overrides_name_every_field_that_differs_but_where_files_lie():
    base = ExperimentConfig()
    changed = ExperimentConfig(
        name="small",
        data=DataConfig(root="elsewhere", crop_size=64),
        train=TrainConfig(learning_rate=6e-4, init_weights="here"),
    )
    expected = ["--config.name=small", "--config.data.crop_size=64", "--config.train.learning_rate=0.0006"]
    assert overrides(base, changed) == expected


def test_the_curve_keeps_the_later_line_of_a_step_and_means_of_equal_stretches(tmp_path):
    file = tmp_path / "metrics.jsonl"
    lines = [{"step": step, "loss": float(step)} for step in range(1, 121)]
    lines += [{"step": 2, "loss": 4.0}, {"step": 120, "held_out_psnr": 30.0}]
    file.write_text("\n".join(map(json.dumps, lines)))
    points = curve(file)
    assert len(points) == 60
    assert points[:2] == [(2, 2.5), (4, 3.5)]
    assert points[-1] == (120, 119.5)
    assert curve(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("losses", "heights"), [((1.0, 0.5, 0.25), (1, 1 / 2, 1 / 4)), ((-30.0, -32.0, -38.0), (1, 3 / 4, 0))]
)
def test_the_plot_is_svg_whose_line_ends_where_the_points_do(losses, heights):
    root = ET.fromstring(plot_curve([*zip((0, 50, 100), losses, strict=True)], "step", "loss"))
    *_, line = [node.get("d") for node in root.iter("{http://www.w3.org/2000/svg}path")]
    points = [tuple(map(float, point.split())) for point in line.removeprefix("M").split("L")]
    assert [x for x, _ in points] == [64, 344, 624]
    floor, top = 216, 14
    assert [y for _, y in points] == [floor - (floor - top) * height for height in heights]


def test_a_plot_without_points_is_svg():
    ET.fromstring(plot_curve([], "step", "loss"))


class Pictures(tuple):
    """Pairs of grey pictures of these levels: rainy ones are brighter by 20."""

    def name(self, index):
        return str(index)

    def load(self, index):
        ramp = np.arange(24, dtype=np.uint8)[:, None, None] + np.zeros((24, 24, 3), np.uint8)
        clean = ramp + np.uint8(self[index])
        return clean + np.uint8(20), clean


def test_scores_are_means_over_pictures_of_every_family():
    group = Group("grey", Pictures((10, 60, 110)))
    row = score_group(lambda rainy: rainy - np.uint8(15), group, limit=2)
    assert (row.title, row.pictures) == ("grey", 2)
    assert row.input is not None
    rainy, clean = group.pairs.load(0)
    for family in ("uint8", "double", "rgb"):
        first = score(rainy - np.uint8(15), clean, family)
        assert row.result[family][0] == pytest.approx(first.psnr, abs=0.3)
        assert row.input[family][0] == pytest.approx(score(rainy, clean, family).psnr, abs=0.3)
    assert row.result["rgb"][0] == pytest.approx(20 * np.log10(255 / 5))


def test_a_clean_picture_that_is_held_out_twice_is_counted_once_and_as_100_db_where_it_is_unchanged():
    groups = [Group("one", Pictures((10, 60))), Group("two", Pictures((60, 110)))]
    row = score_unharmed(lambda picture: picture + np.uint8(1), groups)
    assert row.pictures == 3
    assert row.input is None
    assert row.result["rgb"][0] == pytest.approx(20 * np.log10(255))
    levels = iter((0, 1))
    row = score_unharmed(lambda picture: picture + np.uint8(next(levels)), [Group("two", Pictures((10, 60)))])
    assert row.result["rgb"][0] == pytest.approx((100 + 20 * np.log10(255)) / 2)


def test_groups_are_the_held_out_pictures_of_each_source_or_the_test_source():
    light, heavy = (
        SourceConfig(dataset="demo", rain=rain, held_out=count) for rain, count in (("light", 2), ("heavy", 1))
    )
    dry = SourceConfig(dataset="demo", rain="identity")
    groups = held_out_groups(DataConfig(train=(light, dry, heavy), crop_size=32))
    assert [(group.title, len(group.pairs)) for group in groups] == [
        ("demo under light rain, held out", 2),
        ("demo under heavy rain, held out", 1),
    ]
    (test,) = held_out_groups(DataConfig(crop_size=32))
    assert test.title == "demo under heavy rain, test"
    assert spell_source(SourceConfig(dataset="clean", root="sets/photos", rain="identity")) == "photos without rain"
    assert spell_source(SourceConfig(dataset="rain100l", root="elsewhere")) == "rain100l"
