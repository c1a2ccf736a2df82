"""Pictures that weights were trained on are not scored as held out, wherever the set lies, or are marked."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multifocal_jax.config import DataConfig, ExperimentConfig, SourceConfig, TrainConfig
from multifocal_jax.config_files import to_dict
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.data.sources import open_source
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.report import Report
from multifocal_jax.evaluation.run import run
from multifocal_jax.evaluation.trained_on import find_trained_on
from multifocal_jax.weights import Weights, save_weights
from tests.evaluation.helpers import CONFIG, TINY, evaluate_py, random_params, write_experiment

FOLDER = SourceConfig(dataset="folder")
DATA = DataConfig(root="pairs", train=(FOLDER,), test=FOLDER, crop_size=16)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with a config, weights and eight pairs, a to h; nothing is compiled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("multifocal_jax.evaluation.run.Derainer", lambda *_, **__: lambda batch: batch)
    write_experiment(CONFIG, dict.fromkeys("abcdefgh", (24, 32)))


def record_of(data: DataConfig, **train) -> dict:
    """What training writes into the record of its weights."""
    config = ExperimentConfig(model=TINY, data=data, train=TrainConfig(**train))
    return {"config": to_dict(config), "sources": TrainingData(data, 1, 0).fingerprints}


def trained(data: DataConfig = DATA, path: str = "runs/folder/weights.safetensors", **train) -> None:
    save_weights(path, Weights(random_params(), TINY, record_of(data, **train)))


def setting_aside(count: int, data: DataConfig = DATA) -> DataConfig:
    return dataclasses.replace(data, held_out=count)


def held_out(record: dict, here: DataConfig) -> tuple[str, str, str]:
    """Names of the pictures that `here` holds out and weights with this record were trained on; what is unknown."""
    pictures = TrainingData(here, 1, 0).held_out
    found = find_trained_on(record, pictures, len(pictures), here)
    return "".join(map(pictures.name, sorted(found.indices))), found.unknown, found.changed


def advice(record: dict, here: DataConfig) -> str:
    return find_trained_on(record, TrainingData(here, 1, 0).held_out, 0, here).advice


def test_pictures_that_another_number_held_out_are_recognised():
    # 4 of the 8 names a to h, evenly spaced, are a, c, e, g; 3 are a, c, f; 2 are a, e
    record = record_of(setting_aside(4))
    assert held_out(record, setting_aside(4)) == ("", "", "")
    assert held_out(record, setting_aside(2)) == ("", "", "")
    assert held_out(record, setting_aside(3)) == ("f", "", "")
    assert held_out(record_of(DATA), setting_aside(3)) == ("acf", "", "")
    excluding = dataclasses.replace(FOLDER, exclude=("f",))
    record = record_of(DataConfig(root="pairs", train=(excluding,), held_out=1, crop_size=16))
    assert held_out(record, setting_aside(3)) == ("c", "", "")


def test_a_set_that_moved_or_was_copied_is_recognised_and_another_one_is_not():
    record = record_of(setting_aside(4))
    shutil.copytree("pairs", "copy")
    copy = setting_aside(3, dataclasses.replace(DATA, root="copy"))
    assert held_out(record, copy) == ("f", "", "")
    Path("pairs").rename("moved")
    moved = DataConfig(train=(dataclasses.replace(FOLDER, root="moved"),), held_out=3, crop_size=16)
    assert held_out(record, moved) == ("f", "", "")
    assert advice(record, moved) == "score what it set aside: --config.data.held_out=4"
    assert advice(record, dataclasses.replace(moved, held_out=4)) == "choose pictures that it was not trained on"
    assert advice(record, DataConfig()) == "take the config that it was trained with"
    for file in Path("copy").rglob("*.png"):  # other pictures of these names
        with Image.open(file) as picture:
            turned = np.asarray(picture)[::-1, :20]
        Image.fromarray(turned).save(file)
    names, unknown, changed = held_out(record, copy)
    assert (names, unknown, changed) == ("", "of the training's sources these are not found: folder", "")


def test_a_set_that_has_changed_since_is_not_trusted():
    trained(setting_aside(4))
    for side in ("rain", "norain"):
        shutil.copy(f"pairs/{side}/a.png", f"pairs/{side}/aa.png")
    arguments = ["--config.eval.split=held_out", "--config.data.held_out=4", "--config.data.crop_size=16"]
    with pytest.raises(
        UserError, match=r"runs/folder was trained on cannot be told: pairs does not hold the 8 picture"
    ):
        evaluate_py(*arguments)


def test_published_sets_need_no_fingerprint_and_sources_that_are_not_there_are_named():
    shutil.copytree("pairs", "sets/rain100l/train")
    there = SourceConfig(dataset="rain100l", root="rain100l")
    sources = (dataclasses.replace(there, root="elsewhere", held_out=2), SourceConfig(dataset="rain800", root="gone"))
    config = ExperimentConfig(model=TINY, data=DataConfig(train=sources, crop_size=16))
    now = DataConfig(root="sets", train=(there,), held_out=3, crop_size=16)
    expected = "of the training's sources these are not found: rain800 gone"
    assert held_out({"config": to_dict(config)}, now)[:2] == ("cf", expected)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, held_out=1))
    assert held_out({"config": to_dict(config)}, now)[:2] == ("", expected)  # which are set aside depends on both


def test_what_a_training_started_from_counts():
    trained(setting_aside(4), "first.safetensors")
    record = record_of(setting_aside(3), init_weights="first.safetensors")
    assert held_out(record, setting_aside(3)) == ("f", "", "")
    Path("first.safetensors").unlink()
    unknown = "training started from first.safetensors, which is not there any more"
    assert held_out(record, setting_aside(3)) == ("", unknown, "")
    trained(setting_aside(4), "first.safetensors", init_weights="first.safetensors")
    found = held_out(record, setting_aside(3))
    assert found == ("f", "training started from first.safetensors, which it has overwritten since", "")
    mean = record_of(setting_aside(3)) | {"averaged": ["`other`"]}
    doubt = "the weights are a mean with others, of which nothing is recorded"
    assert held_out(mean, setting_aside(3)) == ("", doubt, "")
    save_weights("first.safetensors", Weights(random_params(), TINY, {}))
    assert "first.safetensors does not say" in held_out(record, setting_aside(3))[1]
    assert "the record of the weights is of another version" in held_out({"config": {"x": 1}}, setting_aside(3))[1]


def test_every_source_of_pictures_to_score_is_compared():
    rainy = SourceConfig(dataset="clean", root="norain", rain="light")
    record = record_of(DataConfig(root="pairs", train=(rainy,), crop_size=16))
    for test in (FOLDER, rainy, dataclasses.replace(FOLDER, rain="heavy")):
        pictures = open_source(test, "pairs")
        assert len(find_trained_on(record, pictures, 5, DATA).indices) == 5


def test_held_out_pictures_that_were_trained_on_are_refused_or_marked(capsys):
    trained(setting_aside(4))
    arguments = ["--config.eval.split=held_out", "--config.data.held_out=3", "--config.data.crop_size=16"]
    with pytest.raises(
        UserError,
        match=r"1 of the 3 pictures to score as held out were trained on by runs/folder; score what it set aside: "
        r"--config\.data\.held_out=4, or pass --mark-trained-on to score them, with a mark at those that are known",
    ):
        evaluate_py(*arguments)
    assert not Path("runs/folder/evaluation").exists()
    assert evaluate_py(*arguments, "--mark-trained-on") == 0
    printed = capsys.readouterr()
    assert "warning: 1 of the 3 pictures to score were trained on by runs/folder\n" in printed.err
    rows = [line.split("  ")[0] for line in printed.out.splitlines()]
    assert rows[1:4] == ["a", "c", "f (trained on)"]
    assert "mean uint8 (trained on)" in rows
    assert "of 3 pictures, 1 of them trained on" in printed.out
    folder = Path("runs/folder/evaluation")
    assert json.loads((folder / "report.json").read_text())["trained_on"] == ["f"]
    assert Report.read(folder / "report.json").trained_on == {"f"}
    with (folder / "report.csv").open() as file:
        assert [(row["name"], row["trained_on"]) for row in csv.DictReader(file)] == [
            ("a", "0"),
            ("c", "0"),
            ("f", "1"),
        ]
    assert "| f (trained on) |" in (folder / "report.md").read_text()
    assert "Means over 3 pictures, 1 of them trained on" in (folder / "report.md").read_text()
    page = (folder / "report.html").read_text()
    assert "<b>f (trained on)</b>" in page
    assert "Mean of 3 pictures, 1 of them trained on" in page
    assert "<dt>trained on</dt><dd>1 of 3 pictures</dd>" in page


def test_side_by_side_each_has_its_own_record(capsys):
    trained(setting_aside(3))
    trained(setting_aside(4), "other.safetensors")
    config = ExperimentConfig(model=TINY, data=setting_aside(3))
    config = dataclasses.replace(config, eval=dataclasses.replace(config.eval, split="held_out", save_images=False))
    both = ["runs/folder", "other.safetensors"]
    with pytest.raises(UserError, match=r"1 of the 3 pictures to score as held out were trained on by other\.safet"):
        run(config, both, "both", quiet=True)
    reports = run(config, both, "both", quiet=True, mark_trained_on=True)
    assert [sorted(report.trained_on) for _, report in reports] == [[], ["f"]]
    assert [report.record["dataset"] for _, report in reports] == ["folder, held out", "folder, held out, trained on"]


def test_weights_that_say_nothing_are_doubted(capsys):
    assert evaluate_py("--config.eval.split=held_out", "--config.data.held_out=3", "--config.data.crop_size=16") == 0
    doubt = "the record of the weights does not say what was trained on"
    expected = f"warning: whether runs/folder was trained on the pictures to score is not certain: {doubt}\n"
    assert expected in capsys.readouterr().err
    assert (
        f"- trained on: 0 of 3 pictures; not certain: {doubt}" in Path("runs/folder/evaluation/report.md").read_text()
    )
