"""The adaptive-kernel pyramid (section 3.1, eq. 2)."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from multifocal_jax.models.layers import Block
from multifocal_jax.ops import average_downsample, gaussian_downsample


class ImagePyramid(Block):
    """I_0 = O and I_s = K_s * I_{s−1} at half the size (eq. 2); K_s is learned, or fixed in Models 1 and 2."""

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ 3"]]:
        scales = [image]
        for s in range(1, self.config.levels):
            scales.append(self.filter(s)(scales[s - 1]))
        self.capture(**{f"level_{s}": scale for s, scale in enumerate(scales)})
        return scales

    def filter(self, s: int) -> Callable[[Array], Array]:
        """K_s."""
        fixed = {"gaussian": gaussian_downsample, "average": average_downsample}
        return fixed.get(self.config.pyramid) or self.conv(f"reduce_{s}", 3, stride=2)
