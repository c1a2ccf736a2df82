"""What version 0.1.0 wrote, before the network's two implementations were apart: it loads, and training goes on.

golden/workdir-0.1.0.tar.gz holds 4 steps of the config below on the pairs of conftest.py; the figures are
what that version made of it.
"""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from multifocal_jax import load
from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig
from multifocal_jax.training.loop import train
from tests.training.helpers import logged, with_train

pytestmark = pytest.mark.usefixtures("unoptimised")

CONFIG = ExperimentConfig(
    name="tiny",
    model=ModelConfig(channels=4, modules=2, heads=2, levels=2, spp_sizes=(1, 2), residual_blocks=1),
    data=DataConfig(
        root="pairs", train=(SourceConfig(dataset="folder"),), test=SourceConfig(dataset="folder"), crop_size=16
    ),
    train=TrainConfig(
        steps=4, batch_size=8, learning_rate=1e-3, log_every=1, checkpoint_every=4, tensorboard=False, ema_decay=0.9
    ),
)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tarfile.open(Path(__file__).parents[1] / "golden" / "workdir-0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "workdir"


def test_weights_load(workdir):
    picture = np.random.default_rng(0).integers(0, 256, (20, 27, 3), dtype=np.uint8)
    clean = load(workdir)(picture.astype(np.float32) / 255)
    np.testing.assert_allclose(clean.mean((0, 1)), [0.4709965, 0.5831133, 0.52115345], atol=1e-6)
    np.testing.assert_allclose(clean[3, 5], [0.06572398, 0.9534062, 0.27010414], atol=1e-6)


def test_training_goes_on(workdir, pairs):
    Path("pairs").symlink_to(pairs)
    assert train(with_train(CONFIG, steps=6), workdir, quiet=True).finished
    rows = logged(workdir)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["loss"] for row in rows[4:]] == pytest.approx([0.09345787, 0.07976761], rel=1e-4)
    assert [row["gradient_norm"] for row in rows[4:]] == pytest.approx([0.44903144, 0.48760930], rel=1e-4)
