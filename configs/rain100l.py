"""Rain100L with the paper's settings (section 4.1); the paper itself does not use this set."""

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import load_config


def get_config() -> ExperimentConfig:
    sets = {"data.root": "data/rain100l", "data.train.0.dataset": "rain100l", "data.test.dataset": "rain100l"}
    return load_config("rain200h", {"name": "rain100l", **sets})
