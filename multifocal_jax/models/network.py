"""The whole network (section 3.4, figure 2): entrance, basic modules, fusion, residual output."""

from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.models.interaction import Interaction
from multifocal_jax.models.layers import Block, Padding
from multifocal_jax.models.pyramid import ImagePyramid
from multifocal_jax.ops import (
    Extent,
    add_shuffled,
    merge_scales,
    plain_add_shuffled,
    plain_merge_scales,
    zero_beyond,
)


class Entrance(Block):
    """Image pyramid, one shallow convolution per level, spatial CSSABs."""

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ c"]]:
        images = self.block("pyramid", ImagePyramid)(image)
        shallow = [self.conv(f"shallow_{level}", self.config.channels)(scaled) for level, scaled in enumerate(images)]
        return self.block("spatial", Interaction, kind="spatial")(shallow)


class BasicModule(Block):
    """Attention-based basic module: down, channel CSSABs, pixel-shuffle up, long skip, spatial CSSABs."""

    @nn.compact
    def __call__(self, features: Sequence[Float[Array, "b _ _ c"]]) -> list[Float[Array, "b _ _ c"]]:
        channels = self.config.channels
        for block in range(self.config.residual_blocks):
            inner = [nn.relu(self.conv(f"residual_{block}a_{level}", channels)(x)) for level, x in enumerate(features)]
            features = [
                x + self.conv(f"residual_{block}b_{level}", channels)(y)
                for level, (x, y) in enumerate(zip(features, inner, strict=True))
            ]
        down = [nn.relu(self.conv(f"down_{level}", channels, stride=2)(x)) for level, x in enumerate(features)]
        mixed = self.block("channel", Interaction, kind="channel")(down)
        up = []
        for level, (x, small) in enumerate(zip(features, mixed, strict=True)):
            conv = self.conv(f"up_{level}", 4 * channels)
            if self.layer_by_layer:
                up.append(plain_add_shuffled(x, small, conv))
            else:
                up.append(add_shuffled(x, small, *conv.weights(channels), self.extent(small)))
        return self.block("spatial", Interaction, kind="spatial")(up)


class Fusion(Block):
    """Up-sample the small levels, concatenate with the large one, estimate the rain residual R."""

    @nn.compact
    def __call__(self, features: Sequence[Float[Array, "b _ _ c"]]) -> Float[Array, "b h w 3"]:
        merge = self.conv("merge", self.config.channels)
        if self.layer_by_layer:
            merged = plain_merge_scales(features, merge, self.extent(features[0]))
        else:
            weights = merge.weights(len(features) * self.config.channels)
            merged = merge_scales(list(features), *weights, self.extent(features[0]))
        self.capture(merged=merged)
        return self.conv("residual", 3)(merged)


class MultifocalNet(Block):
    """Multifocal attention-based cross-scale network: B̂ = O − R (eq. 1, figure 2).

    `MultifocalNet(ModelConfig()).init(key, image)` and `.apply(variables, image)` are pure functions. Named
    intermediates (pyramid levels, Q, K and V, attention maps, every module's features) come from
    `.apply(variables, image, mutable=["intermediates"])`; they cost nothing when not asked for.

    Attributes:
        looped: compile one basic module and run it in a loop over the modules' parameters: the same numbers as
            quickly, from a smaller program that takes less time to compile and to load. For de-raining; a gradient
            would have to copy every module's maps into arrays of all modules'.
    """

    looped: bool = False

    @nn.compact
    def __call__(self, rainy: Float[Array, "..."], size: Any = None) -> Float[Array, "..."]:
        """De-rain a batch.

        Args:
            rainy: (B, H, W, 3) in [0, 1]; H and W multiples of `config.multiple` (8 by default).
            size: two int32 in an array or tuple, height and width of the pictures in `rainy` where it is padded at the
                bottom and the right with whatever it be; multiples of `config.multiple`. One program then takes many
                sizes, and makes of each what it makes of it without the padding, up to rounding.

        Returns:
            (B, H, W, 3) in the dtype of `rainy`, not clipped; without meaning where it is padded.

        Raises:
            ValueError: the shape is not as above.
        """
        multiple = self.config.multiple
        if rainy.ndim != 4 or rainy.shape[-1] != 3 or rainy.shape[1] % multiple or rainy.shape[2] % multiple:
            raise ValueError(
                f"image batch has shape {rainy.shape}; the network takes (batch, height, width, 3) with height and "
                f"width multiples of {multiple}: pad it, or use multifocal_jax.load(), which does"
            )
        padding = None if size is None else Padding(Extent(*size), rainy.shape[1])
        image = rainy if padding is None else zero_beyond(rainy, padding.extent)
        features = entrance = self.block("entrance", Entrance, padding=padding)(image.astype(self.dtype))
        self.capture(entrance_features=entrance)
        if self._runs_loop:
            features = self._run_loop(features, padding)
        else:
            for index in range(self.config.modules):
                features = self.block(f"module_{index}", BasicModule, padding=padding)(features)
                self.capture(**{f"module_{index}_features": features})
        if self.config.global_skip:
            features = [x + shallow for x, shallow in zip(features, entrance, strict=True)]
        residual = self.block("fusion", Fusion, padding=padding)(features)
        self.capture(residual=residual)
        return rainy - residual.astype(rainy.dtype)

    @property
    def _runs_loop(self) -> bool:
        """Whether modules share a program: not while each makes its parameters or gives its intermediates away."""
        apart = self.is_initializing() or self.is_mutable_collection("intermediates")
        return self.looped and self.config.modules > 1 and not apart

    def _run_loop(self, features: list[Float[Array, "b _ _ c"]], padding: Padding | None) -> list[Array]:
        every = [self.variables["params"][f"module_{index}"] for index in range(self.config.modules)]
        stacked = jax.tree.map(lambda *values: jnp.stack(values), *every)
        module = self.apart(BasicModule, padding=padding)

        def step(features: list[Array], params: Any) -> tuple[list[Array], None]:
            return cast("list[Array]", module.apply({"params": params}, features)), None

        return jax.lax.scan(step, features, stacked)[0]
