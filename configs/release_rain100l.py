"""The released weights `rain100l`: the default network on the 200 official pairs of Rain100L, 20 of them held out.

The full budget is 1.28 million crops of 128×128, a little more than the paper's 1.26 million, for one large GPU. It
needs neither Grain nor TensorFlow Datasets nor tensorboardX: the decoded pictures are kept on the device. The same
command resumes from the newest checkpoint of its workdir. docs/weights/ describes how smaller networks are trained.
"""

from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="rain100l",
        model=ModelConfig(),
        data=DataConfig(
            root="data",
            train=(SourceConfig(dataset="rain100l", root="rain100l"),),
            test=SourceConfig(dataset="rain100l", root="rain100l", split="test"),
            held_out=20,
            crop_size=128,
            flips=True,
            mode="device",
        ),
        train=TrainConfig(
            steps=80_000,
            batch_size=16,
            learning_rate=4e-4,
            schedule="cosine",
            warmup_steps=1000,
            clip_norm=1.0,
            eval_every=5000,
            checkpoint_every=1000,
            keep=1,
            tensorboard=False,
        ),
    )
