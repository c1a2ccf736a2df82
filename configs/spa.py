"""SPA-data scored with weights trained on Rain200H (table 5): real rain, for evaluation only."""

from multifocal_jax.config import DataConfig, EvalConfig, ExperimentConfig, SourceConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="spa",
        data=DataConfig(
            root="data/spa",
            train=(SourceConfig(dataset="spa", split="train"),),
            test=SourceConfig(dataset="spa", split="test"),
        ),
        eval=EvalConfig(weights="runs/rain200h"),
    )
