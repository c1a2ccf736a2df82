"""Every row of the paper's tables 1 to 4, trained on Rain200H: ablation:NAME.

Names: model_1 … model_6 (table 1), heads_N (table 2), modules_N (table 3), channels_N (table 4).
"""

from multifocal_jax.config import ConfigError, ExperimentConfig
from multifocal_jax.config_files import load_config

ROWS = {
    "model_1": {"pyramid": "gaussian"},
    "model_2": {"pyramid": "average"},
    "model_3": {"interaction": "single_scale"},
    "model_4": {"interaction": "convolution"},
    "model_5": {"interaction": "spatial"},
    "model_6": {"interaction": "channel"},
    **{f"heads_{n}": {"heads": n} for n in (1, 2, 4, 8, 16)},
    **{f"modules_{n}": {"modules": n} for n in (6, 7, 8, 9, 10)},
    **{f"channels_{n}": {"channels": n} for n in (32, 64, 96)},
}


def get_config(row: str) -> ExperimentConfig:
    if row not in ROWS:
        raise ConfigError(f"ablation:{row}: no such row; known: {', '.join(ROWS)}")
    return load_config("rain200h", {"name": row, **{f"model.{field}": value for field, value in ROWS[row].items()}})
