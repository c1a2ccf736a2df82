"""Decides by activations what shapes and names leave open.

A user's network is run once and recorded, and our network is followed through the recording: our next convolution is
one whose recorded input equals ours. Queries, keys and values of neighbouring levels may share an input; every
assignment of these is tried, and the correct one is that whose result appears in the recording.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (as all PyTorch code calls it)
from torch import Tensor, nn

from multifocal_jax.interop.errors import ConversionError
from multifocal_jax.interop.foreign.matching import Alignment, Match
from multifocal_jax.interop.foreign.user_module import Recording, UserModule, record
from multifocal_jax.interop.names import Convolution
from multifocal_jax.interop.torch_network import (
    ChannelCSSAB,
    GaussianDownsample,
    SpatialCSSAB,
)

_TOLERANCE = 1e-9  # relative; both sides compute in float64


def settle(alignment: Alignment, user: UserModule) -> Alignment:
    """The alignment with every convolution certain.

    Args:
        alignment: what is known; certain matches are kept.
        user: the network to which the tensors belong.

    Raises:
        ConversionError: at some block no assignment explains the recording: the networks differ there.
    """
    size = 3 * alignment.model.multiple
    images = np.random.default_rng(0).random((1, size, size + alignment.model.multiple, 3))
    with torch.inference_mode():
        return _Follower(alignment, record(user, images)).follow(torch.from_numpy(images).permute(0, 3, 1, 2))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= _TOLERANCE * b.abs().max())


class _Constant(nn.Module):
    """Stands in for a convolution whose output is known."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        return self.output


class _Follower:
    """Follows our network through the recording of theirs."""

    def __init__(self, alignment: Alignment, recording: Recording) -> None:
        self.alignment, self.model, self.recording = alignment, alignment.model, recording
        self.convs = {match.ours.flax: match.ours for match in alignment.matches}
        self.certain = {match.ours.flax: match.theirs for match in alignment.matches if match.certain}
        self.open = [match.theirs for match in alignment.matches if not match.certain]
        self.shapes = {match.theirs: match.ours.torch_shape for match in alignment.matches}
        self.settled: dict[str, str] = {}
        self.seen = [*recording.inputs.values(), *recording.others]

    def follow(self, image: Tensor) -> Alignment:
        model, levels = self.model, range(self.model.levels)
        images = [image]
        for level in levels[1:]:
            if model.pyramid == "learned":
                images.append(self.only(f"entrance.pyramid.reduce_{level}", images[-1]))
            else:
                fixed = GaussianDownsample() if model.pyramid == "gaussian" else nn.AvgPool2d(2)
                images.append(fixed(images[-1]))
        features = [self.only(f"entrance.shallow_{level}", images[level]) for level in levels]
        features = entrance = self.interaction("entrance.spatial", "spatial", features, last=not model.modules)
        for module in range(model.modules):
            name = f"module_{module}"
            for block in range(model.residual_blocks):
                for level in levels:
                    inner = F.relu(self.only(f"{name}.residual_{block}a_{level}", features[level]))
                    features[level] = features[level] + self.only(f"{name}.residual_{block}b_{level}", inner)
            down = [F.relu(self.only(f"{name}.down_{level}", features[level])) for level in levels]
            mixed = self.interaction(f"{name}.channel", "channel", down)
            up = [F.relu(F.pixel_shuffle(self.only(f"{name}.up_{level}", mixed[level]), 2)) for level in levels]
            features = [x + y for x, y in zip(features, up, strict=True)]
            last = module == model.modules - 1
            features = self.interaction(f"{name}.spatial", "spatial", features, last, entrance)
        for name in ("fusion.merge", "fusion.residual"):
            self.settled[name] = self.names(self.convs[name])[0]
        matches = tuple(Match(match.ours, self.settled[match.ours.flax], True) for match in self.alignment.matches)
        return replace(self.alignment, matches=matches)

    def names(self, conv: Convolution) -> list[str]:
        """Their convolutions that may still be this one of ours."""
        if conv.flax in self.certain:
            return [self.certain[conv.flax]]
        taken = set(self.settled.values())
        return [name for name in self.open if self.shapes[name] == conv.torch_shape and name not in taken]

    def fitting(self, flax: str, given: Tensor) -> list[str]:
        """Those of them that received exactly this input."""
        found = [name for name in self.names(self.convs[flax]) if name in self.recording.inputs]
        found = [name for name in found if _same(self.recording.inputs[name], given)]
        if not found:
            raise ConversionError(
                f"no convolution of the given network takes the input of {flax}: the networks differ before it "
                "(heads and other switches that tensors do not show are set by --model NAME=VALUE)"
            )
        return found

    def only(self, flax: str, given: Tensor) -> Tensor:
        """Decide a convolution that its input identifies, and return its output."""
        halves = ".down_" in flax or ".reduce_" in flax
        size = tuple(side // 2 if halves else side for side in given.shape[2:])
        found = [name for name in self.fitting(flax, given) if self.recording.outputs[name].shape[2:] == size]
        if len(found) > 1:  # by what it leads to
            leads = [name for name in found if self.recognised(F.relu(self.recording.outputs[name]))]
            found = leads or found
        if not found:
            raise ConversionError(f"no convolution of the given network does what {flax} does")
        self.settled[flax] = found[0]
        return self.recording.outputs[found[0]]

    def interaction(
        self, name: str, kind: str, features: list[Tensor], last: bool = False, entrance: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """Decide one block per level; the result must appear in the recording."""
        mode = self.model.interaction
        if mode in ("spatial", "channel") and mode != kind:
            return features
        smaller = features if mode == "single_scale" else [*features[1:], features[-1]]
        results = []
        for level, (large, small) in enumerate(zip(features, smaller, strict=True)):
            block = f"{name}.level_{level}"
            if mode == "convolution":
                raised = small
                if small.shape != large.shape:
                    raised = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
                results.append(large + F.relu(self.only(f"{block}.conv", torch.cat([large, raised], dim=1))))
                continue
            for chosen, result in self.attempts(block, kind, large, small):
                skip = entrance[level] if entrance and self.model.global_skip else 0 * result
                if self.recognised(result) or (last and self.fused(result + skip, level)):
                    self.settled |= chosen
                    results.append(result)
                    break
            else:
                raise ConversionError(
                    f"no choice of query, key and value makes {block} of the given network: the networks differ in "
                    "this block (switches that tensors do not show are set by --model NAME=VALUE)"
                )
        return results

    def attempts(self, block: str, kind: str, large: Tensor, small: Tensor) -> Iterator[tuple[dict[str, str], Tensor]]:
        """Every choice of query, key and value for a CSSAB, with its result."""
        sources = {"query": large, "key": small, "value": small if kind == "spatial" else large}
        if kind == "channel" and not self.model.value_projection:
            del sources["value"]
        options = [self.fitting(f"{block}.{role}", source) for role, source in sources.items()]
        for choice in itertools.product(*options):
            if len(set(choice)) < len(choice):
                continue
            cssab: Any = SpatialCSSAB(self.model) if kind == "spatial" else ChannelCSSAB(self.model)
            for role, name in zip(sources, choice, strict=True):
                getattr(cssab, role).conv = _Constant(self.recording.outputs[name])
            chosen = {f"{block}.{role}": name for role, name in zip(sources, choice, strict=True)}
            yield chosen, cssab(large, small)

    def recognised(self, tensor: Tensor) -> bool:
        """Whether this tensor occurs in the recording."""
        return any(_same(other, tensor) for other in self.seen)

    def fused(self, tensor: Tensor, level: int) -> bool:
        """Whether this is the fusion's input at a level; the last blocks lead nowhere else."""
        if level:
            tensor = F.interpolate(tensor, scale_factor=2**level, mode="bilinear", align_corners=False)
        given = self.recording.inputs.get(self.names(self.convs["fusion.merge"])[0])
        width = self.model.channels
        return given is not None and _same(given[:, level * width : (level + 1) * width], tensor)
