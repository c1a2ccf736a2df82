"""The adaptive-kernel pyramid (section 3.1, eq. 2)."""

import flax.linen as nn
from jaxtyping import Array, Float

from multifocal_jax.models.layers import Block
from multifocal_jax.ops import average_downsample, gaussian_downsample


class ImagePyramid(Block):
    """I_0 = O and I_s = K_s * I_{s−1} at half the size (eq. 2); K_s is learned, or fixed in Models 1 and 2."""

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ 3"]]:
        images = [image]
        for level in range(1, self.config.levels):
            if self.config.pyramid == "learned":
                reduce = self.conv(f"reduce_{level}", 3, stride=2)
            else:
                reduce = self._blur if self.config.pyramid == "gaussian" else average_downsample
            images.append(reduce(images[-1]))
        self.capture(**{f"level_{level}": scaled for level, scaled in enumerate(images)})
        return images

    def _blur(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 3"]:
        return gaussian_downsample(image, self.extent(image))
