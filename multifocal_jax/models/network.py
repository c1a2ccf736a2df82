"""The whole network (section 3.4, figure 2): entrance, basic modules, fusion, residual output."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.models.interaction import Interaction
from multifocal_jax.models.layers import Block
from multifocal_jax.models.pyramid import ImagePyramid
from multifocal_jax.ops import background, check_images, pixel_shuffle, upsample_bilinear

Features = Sequence[Float[Array, "b _ _ c"]]  # of every level, the largest first


class Entrance(Block):
    """Image pyramid, one shallow convolution per level, spatial CSSABs."""

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Features:
        scales = self.block("pyramid", ImagePyramid)(image)
        shallow = [self.conv(f"shallow_{s}", self.config.channels)(scale) for s, scale in enumerate(scales)]
        return self.block("spatial", Interaction, kind="spatial")(shallow)


class BasicModule(Block):
    """Attention-based basic module: down, channel CSSABs, pixel-shuffle up, long skip, spatial CSSABs."""

    @nn.compact
    def __call__(self, features: Features) -> Features:
        channels = self.config.channels
        for n in range(self.config.residual_blocks):
            inner = [nn.relu(self.conv(f"residual_{n}a_{s}", channels)(x)) for s, x in enumerate(features)]
            outer = [self.conv(f"residual_{n}b_{s}", channels)(x) for s, x in enumerate(inner)]
            features = [x + y for x, y in zip(features, outer, strict=True)]
        down = [nn.relu(self.conv(f"down_{s}", channels, stride=2)(x)) for s, x in enumerate(features)]
        mixed = self.block("channel", Interaction, kind="channel")(down)
        up = [nn.relu(pixel_shuffle(self.conv(f"up_{s}", 4 * channels)(x), 2)) for s, x in enumerate(mixed)]
        skipped = [x + y for x, y in zip(features, up, strict=True)]
        return self.block("spatial", Interaction, kind="spatial")(skipped)


class Fusion(Block):
    """Up-sample the small levels, concatenate with the large one, estimate the rain residual R."""

    @nn.compact
    def __call__(self, features: Features) -> Float[Array, "b h w 3"]:
        together = jnp.concatenate([upsample_bilinear(x, 2**s) for s, x in enumerate(features)], axis=-1)
        merged = nn.relu(self.conv("merge", self.config.channels)(together))
        self.capture(merged=merged)
        return self.conv("residual", 3)(merged)


class MultifocalNet(Block):
    """Multifocal attention-based cross-scale network: B̂ = O − R (eq. 1, figure 2), as the paper writes it.

    `MultifocalNet(ModelConfig()).init(key, image)` and `.apply(variables, image)` are pure functions. Named
    intermediates (pyramid levels, Q, K and V, attention maps, every module's features) come from
    `.apply(variables, image, mutable=["intermediates"])`; they cost nothing when not asked for. `build_network` gives
    the same network, computed faster.
    """

    @nn.compact
    def __call__(self, rainy: Float[Array, "..."]) -> Float[Array, "..."]:
        """De-rain a batch.

        Args:
            rainy: floats (B, H, W, 3) in [0, 1]; H and W multiples of `config.multiple` (8 by default).

        Returns:
            (B, H, W, 3) in the dtype of `rainy`, not clipped.

        Raises:
            ValueError: shape or dtype are not as above.
        """
        check_images(rainy, self.config.multiple)
        features = entrance = self.block("entrance", Entrance)(rainy.astype(self.dtype))
        self.capture(entrance_features=entrance)
        for index in range(self.config.modules):
            features = self.block(f"module_{index}", BasicModule)(features)
            self.capture(**{f"module_{index}_features": features})
        if self.config.global_skip:
            features = [x + shallow for x, shallow in zip(features, entrance, strict=True)]
        residual = self.block("fusion", Fusion)(features)
        self.capture(residual=residual)
        return background(rainy, residual)
