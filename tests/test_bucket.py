"""Data, workdir and reports in a bucket (in memory): everything but Orbax's checkpoints, which need a true one."""

import json

import fsspec
import numpy as np
import orbax.checkpoint
import pytest
from etils import epath
from PIL import Image

import multifocal_jax
from multifocal_jax import paths
from multifocal_jax.cli.main import run
from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig
from multifocal_jax.config_files import to_dict
from multifocal_jax.data.sources import open_rainy, open_source
from multifocal_jax.files import write_whole
from multifocal_jax.paths import Mirror, PathError, as_path
from multifocal_jax.training import loop
from multifocal_jax.training.checkpoints import Checkpoints
from multifocal_jax.weights import load_weights
from tests import bucket
from tests.training.helpers import logged, with_train

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture
def pairs(rng):
    """Four pairs in gs://data/set."""
    with bucket.installed():
        root = epath.Path("gs://data/set")
        for side in ("rain", "norain"):
            (root / side).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            clean = rng.integers(0, 200, (24, 32, 3)).astype(np.uint8)
            for side, picture in (("norain", clean), ("rain", clean + np.uint8(30))):
                image = Image.fromarray(picture)
                write_whole(root / side / f"{number}.png", lambda file, image=image: image.save(file, "png"))
        yield root


@pytest.fixture
def config():
    return ExperimentConfig(
        name="bucket",
        model=ModelConfig(channels=4, modules=0, heads=1, levels=1, spp_sizes=(1, 3)),
        data=DataConfig(
            root="gs://data",
            train=(SourceConfig(dataset="folder", root="set"),),
            test=SourceConfig(dataset="folder", root="set"),
            crop_size=16,
        ),
        train=TrainConfig(steps=2, batch_size=8, log_every=1, checkpoint_every=2, image_every=2),
    )


def test_addresses_that_no_package_here_reads_are_refused_with_the_way_out(monkeypatch):
    def missing(scheme):
        raise ImportError("Please install gcsfs to access Google Storage")

    with pytest.raises(PathError, match=r"foo://x cannot be reached: .*foo; take a local path, gs://… or s3://…"):
        as_path("foo://x")
    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(PathError, match=r"gs://b/f cannot .* install gcsfs .*: pip install 'multifocal-jax\[gcs\]'"):
        as_path("gs://b/f")


def test_checkpoints_of_a_workdir_in_a_bucket_go_there(config, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(orbax.checkpoint, "CheckpointManager", lambda folder, **_: opened.append(str(folder)))
    monkeypatch.chdir(tmp_path)
    with bucket.installed():
        Checkpoints(epath.Path("gs://runs/first"), config)
    Checkpoints("runs/first", config)
    assert opened == ["gs://runs/first/checkpoints", str(tmp_path / "runs" / "first" / "checkpoints")]


def test_an_address_does_not_lie_below_the_root_of_a_config(pairs):
    photographs = open_rainy(SourceConfig(dataset="rainy", root="gs://data/set/rain"), "data/rain200h")
    assert [photographs.name(index) for index in range(len(photographs))] == list("0123")
    assert len(open_source(SourceConfig(dataset="folder", root="gs://data/set"), "data/rain200h")) == 4


def test_a_set_in_a_bucket_is_checked_and_recombined(pairs, tmp_path, capsys):
    assert run(["data", "check", str(pairs)]) == 0
    assert "4 pairs" in capsys.readouterr().out
    assert run(["data", "recombine", str(pairs), str(tmp_path / "more"), "--copies", "1"]) == 0
    assert len(list((tmp_path / "more" / "rain").iterdir())) == 4


def test_metrics_that_a_bucket_refuses_once_arrive_later(monkeypatch, caplog):
    monkeypatch.setattr(paths, "_SECONDS", -1)
    with bucket.installed(), monkeypatch.context() as patched:
        mirror = Mirror("gs://runs")
        (mirror.folder / "metrics.jsonl").write_text("{}\n")
        patched.setattr(bucket.Bucket, "open", lambda *_, **__: 1 / 0)
        mirror.update()
        assert "gs://runs will be updated later: division by zero" in caplog.text
        patched.undo()
        mirror.update()
        assert epath.Path("gs://runs/metrics.jsonl").read_text() == "{}\n"
        mirror.close()


def test_train_evaluate_and_load_in_a_bucket(pairs, config, tmp_path, monkeypatch):
    assert [open_source(config.data.test, config.data.root).name(index) for index in range(4)] == list("0123")
    # Orbax writes through TensorStore, whose own client speaks to Google alone
    monkeypatch.setattr(loop, "Checkpoints", lambda workdir, *given: Checkpoints(tmp_path, *given))
    workdir = epath.Path("gs://runs/first")
    result = loop.train(config, workdir, quiet=True)
    assert str(result.weights) == "gs://runs/first/weights.safetensors"
    longer = with_train(config, steps=4)
    loop.train(longer, workdir, quiet=True)

    assert json.loads((workdir / "config.json").read_text()) == json.loads(json.dumps(to_dict(longer)))
    assert [line["step"] for line in logged(workdir)] == [
        1,
        2,
        3,
        4,
    ]  # the second run's lines follow those of the first
    assert len([path for path in workdir.iterdir() if path.name.startswith("events.out.tfevents")]) == 2
    images = {path.name for path in (workdir / "images").iterdir()}
    assert images == {f"{step:07d}_crop-{crop}.png" for step in (2, 4) for crop in range(3)}
    assert load_weights(workdir / "weights.safetensors").record["step"] == 4

    command = ["evaluate", "--workdir", str(workdir), "--quiet"]
    assert run([*command, "--config.eval.limit=2"]) == 0
    assert run([*command, "--resume"]) == 0
    folder = workdir / "evaluation"
    report = json.loads((folder / "report.json").read_text())
    assert report["count"] == 4
    assert len((folder / "scores.jsonl").read_text().split()) > 4
    assert {path.name for path in (folder / "images").iterdir()} == {f"{name}.png" for name in range(4)}
    assert "data:image/webp" in (folder / "report.html").read_text()

    rainy, _ = open_source(config.data.test, config.data.root).load(1)
    with (folder / "images" / "1.png").open("rb") as file, Image.open(file) as written:
        np.testing.assert_array_equal(multifocal_jax.load(str(workdir))(rainy), np.asarray(written))
