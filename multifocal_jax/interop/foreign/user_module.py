"""A user's own PyTorch network: loads its code and weights, and records its activations."""

import importlib.util
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.running import listen, to_torch
from multifocal_jax.interop.torch_files import TorchCheckpoint

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class UserModule:
    """A user's network with its tensors."""

    network: "torch.nn.Module"  # in float64 and evaluation mode, on CPU
    prefix: str  # of its names, before those of the checkpoint as read

    def tensor(self, name: str) -> "torch.Tensor | None":
        """A parameter by the checkpoint's name, ready for gradients; None if there is none, such as a bias."""
        own = self.network.state_dict(keep_vars=True)
        found = own.get(self.prefix + name, own.get(name))
        return None if found is None else found.requires_grad_()

    def derain(self, pictures: "torch.Tensor") -> "torch.Tensor":
        """The network's output for pictures (B, 3, H, W): the first of its results with their shape.

        Raises:
            ConversionError: its code fails, or it does not return a picture.
        """
        kind = type(self.network).__name__
        try:
            result = self.network(pictures)
        except Exception as error:  # the user's code may raise anything
            raise ConversionError(f"running {kind} raised {_one_line(error)}") from error
        found = [(tensor, tuple(getattr(tensor, "shape", ()))) for tensor in _listed(result)]
        for tensor, shape in found:
            if shape == tuple(pictures.shape):
                return tensor
        shapes = ", ".join(str(shape) for _, shape in found)
        raise ConversionError(f"{kind} returned no picture of shape {tuple(pictures.shape)}, but {shapes}")


def load_user_module(
    place: str, checkpoint: TorchCheckpoint, arguments: Mapping[str, Any], spare: Collection[str] = ()
) -> UserModule:
    """Run a user's file, build the network and load the checkpoint's tensors into it, which have its names.

    `place` is `FILE.py:CLASS`. The file is executed: it must be trusted. The class need not have the `spare` tensors.

    Raises:
        ConversionError: the file or class does not exist, its code fails, or the tensors do not fit the class.
    """
    import torch

    network = _build(place, arguments)
    own = network.state_dict()
    prefixes = (checkpoint.prefix, checkpoint.class_prefix, "")
    prefix = next(prefix for prefix in prefixes if not prefix or any(name.startswith(prefix) for name in own))
    names = {name: prefix + name if prefix + name in own else name for name in checkpoint.tensors}
    tensors = {
        names[name]: torch.from_numpy(np.array(value))
        for name, value in checkpoint.tensors.items()
        if name not in spare or names[name] in own
    }
    problems = [f"missing {key}" for key in own if key not in tensors]
    problems += [f"extra {key}" for key in tensors if key not in own]
    problems += [
        f"misshapen {key}: {tuple(tensors[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    if problems:
        raise ConversionError(f"{checkpoint.path} is not a checkpoint of {place}:\n  " + "\n  ".join(problems))
    network.load_state_dict(tensors)
    return UserModule(network.double().eval(), prefix)


def _build(place: str, arguments: Mapping[str, Any]) -> "torch.nn.Module":
    import torch

    def error(problem: str) -> ConversionError:
        return ConversionError(f"`torch_module {place}`: {problem}")

    file, _, name = place.rpartition(":")
    if not name or Path(place).is_file():
        raise error("the class is missing; expected FILE.py:CLASS")
    if not file or not Path(file).is_file():
        raise error(f"expected FILE.py:CLASS, and no file {file or place!r} exists")
    spec = importlib.util.spec_from_file_location(f"user_module_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise error(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(Path(file).resolve().parent)
    sys.path.insert(0, folder)  # as `python FILE.py` does, for its neighbours
    sys.modules[spec.name] = module  # where dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as raised:  # the user's code may raise anything
        raise error(f"running {file} raised {_one_line(raised)}") from raised
    finally:
        sys.path.remove(folder)
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise error(f"{file} has no {name}; its classes: {', '.join(known)}")
    try:
        network = getattr(module, name)(**arguments)
    except Exception as raised:  # likewise
        hint = """give its constructor's arguments as `torch_args '{"channels": 64}'`"""
        raise error(f"making {name} raised {_one_line(raised)}; {hint}") from raised
    if not isinstance(network, torch.nn.Module):
        raise error(f"{name} makes a {type(network).__name__}, no torch.nn.Module")
    return network


def _one_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) else [result]


class Recording(NamedTuple):
    """A recording of a network's run on one batch, in its own layout (B, C, H, W), or (B, C, N) for N positions."""

    # Of every convolution, linear layers included, by the checkpoint's name; of the last call if several.
    inputs: dict[str, "torch.Tensor"]
    outputs: dict[str, "torch.Tensor"]  # likewise
    others: list["torch.Tensor"]  # outputs of all other modules that are tensors
    output: "torch.Tensor"  # of the network


def record(user: UserModule, images: np.ndarray) -> Recording:
    """Run a network on (B, H, W, 3) in [0, 1] and record the inputs and outputs of its modules.

    Raises:
        ConversionError: the network's code fails, or it returns no picture.
    """
    import torch

    inputs: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}
    others: list[torch.Tensor] = []

    def hear(name: str, module: Any, given: Any, output: Any) -> None:
        name = name.removeprefix(user.prefix)
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv1d | torch.nn.Linear):
            channels = -1 if isinstance(module, torch.nn.Linear) else 1
            # Copies: an in-place activation would change the recording.
            inputs[name], outputs[name] = (tensor.movedim(channels, 1).clone() for tensor in (given[0], output))
        else:
            others.extend(tensor.clone() for tensor in _listed(output) if isinstance(tensor, torch.Tensor))

    output = listen(user.network, hear, lambda: user.derain(to_torch(images.astype(np.float64))))
    return Recording(inputs, outputs, others, output)
