"""DID with the paper's settings (section 4.1; table 6): 12,000 training pairs of three rain densities."""

from multifocal_jax.config import DataConfig, ExperimentConfig, ModelConfig, SourceConfig, TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="did",
        model=ModelConfig(channels=64, modules=8, heads=4),
        data=DataConfig(
            root="data/did",
            train=(SourceConfig(dataset="did", split="train"),),
            test=SourceConfig(dataset="did", split="test"),
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
