"""Every row of the paper's tables 1 to 4, trained on Rain200H: configs/ablation.py:NAME.

Names: model_1 … model_6 (table 1), heads_N (table 2), modules_N (table 3), channels_N (table 4).
"""

import dataclasses
from pathlib import Path

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
        raise ConfigError(f"configs/ablation.py:{row}: no such row; known: {', '.join(ROWS)}")
    base = load_config(str(Path(__file__).with_name("rain200h.py")))
    return dataclasses.replace(base, name=row, model=dataclasses.replace(base.model, **ROWS[row]))
