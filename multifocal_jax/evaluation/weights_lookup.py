"""Which weights file a user means: a file, a training's workdir, or weights that come with the package."""

from importlib.resources import files
from pathlib import Path

from multifocal_jax.weights import WeightsError

WORKDIR_FILE = "weights.safetensors"  # what training writes into its workdir
DEFAULT_NAME = "default"  # packaged weights that `load()` takes


def packaged_weights() -> dict[str, Path]:
    """Weights that come with the package, by name."""
    folder = Path(str(files("multifocal_jax"))) / "pretrained"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find_weights(name_or_path: str | Path = DEFAULT_NAME) -> Path:
    """The file of these weights.

    Args:
        name_or_path: a `.safetensors` file, a workdir of `train.py`, or the name of packaged weights; looked up in
            this order.

    Raises:
        WeightsError: there is nothing of this name; the message lists what there is.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.is_dir():
        if not (path / WORKDIR_FILE).is_file():
            raise WeightsError(f"{path} holds no {WORKDIR_FILE}; training writes it into its workdir when it ends")
        return path / WORKDIR_FILE
    packaged = packaged_weights()
    if str(name_or_path) in packaged:
        return packaged[str(name_or_path)]
    if not packaged:
        raise WeightsError(
            f"weights {str(name_or_path)!r} are neither a file nor a workdir, and none come with this version; "
            "train some (`make demo` takes minutes) and name the workdir with --weights"
        )
    raise WeightsError(
        f"weights {str(name_or_path)!r} are neither a file, nor a workdir, nor packaged ({', '.join(packaged)})"
    )
