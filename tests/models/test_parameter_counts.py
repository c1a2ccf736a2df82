"""Parameter counts of every variant, as fixed by the reconstruction of the paper (docs/reconstruction.md)."""

import importlib.util
from pathlib import Path

import pytest

from multifocal_jax.config import ModelConfig
from multifocal_jax.config_files import load_config
from multifocal_jax.cost import count_parameters

ABLATION = Path(__file__).parents[2] / "configs" / "ablation.py"
DEFAULT = 5_185_771
COUNTS = {
    "model_1": 5_185_603,
    "model_2": 5_185_603,
    "model_3": DEFAULT,
    "model_4": 8_312_683,
    "model_5": 4_886_251,
    "model_6": 4_848_811,
    **{f"heads_{n}": DEFAULT for n in (1, 2, 4, 8, 16)},
    "modules_6": 3_928_171,
    "modules_7": 4_556_971,
    "modules_8": DEFAULT,
    "modules_9": 5_814_571,
    "modules_10": 6_443_371,
    "channels_32": 1_302_731,
    "channels_64": DEFAULT,
    "channels_96": 11_649_291,
}


def test_default():
    assert count_parameters(ModelConfig()) == DEFAULT


@pytest.mark.parametrize("row", COUNTS)
def test_ablation(row):
    assert count_parameters(load_config(f"ablation:{row}").model) == COUNTS[row]


def test_every_row_is_pinned():
    spec = importlib.util.spec_from_file_location("ablation", ABLATION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.ROWS) == set(COUNTS)
