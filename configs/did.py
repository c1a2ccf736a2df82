"""DID with the paper's settings (section 4.1; table 6): 12,000 training pairs of three rain densities."""

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import load_config


def get_config() -> ExperimentConfig:
    sets = {"data.root": "data/did", "data.train.0.dataset": "did", "data.test.dataset": "did"}
    return load_config("rain200h", {"name": "did", **sets})
