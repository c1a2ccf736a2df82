"""Which weights file a user means: a file, a training's workdir, or weights that come with the package."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from etils import epath

from multifocal_jax.config import ModelConfig
from multifocal_jax.config_files import changed_fields
from multifocal_jax.errors import UserError
from multifocal_jax.paths import as_path
from multifocal_jax.weights import Description, Weights, WeightsError, describe_weights, load_weights

WORKDIR_FILE = "weights.safetensors"  # what training writes into its workdir
DEFAULT_NAME = "general-small"  # packaged weights that `load()` and `derain` use by default


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that come with the package."""

    name: str
    path: Path
    about: Description

    def __str__(self) -> str:
        """A description in a few lines."""
        model, record = self.about.model, self.about.record
        default = " (default)" if self.name == DEFAULT_NAME else ""
        lines = [
            f"{self.name}{default}, version {record.get('release', 1)}: {record['purpose']}",
            f"  network: {model.channels} channels, {model.modules} modules, {model.residual_blocks} residual blocks; "
            f"{self.about.parameters:,} parameters, {self.about.size / 1e6:.1f} MB",
            f"  trained on: {record['data']}; {record['images']:,} crops",
        ]
        for row in record["scores"]:
            psnr, ssim = row["result"]["uint8"]
            before = "" if row["input"] is None else ", rainy {:.2f} dB / {:.4f}".format(*row["input"]["uint8"])
            lines.append(f"  {row['title']} ({row['pictures']}): {psnr:.2f} dB / {ssim:.4f}{before}")
        return "\n".join(lines)


def pretrained_folder() -> Path:
    """The package's folder of weights."""
    return Path(str(files("multifocal_jax"))) / "pretrained"


def packaged_weights() -> dict[str, Path]:
    """Weights that come with the package, by name."""
    return {path.stem: path for path in sorted(pretrained_folder().glob("*.safetensors"))}


def list_weights() -> list[PackagedWeights]:
    """The packaged weights, the default first; only the headers of the files are read."""
    found = [PackagedWeights(name, path, describe_weights(path)) for name, path in packaged_weights().items()]
    return sorted(found, key=lambda weights: weights.name != DEFAULT_NAME)


def load_weights_for(name_or_path: epath.PathLike, model: ModelConfig) -> Weights:
    """Load the weights that `find_weights` finds, which must have this architecture.

    Raises:
        WeightsError: they cannot be found or read, or have another architecture; the message gives fitting overrides.
    """
    path = find_weights(name_or_path)
    weights = load_weights(path)
    if weights.model != model:
        changed = changed_fields(model, weights.model)
        raise WeightsError(
            f"{path} holds another architecture than the config ({', '.join(map(str, changed))}); take the config that "
            f"they were trained with, or add {' '.join(change.override('config.model.') for change in changed)}"
        )
    return weights


def find_weights(name_or_path: epath.PathLike = DEFAULT_NAME) -> Path:
    """Find the file of weights: a `.safetensors` file, a workdir of a training, or the name of packaged weights.

    Raises:
        WeightsError: nothing has this name; the message lists the packaged weights.
    """
    path, packaged = as_path(name_or_path), packaged_weights()
    for candidate in (path, path / WORKDIR_FILE, packaged.get(str(name_or_path))):
        if candidate and candidate.is_file():
            return candidate
    if path.is_dir():
        raise WeightsError(f"{path} holds no {WORKDIR_FILE}; a training writes it with every score, and at the end")
    raise WeightsError(
        f"weights {str(name_or_path)!r} are neither a file nor a workdir nor packaged; packaged: {', '.join(packaged)}"
    )


def lineage(record: Mapping[str, Any]) -> tuple[list[tuple[str, Mapping[str, Any]]], str]:
    """The records of trained weights and of those that each training started from, the last training first.

    Returns:
        The weights, as the training names them, and their records, as far as these say what was trained on; and why
        earlier ones are missing, in words, which is empty if the first training started from random weights.
    """
    found: list[tuple[str, Mapping[str, Any]]] = []
    whose, seen = "the weights", set[Path]()
    while True:
        if "config" not in record:
            return found, f"the record of {whose} does not say what was trained on"
        found.append((whose, record))
        try:
            start = record["config"]["train"]["init_weights"]
        except (KeyError, TypeError):
            return found, f"the record of {whose} is of another version"
        if not start:
            return found, ""
        try:
            file = find_weights(start)
            record = describe_weights(file).record
        except UserError:  # also an address that cannot be reached
            return found, f"training started from {start}, which is not there any more"
        if file in seen:
            return found, f"training started from {start}, which it has overwritten since"
        whose = start
        seen.add(file)
