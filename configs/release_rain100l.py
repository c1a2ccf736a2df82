"""The released weights `rain100l`: the default network on the 200 official pairs of Rain100L, 20 of them held out.

The full budget is 1.28 million crops of 128×128, a little more than the paper's 1.26 million, for one large GPU. It
needs neither Grain nor TensorFlow Datasets nor tensorboardX: the decoded pictures are kept on the device. The same
command resumes from the newest checkpoint of its workdir. docs/weights/ describes how smaller networks are trained.

180 pairs are few for so many crops. More are made of them, without those held out, by
`multifocal data recombine data/rain100l data/rain100l_recombined --held-out 20`.
"""

from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="rain100l",
        model=ModelConfig(),
        data=DataConfig(
            root="data",
            train=(
                SourceConfig(dataset="rain100l", root="rain100l", held_out=20),
                SourceConfig(dataset="folder", root="rain100l_recombined"),
            ),
            test=SourceConfig(dataset="rain100l", root="rain100l", split="test"),
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
