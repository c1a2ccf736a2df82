"""Rain200H on many devices: a large batch that sees as many crops as the paper's 700 epochs.

The learning rate is scaled with the square root of the batch, as suits Adam, and starts with a warm-up; the schedule is
in epochs and therefore unchanged from the paper.
"""

import dataclasses
import math
from pathlib import Path

from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import load_config

BATCH_SIZE = 256  # over all devices: 8 crops on each of 32, 1 on each of 256


def get_config() -> ExperimentConfig:
    base = load_config(str(Path(__file__).with_name("rain200h.py")))
    train = dataclasses.replace(
        base.train,
        batch_size=BATCH_SIZE,
        learning_rate=base.train.learning_rate * math.sqrt(BATCH_SIZE / base.train.batch_size),
        warmup_steps=200,
        clip_norm=1.0,
        precision="bfloat16",
        checkpoint_every=500,
    )
    return dataclasses.replace(base, name="rain200h_pod", train=train)
