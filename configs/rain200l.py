"""Rain200L with the paper's settings (section 4.1; table 6)."""

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import load_config


def get_config() -> ExperimentConfig:
    sets = {"data.root": "data/rain200l", "data.train.0.dataset": "rain200l", "data.test.dataset": "rain200l"}
    return load_config("rain200h", {"name": "rain200l", **sets})
