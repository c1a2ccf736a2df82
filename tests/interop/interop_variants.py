"""Every row of the paper's ablation tables and every open switch, at a size that tests can afford."""

import pytest

from multifocal_jax.config import ModelConfig

SWITCHES = {
    "default": {},
    "model_1": {"pyramid": "gaussian"},
    "model_2": {"pyramid": "average"},
    "model_3": {"interaction": "single_scale"},
    "model_4": {"interaction": "convolution"},
    "model_5": {"interaction": "spatial"},
    "model_6": {"interaction": "channel"},
    "heads_1": {"heads": 1},
    "heads_2": {"heads": 2},
    "heads_8": {"heads": 8},
    "heads_16": {"heads": 16, "channels": 16},
    "modules_0": {"modules": 0},
    "modules_2": {"modules": 2},
    "channels_12": {"channels": 12},
    "levels_1": {"levels": 1},
    "levels_2": {"levels": 2},
    "levels_4": {"levels": 4},
    "spp_2_5": {"spp_sizes": (2, 5)},
    "residual_blocks": {"residual_blocks": 2},
    "projection_3x3": {"projection_kernel": 3},
    "softmax_over_queries": {"channel_softmax": "query"},
    "value_unprojected": {"value_projection": False},
    "no_global_skip": {"global_skip": False},
    "open_switches": {
        "levels": 2,
        "spp_sizes": (2, 5),
        "residual_blocks": 1,
        "projection_kernel": 3,
        "channel_softmax": "query",
        "value_projection": False,
        "global_skip": False,
    },
}
# Run every time; `make stress` takes the others as well, one switch at a time.
QUICK = ("default", *(f"model_{row}" for row in range(1, 7)), "heads_2", "modules_2", "open_switches")


def small(**switches) -> ModelConfig:
    return ModelConfig(**{"channels": 8, "modules": 1, **switches})


VARIANTS = {name: small(**switches) for name, switches in SWITCHES.items()}


def each_variant(quick=QUICK):
    """All variants as parameters of a test, those not in `quick` for `make stress`."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in VARIANTS]
