"""Rain200H with the paper's settings (section 4.1; tables 1 to 4 and 6)."""

from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="rain200h",
        model=ModelConfig(channels=64, modules=8, heads=4),
        data=DataConfig(
            root="data/rain200h",
            train=(SourceConfig(dataset="rain200h", split="train"),),
            test=SourceConfig(dataset="rain200h", split="test"),
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
