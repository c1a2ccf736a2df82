"""A small network on scikit-image's photographs with heavy synthesised rain: minutes on two CPU cores."""

from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="demo",
        model=ModelConfig(channels=16, modules=2, heads=4),
        data=DataConfig(
            train=(SourceConfig(dataset="demo", split="train", rain="heavy"),),
            test=SourceConfig(dataset="demo", split="test", rain="heavy"),
            crop_size=64,
        ),
        train=TrainConfig(
            steps=600,
            batch_size=8,
            learning_rate=2e-3,
            schedule="cosine",
            warmup_steps=50,
            clip_norm=1.0,
            checkpoint_every=300,
        ),
    )
