"""A network so small that it compiles in a moment, with random parameters, for tests of what is around it."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
from PIL import Image

from multifocal_jax import ModelConfig, MultifocalNet
from multifocal_jax.cli.main import run
from multifocal_jax.weights import Weights, save_weights

CONFIG = """
from multifocal_jax.config import *

def get_config():
    return ExperimentConfig(
        name="folder", model=ModelConfig(channels=4, modules=0, heads=1, levels=1, spp_sizes=(1, 3)),
        data=DataConfig(root="pairs", train=(SourceConfig(dataset="folder"),), test=SourceConfig(dataset="folder")),
    )
"""
TINY = ModelConfig(channels=4, modules=0, heads=1, levels=1, spp_sizes=(1, 3))


def random_params(model: ModelConfig = TINY):
    """Parameters uniform in ±0.2; drawn by NumPy, as compiling the initialiser takes longer than these tests."""
    side = np.zeros((1, model.multiple, model.multiple, 3), np.float32)
    shapes = jax.eval_shape(MultifocalNet(model).init, jax.random.key(0), side)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(-0.2, 0.2, leaf.shape).astype(np.float32), shapes)


def simply(image: np.ndarray) -> np.ndarray:
    """What the network of the fixture `simple` gives for a picture, calculated by NumPy."""
    height, width, _ = image.shape
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="reflect")
    return image / 2 + padded.mean((0, 1)) / 4 + np.arange(width)[:, None] / 256


class Program:
    """In the place of the compiled network: 800 bytes per pixel are planned, and what goes in comes out."""

    def __init__(self, shape):
        self.plan = SimpleNamespace(
            temp_size_in_bytes=800 * shape[1] * shape[2], argument_size_in_bytes=0, output_size_in_bytes=0
        )

    def memory_analysis(self):
        return self.plan

    def __call__(self, params, batch, size):
        return np.asarray(batch, np.float32) / 255


class Listed:
    """A source of pictures in memory, given as (rainy, clean), where clean may be None."""

    def __init__(self, pictures):
        self.pictures = list(pictures)

    def __len__(self):
        return len(self.pictures)

    def name(self, index):
        return f"picture-{index}"

    def load(self, index):
        return self.pictures[index]


def save_tiny(path) -> str:
    save_weights(path, Weights(random_params(), TINY, {}))
    return str(path)


def write_experiment(config: str, sizes: dict[str, tuple[int, int]]) -> None:
    """In the working directory: a config, weights as training leaves them, and a pair of each (height, width)."""
    Path("config.py").write_text(config)
    Path("runs/folder").mkdir(parents=True)
    save_tiny("runs/folder/weights.safetensors")
    rng = np.random.default_rng(0)
    for folder in ("rain", "norain"):
        Path("pairs", folder).mkdir(parents=True)
    for name, size in sizes.items():
        clean = rng.integers(0, 200, (*size, 3)).astype(np.uint8)
        Image.fromarray(clean).save(f"pairs/norain/{name}.png")
        Image.fromarray(clean + np.uint8(30)).save(f"pairs/rain/{name}.png")


def evaluate_py(*arguments: str) -> int:
    """Run `multifocal evaluate` in this process."""
    return run(["evaluate", "--config", "config.py", *arguments])
