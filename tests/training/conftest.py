import numpy as np
import pytest
from PIL import Image

from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig
from tests.training.helpers import with_fields


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """A folder of six pairs of 24×32 pixels: smooth clean pictures and the same with bright bars."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for side in ("rain", "norain"):
        (root / side).mkdir()
    for number in range(6):
        y, x = np.mgrid[:24, :32]
        waves = np.stack([np.sin(x / rng.uniform(3, 9)) * np.cos(y / rng.uniform(3, 9)) for _ in range(3)], axis=-1)
        clean = np.uint8(90 + 60 * waves)
        rainy = clean.copy()
        rainy[:, rng.integers(0, 32, 6)] += 60
        for side, picture in (("rain", rainy), ("norain", clean)):
            Image.fromarray(picture).save(root / side / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def tiny(pairs):
    """An experiment of seconds: one level, no module, 16×16 crops."""
    return ExperimentConfig(
        name="tiny",
        model=ModelConfig(channels=4, modules=0, heads=2, levels=1, spp_sizes=(1, 2)),
        data=DataConfig(
            root=str(pairs),
            train=(SourceConfig(dataset="folder"),),
            test=SourceConfig(dataset="folder"),
            crop_size=16,
        ),
        train=TrainConfig(
            steps=8, batch_size=8, learning_rate=1e-3, log_every=2, checkpoint_every=4, tensorboard=False
        ),
    )


@pytest.fixture(scope="session")
def attentive(tiny):
    """The same with a module, and so with attention."""
    return with_fields(tiny, model={"modules": 1})
