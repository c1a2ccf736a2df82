"""Decides by activations what shapes and names leave open.

A user's network is run once and recorded. Then our network is run with their recorded outputs in place of its
convolutions: each of ours is one of theirs that took an equal input. Queries, keys and values of neighbouring levels
may share an input; every assignment is tried, and the correct one is that whose result appears in the recording.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (as all PyTorch code calls it)
from torch import Tensor, nn

from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.foreign.matching import Alignment, Match
from multifocal_jax.interop.foreign.user_module import Recording, UserModule, record
from multifocal_jax.interop.running import to_torch
from multifocal_jax.interop.torch_network import SpatialCSSAB, TorchNet

_TOLERANCE = 1e-9  # relative; both sides compute in float64


def settle(alignment: Alignment, user: UserModule) -> Alignment:
    """The alignment with every convolution certain, by the network to which the tensors belong; certain ones are kept.

    Raises:
        ConversionError: at some block no assignment explains the recording: the networks differ there.
    """
    size = 3 * alignment.model.multiple
    images = np.random.default_rng(0).random((1, size, size + alignment.model.multiple, 3))
    settled = _Follower(alignment, record(user, images)).follow(to_torch(images))
    matches = tuple(Match(match.ours, settled[match.ours.flax], True) for match in alignment.matches)
    return replace(alignment, matches=matches)


def _same(theirs: Tensor, ours: Tensor) -> bool:
    """Whether both are equal; theirs may have all positions in one axis, as linear layers take them."""
    ours = ours.flatten(2) if theirs.ndim == 3 else ours
    return theirs.shape == ours.shape and bool((theirs - ours).abs().max() <= _TOLERANCE * ours.abs().max())


class _Call(nn.Module):
    """A function in place of a part of the network."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *features: Tensor) -> Tensor:
        return self.function(*features)


class _Follower:
    """Follows our network through the recording of theirs; `settled` are their names of our convolutions."""

    def __init__(self, alignment: Alignment, recording: Recording) -> None:
        self.model, self.recording = alignment.model, recording
        self.matches = {match.ours.flax: match for match in alignment.matches}
        self.settled: dict[str, str] = {}
        self.entrance: dict[str, Tensor] = {}
        self.seen = [*recording.inputs.values(), *recording.others]

    def follow(self, image: Tensor) -> dict[str, str]:
        network, blocks = TorchNet(self.model), {}
        for name, match in self.matches.items():
            if name.endswith(".query"):
                blocks[match.ours.torch.removesuffix(".query.conv")] = name.removesuffix(".query")
            network.set_submodule(match.ours.torch, _Call(functools.partial(self.conv, name)))
        for path, block in blocks.items():
            network.set_submodule(path, _Call(functools.partial(self.block, block, network.get_submodule(path))))
        network.set_submodule("fusion", _Call(lambda features: 0 * image))  # its shapes are unique
        with torch.inference_mode():
            network(image)
        return self.settled | {name: self.names(name)[0] for name in ("fusion.merge", "fusion.residual")}

    def names(self, ours: str) -> list[str]:
        """Their convolutions that may still be this one of ours."""
        match, taken = self.matches[ours], self.settled.values()
        if match.certain:
            return [match.theirs]
        alike = [other for other in self.matches.values() if other.ours.torch_shape == match.ours.torch_shape]
        return [other.theirs for other in alike if not other.certain and other.theirs not in taken]

    def fitting(self, ours: str, given: Tensor) -> list[str]:
        """Those of them that received exactly this input."""
        inputs = self.recording.inputs
        found = [name for name in self.names(ours) if name in inputs and _same(inputs[name], given)]
        if not found:
            raise ConversionError(
                f"no convolution of the given network takes the input of {ours}: the networks differ before it "
                "(heads and other switches that tensors do not show are set by `model NAME=VALUE`)"
            )
        return found

    def conv(self, ours: str, given: Tensor) -> Tensor:
        """Decide a convolution that its input identifies, and return its output."""
        halves = ".down_" in ours or ".reduce_" in ours
        size = tuple(side // 2 if halves else side for side in given.shape[2:])
        outputs = self.recording.outputs
        found = [name for name in self.fitting(ours, given) if outputs[name].shape[2:] == size]
        if not found:
            raise ConversionError(f"no convolution of the given network does what {ours} does")
        leads = [name for name in found if len(found) > 1 and self.recognised(F.relu(outputs[name]))]
        self.settled[ours] = [*leads, *found][0]
        return outputs[self.settled[ours]]

    def block(self, place: str, cssab: Any, large: Tensor, small: Tensor) -> Tensor:
        """Decide query, key and value of a CSSAB: the result of the right choice must appear in the recording."""
        sources = {"query": large, "key": small, "value": small if isinstance(cssab, SpatialCSSAB) else large}
        if f"{place}.value" not in self.matches:
            del sources["value"]
        options = [self.fitting(f"{place}.{role}", given) for role, given in sources.items()]
        for choice in itertools.product(*options):
            if len(set(choice)) < len(choice):
                continue
            for role, name in zip(sources, choice, strict=True):
                getattr(cssab, role).conv = _Call(
                    lambda given, output=self.recording.outputs[name]: output.reshape(given.shape)
                )
            result = cssab(large, small)
            if self.recognised(result) or self.fused(place, result):
                self.settled |= {f"{place}.{role}": name for role, name in zip(sources, choice, strict=True)}
                self.entrance.setdefault(place.rpartition(".")[2], result)
                return result
        raise ConversionError(
            f"no choice of query, key and value makes {place} of the given network: the networks differ in "
            "this block (switches that tensors do not show are set by `model NAME=VALUE`)"
        )

    def recognised(self, tensor: Tensor) -> bool:
        """Whether this tensor occurs in the recording."""
        return any(_same(other, tensor) for other in self.seen)

    def fused(self, place: str, result: Tensor) -> bool:
        """Whether this result of a last block, which leads nowhere else, is the fusion's input at its level."""
        stage, kind, level = place.split(".")
        if kind != "spatial" or stage != (f"module_{self.model.modules - 1}" if self.model.modules else "entrance"):
            return False
        if self.model.global_skip:
            result = result + self.entrance.get(level, result)
        scale, width = 2 ** int(level.removeprefix("level_")), self.model.channels
        if scale > 1:
            result = F.interpolate(result, scale_factor=scale, mode="bilinear", align_corners=False)
        given = self.recording.inputs.get(self.names("fusion.merge")[0])
        start = width * (scale.bit_length() - 1)
        return given is not None and _same(given[:, start : start + width], result)
