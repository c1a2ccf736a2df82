"""The whole network as functions of its parameters; the same blocks as in `models.network`."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from multifocal_jax.config import ModelConfig
from multifocal_jax.fast.convolution import convolve_relu
from multifocal_jax.fast.cssabs import Params, channel_cssab, convolution, spatial_cssabs
from multifocal_jax.fast.extent import Extent, zero_beyond
from multifocal_jax.fast.residual import residual_block
from multifocal_jax.fast.resize import upsample_bilinear
from multifocal_jax.fast.scales import add_shuffled, merge_scales
from multifocal_jax.ops import average_downsample, background, check_images, gaussian_downsample

Features = list[Float[Array, "b _ _ c"]]  # of every level, the largest first


def derain(
    config: ModelConfig, dtype: DTypeLike, variables: Any, rainy: Float[Array, "..."], size: Any = None
) -> Float[Array, "..."]:
    """Equivalent to `MultifocalNet(config, dtype).apply(variables, rainy)` up to rounding.

    Args:
        config: the architecture.
        dtype: of the computation; attention logits and softmax stay in float32 or wider.
        variables: `{"params": …}` as from `MultifocalNet.init`.
        rainy: (B, H, W, 3) in [0, 1]; H and W multiples of `config.multiple` (8 by default).
        size: two int32 in an array or tuple, height and width of the pictures if `rainy` is padded at the bottom and
            the right, with any values; multiples of `config.multiple`. One program then serves many sizes, with the
            results that it would give without the padding, up to rounding.

    Returns:
        (B, H, W, 3) in the dtype of `rainy`, not clipped; meaningless in the padding.

    Raises:
        ValueError: the shape is not as above.
    """
    check_images(rainy, config.multiple)
    params = jax.tree.map(lambda value: jnp.asarray(value, dtype), dict(variables["params"]))
    image = rainy if size is None else zero_beyond(rainy, Extent(*size))
    return background(rainy, _Blocks(config, rainy.shape[1], size).residual(params, image.astype(dtype)))


@dataclass(frozen=True)
class _Blocks:
    """The blocks of a network, for one batch.

    Attributes:
        config: the architecture.
        rows: of the batch.
        size: height and width of the pictures in it, if it is padded.
    """

    config: ModelConfig
    rows: int
    size: Any

    def extent(self, x: Float[Array, "b h w c"]) -> Extent | None:
        """Extent of the pictures in a map of any level, which is padded in the same proportion."""
        return None if self.size is None else Extent(*self.size).shrunk(self.rows // x.shape[1])

    def convolution(self, params: Params, x: Float[Array, "b h w c"], stride: int = 1) -> Float[Array, "b _ _ f"]:
        return convolution(params, x, stride, self.extent(x))

    def residual(self, params: Params, image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        entrance = self.entrance(params["entrance"], image)
        features = self.modules([params[f"module_{n}"] for n in range(self.config.modules)], entrance)
        return self.fusion(params["fusion"], features, entrance if self.config.global_skip else None)

    def entrance(self, params: Params, image: Float[Array, "b h w 3"]) -> Features:
        scales = [image]
        for level in range(1, self.config.levels):
            scales.append(self.next_scale(params, level, scales[-1]))
        shallow = [self.convolution(params[f"shallow_{level}"], scale) for level, scale in enumerate(scales)]
        return self.interaction(params.get("spatial", {}), shallow, "spatial")

    def next_scale(self, params: Params, level: int, image: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 3"]:
        if self.config.pyramid == "learned":
            return self.convolution(params["pyramid"][f"reduce_{level}"], image, stride=2)
        reduce = gaussian_downsample if self.config.pyramid == "gaussian" else average_downsample
        return reduce(zero_beyond(image, self.extent(image)))

    def modules(self, params: list[Params], features: Features) -> Features:
        """All basic modules, in a loop: the program is smaller, and compiles and loads faster.

        The gradient of the loop would copy every module's maps into arrays for all modules, so gradients are computed
        module by module.
        """

        def in_turn(params: list[Params], features: Features) -> Features:
            for of_module in params:
                features = self.module(of_module, features)
            return features

        def in_loop(params: list[Params], features: Features) -> Features:
            stacked = jax.tree.map(lambda *values: jnp.stack(values), *params)
            return jax.lax.scan(lambda features, one: (self.module(one, features), None), features, stacked)[0]

        if len(params) < 2:
            return in_turn(params, features)
        run = jax.custom_vjp(in_loop)
        run.defvjp(partial(jax.vjp, in_turn), lambda pull, gradients: pull(gradients))
        return run(params, features)

    def module(self, params: Params, features: Features) -> Features:
        for n in range(self.config.residual_blocks):
            features = [
                self.residual_block(params[f"residual_{n}a_{level}"], params[f"residual_{n}b_{level}"], x)
                for level, x in enumerate(features)
            ]
        down = [
            convolve_relu(
                x, *(params[f"down_{level}"][name] for name in ("kernel", "bias")), stride=2, extent=self.extent(x)
            )
            for level, x in enumerate(features)
        ]
        mixed = self.interaction(params.get("channel", {}), down, "channel")
        up = [
            add_shuffled(x, small, *(params[f"up_{level}"][name] for name in ("kernel", "bias")), self.extent(small))
            for level, (x, small) in enumerate(zip(features, mixed, strict=True))
        ]
        return self.interaction(params.get("spatial", {}), up, "spatial")

    def residual_block(self, first: Params, second: Params, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        weights = (first["kernel"], first["bias"], second["kernel"], second["bias"])
        return residual_block(x, weights, self.extent(x))

    def interaction(self, params: Params, features: Features, kind: Literal["spatial", "channel"]) -> Features:
        mode = self.config.interaction
        if mode in ("spatial", "channel") and mode != kind:
            return features
        neighbours = features if mode == "single_scale" else [*features[1:], features[-1]]
        of_levels = [params[f"level_{level}"] for level in range(len(features))]
        given = of_levels, features, neighbours
        if mode == "convolution":
            return list(map(self.convolution_interaction, *given))
        given = *given, list(map(self.extent, features)), list(map(self.extent, neighbours))
        if kind == "spatial":
            return spatial_cssabs(self.config, *given)
        return list(map(partial(channel_cssab, self.config), *given))

    def convolution_interaction(
        self, params: Params, large: Float[Array, "b h w c"], small: Float[Array, "b h2 w2 c"]
    ) -> Float[Array, "b h w c"]:
        up = upsample_bilinear(small, large.shape[1] // small.shape[1], self.extent(small))
        return large + jax.nn.relu(self.convolution(params["conv"], jnp.concatenate([large, up], axis=-1)))

    def fusion(self, params: Params, features: Features, entrance: Features | None) -> Float[Array, "b h w 3"]:
        weights = (params["merge"][name] for name in ("kernel", "bias"))
        extent, shallow = self.extent(features[0]), None
        if entrance is not None:
            shallow, *others = entrance
            features = [features[0], *(x + y for x, y in zip(features[1:], others, strict=True))]
        merged = merge_scales(features, *weights, extent, shallow)
        return self.convolution(params["residual"], merged)
