"""A user's own PyTorch network: loads its code and weights, and records its activations."""

import importlib.util
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.torch_files import TorchCheckpoint

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class UserModule:
    """A user's network with its tensors.

    Attributes:
        network: in float64 and evaluation mode, on CPU.
        prefix: of its names, before those of the checkpoint as read.
    """

    network: "torch.nn.Module"
    prefix: str

    def tensor(self, name: str) -> "torch.Tensor":
        """A parameter by the checkpoint's name, ready for gradients."""
        own = self.network.state_dict(keep_vars=True)
        return own[self.prefix + name if self.prefix + name in own else name].requires_grad_()

    def derain(self, pictures: "torch.Tensor") -> "torch.Tensor":
        """The network's output for pictures (B, 3, H, W): the first of its results with their shape.

        Raises:
            ConversionError: its code fails, or it does not return a picture.
        """
        import torch

        kind = type(self.network).__name__
        try:
            result = self.network(pictures)
        except Exception as error:  # the user's code may raise anything
            raise ConversionError(f"running {kind} raised {_one_line(error)}") from error
        found = list(result) if isinstance(result, tuple | list) else [result]
        for tensor in found:
            if isinstance(tensor, torch.Tensor) and tensor.shape == pictures.shape:
                return tensor
        shapes = ", ".join(str(tuple(getattr(tensor, "shape", ()))) for tensor in found)
        raise ConversionError(f"{kind} returned no picture of shape {tuple(pictures.shape)}, but {shapes}")


def load_user_module(
    place: str, checkpoint: TorchCheckpoint, arguments: Mapping[str, Any], spare: Collection[str] = ()
) -> UserModule:
    """Run a user's file, build the network and load the checkpoint's tensors into it.

    Args:
        place: `FILE.py:CLASS`. The file is executed: it must be trusted.
        checkpoint: tensors under the names of that class.
        arguments: of the constructor.
        spare: tensors that the class need not have.

    Raises:
        ConversionError: the file or class does not exist, its code fails, or the tensors do not fit the class.
    """
    import torch

    file, _, name = place.rpartition(":")
    if not file or not Path(file).is_file():
        raise ConversionError(f"--torch-module {place}: expected FILE.py:CLASS, and no file {file or place!r} exists")
    spec = importlib.util.spec_from_file_location(f"user_module_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise ConversionError(f"--torch-module {place}: {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(Path(file).resolve().parent)
    sys.path.insert(0, folder)  # as `python FILE.py` does, for its neighbours
    sys.modules[spec.name] = module  # where dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise ConversionError(f"--torch-module {place}: running {file} raised {_one_line(error)}") from error
    finally:
        sys.path.remove(folder)
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ConversionError(f"--torch-module {place}: {file} has no {name}; its classes: {', '.join(known)}")
    try:
        network = getattr(module, name)(**arguments)
    except Exception as error:  # likewise
        raise ConversionError(
            f"--torch-module {place}: making {name} raised {_one_line(error)}; give its constructor's arguments as "
            """--torch-args '{"channels": 64}'"""
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise ConversionError(f"--torch-module {place}: {name} makes a {type(network).__name__}, no torch.nn.Module")
    own = network.state_dict()
    prefix = checkpoint.prefix if any(name.startswith(checkpoint.prefix) for name in own) else ""
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


def _one_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


@dataclass(frozen=True)
class Recording:
    """A recording of a network's run on one batch, in its own layout (B, C, H, W).

    Attributes:
        inputs: of every convolution by the checkpoint's name; of the last call if there are several.
        outputs: likewise.
        others: outputs of all other modules that are tensors.
        output: of the network.
    """

    inputs: dict[str, "torch.Tensor"]
    outputs: dict[str, "torch.Tensor"]
    others: tuple["torch.Tensor", ...]
    output: "torch.Tensor"


def record(user: UserModule, images: np.ndarray) -> Recording:
    """Run a network and record the inputs and outputs of its modules.

    Args:
        user: the network, taking (B, 3, H, W).
        images: (B, H, W, 3) in [0, 1].

    Raises:
        ConversionError: the network's code fails, or it returns no picture.
    """
    import torch

    inputs: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}
    others: list[torch.Tensor] = []

    def listen(name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(module, torch.nn.Conv2d):
                # Copies: an in-place activation would change the recording.
                inputs[name], outputs[name] = args[0].clone(), output.clone()
            else:
                found = output if isinstance(output, tuple | list) else [output]
                others.extend(tensor.clone() for tensor in found if isinstance(tensor, torch.Tensor))

        return hook

    handles = [
        module.register_forward_hook(listen(name.removeprefix(user.prefix)))
        for name, module in user.network.named_modules()
        if name
    ]
    picture = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float64))
    try:
        with torch.inference_mode():
            output = user.derain(picture)
    finally:
        for handle in handles:
            handle.remove()
    return Recording(inputs, outputs, tuple(others), output)
