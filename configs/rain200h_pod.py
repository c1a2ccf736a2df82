"""Rain200H on many devices: a large batch that sees as many crops as the paper's 700 epochs.

The learning rate is scaled with the square root of the batch, as suits Adam, and starts with a warm-up; the schedule is
in epochs and therefore unchanged from the paper.
"""

import math

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import load_config

BATCH_SIZE = 256  # over all devices: 8 crops on each of 32, 1 on each of 256


def get_config() -> ExperimentConfig:
    paper = load_config("rain200h").train
    return load_config(
        "rain200h",
        {
            "name": "rain200h_pod",
            "train.batch_size": BATCH_SIZE,
            "train.learning_rate": paper.learning_rate * math.sqrt(BATCH_SIZE / paper.batch_size),
            "train.warmup_steps": 200,
            "train.clip_norm": 1.0,
            "train.precision": "bfloat16",
            "train.checkpoint_every": 500,
        },
    )
