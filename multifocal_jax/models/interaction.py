"""Interaction between adjacent levels: the CSSABs of the paper and the alternatives of its table 1."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.models.channel_cssab import ChannelCSSAB
from multifocal_jax.models.layers import Block
from multifocal_jax.models.spatial_cssab import SpatialCSSAB
from multifocal_jax.ops import upsample_bilinear


class ConvolutionInteraction(Block):
    """Model-4 of table 1, which replaces a CSSAB: F_out = F_in + ReLU(conv3×3([F_in, up(F_small)]))."""

    @nn.compact
    def __call__(self, large: Float[Array, "b h w c"], small: Float[Array, "b h2 w2 c"]) -> Float[Array, "b h w c"]:
        up = upsample_bilinear(small, large.shape[1] // small.shape[1])
        both = jnp.concatenate([large, up], axis=-1)
        out = large + nn.relu(self.conv("conv", self.config.channels)(both))
        self.capture(out=out)
        return out


class Interaction(Block):
    """One CSSAB per level, each from a level (large) and the next smaller one; the bottom level attends to itself.

    All levels read the features as they were before the update. `config.interaction` selects the row of table 1:
    "single_scale" lets every level read itself (Model-3), "convolution" replaces every CSSAB (Model-4), "spatial"
    and "channel" keep only the CSSABs of that kind (Models 5 and 6).
    """

    kind: Literal["spatial", "channel"] = "spatial"

    @nn.compact
    def __call__(self, features: Sequence[Float[Array, "b _ _ c"]]) -> list[Float[Array, "b _ _ c"]]:
        mode = self.config.interaction
        if mode in ("spatial", "channel") and mode != self.kind:
            return list(features)
        if mode == "convolution":
            kind = ConvolutionInteraction
        else:
            kind = SpatialCSSAB if self.kind == "spatial" else ChannelCSSAB
        neighbours = features if mode == "single_scale" else [*features[1:], features[-1]]
        return [
            self.block(f"level_{level}", kind)(large, small)
            for level, (large, small) in enumerate(zip(features, neighbours, strict=True))
        ]
