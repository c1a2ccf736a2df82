"""Rain200L with the paper's settings (section 4.1; table 6)."""

from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="rain200l",
        model=ModelConfig(channels=64, modules=8, heads=4),
        data=DataConfig(
            root="data/rain200l",
            train=(SourceConfig(dataset="rain200l", split="train"),),
            test=SourceConfig(dataset="rain200l", split="test"),
            crop_size=128,
        ),
        train=TrainConfig(
            epochs=700,
            batch_size=4,
            learning_rate=2e-4,
            schedule="step",
            decay_epochs=100,
            decay_factor=0.5,
            loss="mae",
        ),
    )
