"""The released weights `general`: the default network for photographs of every kind, with little, much or no rain.

Published pairs and recombinations of them, rain synthesised in four styles over clean photographs, and pictures paired
with themselves, which teaches the network to leave a picture without rain alone: the photographs, and drawings of what
only looks like rain, made by `multifocal release lookalikes data/bsds500_clean data/lookalikes --count 209`. 20 pairs
of Rain100L (those of release_rain100l.py) and 20 photographs under each style are held out, and the drawings over
these. The command, the budget and the machine are as in that config.
"""

from multifocal_jax.config import Dataset, ExperimentConfig, SourceConfig
from multifocal_jax.config_files import load_config

# Pairs of Rain800 over scenes that Rain100L holds out, found by
# `multifocal data check data/rain800 --against data/rain100l`; none is among the photographs held out.
HELD_OUT_SCENES = ("505", "510", "512", "540", "541", "546", "569", "593", "611", "659", "661", "671")
# Drawings over the 20 photographs that are held out of the 209, by number.
HELD_OUT_DRAWINGS = tuple(f"{n * 209 // 20:04d}" for n in range(20))


def get_config() -> ExperimentConfig:
    sources = (
        SourceConfig(dataset="rain100l", root="rain100l", held_out=20, repeat=6),
        SourceConfig(dataset="rain800", root="rain800", exclude=HELD_OUT_SCENES),
        *synthesised("clean", "bsds500_clean", held_out=20),
        *synthesised("rain100l", "rain100l"),
        SourceConfig(dataset="clean", root="lookalikes", rain="identity", exclude=HELD_OUT_DRAWINGS, repeat=3),
        SourceConfig(dataset="clean", root="lookalikes", rain="real", exclude=HELD_OUT_DRAWINGS, repeat=2),
        SourceConfig(dataset="folder", root="rain100l_recombined"),
    )
    return load_config("release_rain100l", {"name": "general", "data.train": sources})


def synthesised(dataset: Dataset, root: str, held_out: int = 0) -> tuple[SourceConfig, ...]:
    """The clean pictures of a set under rain of every style, the hard ones more often, and without rain."""
    return (
        SourceConfig(dataset=dataset, root=root, rain="light", held_out=held_out),
        SourceConfig(dataset=dataset, root=root, rain="heavy", held_out=held_out, repeat=3),
        SourceConfig(dataset=dataset, root=root, rain="varied", held_out=held_out, repeat=2),
        SourceConfig(dataset=dataset, root=root, rain="real", held_out=held_out, repeat=2),
        SourceConfig(dataset=dataset, root=root, rain="identity"),
    )
