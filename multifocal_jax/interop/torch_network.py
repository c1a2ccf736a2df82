"""The same network in PyTorch, for verification of the JAX network, for `.pth` files and for benchmarks.

Written from the paper in idiomatic PyTorch, independently of the Flax modules. Everything worth comparing is the output
of a submodule, so that plain forward hooks see it. Images are (B, 3, H, W) in [0, 1].

    network = TorchNet(ModelConfig())
    network.load_state_dict(torch.load("multifocal.pth", weights_only=True)["state_dict"])
    clean = derain(network.eval(), rainy)

Works with `torch.compile`, `torch.autocast` and `memory_format=torch.channels_last`.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F  # noqa: N812 (as all PyTorch code calls it)
from torch import Tensor, nn

from multifocal_jax.config import ModelConfig

BANDS = 4  # of the Haar transform: LL, LH, HL, HH


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution with PyTorch's initialisation; keeps the size at stride 1 and halves it at stride 2."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)


def projection(config: ModelConfig, **then: nn.Module) -> nn.Sequential:
    """The convolution that computes Q, K or V, and what follows it."""
    return nn.Sequential(OrderedDict(conv=conv(config.channels, config.channels, config.projection_kernel), **then))


class FeatureRecalibration(nn.Module):
    """FRCB (section 3.2): Haar bands, each pixel-shuffled back to full size, concatenated as LL, LH, HL, HH."""

    def forward(self, x: Tensor) -> Tensor:
        half = x / 2
        top_left, top_right = half[..., 0::2, 0::2], half[..., 0::2, 1::2]
        bottom_left, bottom_right = half[..., 1::2, 0::2], half[..., 1::2, 1::2]
        bands = (
            top_left + bottom_left + top_right + bottom_right,
            bottom_left - top_left + bottom_right - top_right,
            top_right - top_left + bottom_right - bottom_left,
            top_left - bottom_left - top_right + bottom_right,
        )
        return torch.cat([F.pixel_shuffle(band, 2) for band in bands], dim=1)


class SpatialPyramidPooling(nn.Module):
    """SPP (section 3.2): (B, C, H, W) → (B, C, S), adaptive averages on grids of several sizes."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(size) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([pool(x).flatten(2) for pool in self.pools], dim=2)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in at least float32: unscaled logits do not tolerate the rounding of float16 or bfloat16."""
    with torch.autocast(a.device.type, enabled=False):
        wide = torch.promote_types(a.dtype, torch.float32)
        return a.to(wide) @ b.to(wide)


class SpatialCSSAB(nn.Module):
    """Spatial cross-scale similarity attention block (eqs. 4 and 5).

    Each pixel of the large scale attends to the S pooled positions of the small scale, separately in every wavelet
    band.

    Args:
        config: the architecture.
        fused: use `scaled_dot_product_attention`, which is faster on GPUs but shows no attention maps to hooks.
    """

    def __init__(self, config: ModelConfig, fused: bool = False) -> None:
        super().__init__()
        frcb, spp = FeatureRecalibration(), SpatialPyramidPooling(config.spp_sizes)  # without parameters: shared
        self.query = projection(config, frcb=frcb)
        self.key = projection(config, frcb=frcb, spp=spp)
        self.value = projection(config, frcb=frcb, spp=spp)
        self.softmax = nn.Softmax(dim=-1)
        self.fused = fused

    def forward(self, large: Tensor, small: Tensor) -> Tensor:
        query = self.query(large).flatten(2).unflatten(1, (BANDS, -1)).transpose(-1, -2)  # (B, band, HW, C/4)
        key = self.key(small).unflatten(1, (BANDS, -1))  # (B, band, C/4, S)
        value = self.value(small).unflatten(1, (BANDS, -1)).transpose(-1, -2)  # (B, band, S, C/4)
        if self.fused:
            update = F.scaled_dot_product_attention(query, key.transpose(-1, -2), value, scale=1.0)
        else:
            maps = self.softmax(similarity(query, key))  # (B, band, HW, S)
            update = maps.to(value.dtype) @ value
        return large + update.transpose(-1, -2).reshape(large.shape)


class ChannelCSSAB(nn.Module):
    """Channel cross-scale similarity attention block (eq. 6), in heads of contiguous channels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.query = projection(config, spp=SpatialPyramidPooling(config.spp_sizes))
        self.key = projection(config, spp=SpatialPyramidPooling(config.spp_sizes))
        self.value = projection(config) if config.value_projection else nn.Identity()
        # The logits are (B, head, key channel, query channel).
        self.softmax = nn.Softmax(dim=-2 if config.channel_softmax == "key" else -1)
        self.heads = config.heads

    def forward(self, large: Tensor, small: Tensor) -> Tensor:
        query = self.query(large).unflatten(1, (self.heads, -1))  # (B, head, C/heads, S)
        key = self.key(small).unflatten(1, (self.heads, -1))
        value = self.value(large).flatten(2).unflatten(1, (self.heads, -1))  # (B, head, C/heads, HW)
        maps = self.softmax(similarity(key, query.transpose(-1, -2)))
        update = maps.to(value.dtype).transpose(-1, -2) @ value
        return large + update.reshape(large.shape)


class ConvolutionInteraction(nn.Module):
    """Model-4 of table 1: replaces every CSSAB."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.conv = conv(2 * config.channels, config.channels)

    def forward(self, large: Tensor, small: Tensor) -> Tensor:
        if small.shape != large.shape:
            small = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        return large + F.relu(self.conv(torch.cat([large, small], dim=1)))


class CrossScale(nn.ModuleList):
    """One block per level; each reads its own level and the next smaller one, the bottom level itself."""

    def __init__(self, config: ModelConfig, kind: str, fused: bool = False) -> None:
        def make() -> nn.Module:
            if config.interaction == "convolution":
                return ConvolutionInteraction(config)
            return SpatialCSSAB(config, fused) if kind == "spatial" else ChannelCSSAB(config)

        off = config.interaction in ("spatial", "channel") and config.interaction != kind
        super().__init__(make() for _ in range(0 if off else config.levels))
        self.single_scale = config.interaction == "single_scale"

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        if not len(self):
            return features
        smaller = features if self.single_scale else [*features[1:], features[-1]]
        return [block(x, y) for block, x, y in zip(self, features, smaller, strict=True)]


class GaussianDownsample(nn.Module):
    """Fixed pyramid filter of Model-1: Gaussian 5×5, σ = 1, zero-padded, every second pixel."""

    def forward(self, x: Tensor) -> Tensor:
        # Computed here: a buffer would be rounded by `.float()`, and stay rounded after `.double()`.
        taps = torch.exp(-(torch.arange(-2, 3, dtype=torch.float64, device=x.device) ** 2) / 2)
        kernel = torch.outer(taps, taps) / taps.sum() ** 2
        return F.conv2d(x, kernel.expand(3, 1, 5, 5).to(x.dtype), stride=2, padding=2, groups=3)


class Pyramid(nn.Module):
    """Adaptive-kernel pyramid (section 3.1, eq. 2), or the fixed ones of Models 1 and 2."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        make = {
            "learned": lambda: conv(3, 3, stride=2),
            "gaussian": GaussianDownsample,
            "average": lambda: nn.AvgPool2d(2),
        }
        self.filters = nn.ModuleList(make[config.pyramid]() for _ in range(config.levels - 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        images = [image]
        for reduce in self.filters:
            images.append(reduce(images[-1]))
        return images


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a skip; the paper names none (`ModelConfig.residual_blocks`)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(channels, channels), conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class BasicModule(nn.Module):
    """Attention-based basic module (section 3.4)."""

    def __init__(self, config: ModelConfig, fused: bool = False) -> None:
        super().__init__()
        channels, levels = config.channels, config.levels
        self.residual = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(channels) for _ in range(config.residual_blocks))) for _ in range(levels)
        )
        self.down = nn.ModuleList(conv(channels, channels, stride=2) for _ in range(levels))
        self.channel = CrossScale(config, "channel")
        self.up = nn.ModuleList(conv(channels, 4 * channels) for _ in range(levels))
        self.spatial = CrossScale(config, "spatial", fused)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        features = [block(x) for block, x in zip(self.residual, features, strict=True)]
        small = self.channel([F.relu(down(x)) for down, x in zip(self.down, features, strict=True)])
        raised = [F.relu(F.pixel_shuffle(up(y), 2)) for up, y in zip(self.up, small, strict=True)]
        return self.spatial([x + y for x, y in zip(features, raised, strict=True)])


class Fusion(nn.Module):
    """Up-sample, concatenate, estimate the rain residual (section 3.4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.merge = nn.Sequential(
            OrderedDict(conv=conv(config.levels * config.channels, config.channels), relu=nn.ReLU())
        )
        self.residual = conv(config.channels, 3)

    def forward(self, features: list[Tensor]) -> Tensor:
        large = [
            F.interpolate(x, scale_factor=2**level, mode="bilinear", align_corners=False) if level else x
            for level, x in enumerate(features)
        ]
        return self.residual(self.merge(torch.cat(large, dim=1)))


class TorchNet(nn.Module):
    """The whole network (figure 2): B̂ = O − R.

    Args:
        config: the architecture, the same class that the JAX network takes.
        fused: let the spatial CSSABs use `scaled_dot_product_attention`.
    """

    def __init__(self, config: ModelConfig | None = None, fused: bool = False) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        self.pyramid = Pyramid(config)
        self.shallow = nn.ModuleList(conv(3, config.channels) for _ in range(config.levels))
        self.entrance = CrossScale(config, "spatial", fused)
        self.body = nn.ModuleList(BasicModule(config, fused) for _ in range(config.modules))
        self.fusion = Fusion(config)

    def forward(self, rainy: Tensor) -> Tensor:
        """De-rain (B, 3, H, W) in [0, 1], H and W multiples of `config.multiple` (8 by default); not clipped.

        Raises:
            ValueError: height or width is not such a multiple.
        """
        (height, width), multiple = rainy.shape[-2:], self.config.multiple
        if height % multiple or width % multiple:
            raise ValueError(
                f"pictures are {height}×{width}; height and width must be multiples of {multiple}: "
                "call derain(network, rainy), which pads"
            )
        images = self.pyramid(rainy)
        features = entrance = self.entrance([conv(image) for conv, image in zip(self.shallow, images, strict=True)])
        for module in self.body:
            features = module(features)
        if self.config.global_skip:
            features = [x + y for x, y in zip(features, entrance, strict=True)]
        return rainy - self.fusion(features)


def derain(network: TorchNet, rainy: Tensor) -> Tensor:
    """De-rain a batch of any size: reflect-pad at the right and the bottom, run the network, crop back.

    Args:
        network: the network; its parameters determine device and precision.
        rainy: (B, 3, H, W) in [0, 1]; H and W larger than `config.multiple`.

    Returns:
        (B, 3, H, W), not clipped.
    """
    height, width = rainy.shape[-2:]
    multiple = network.config.multiple
    padded = F.pad(rainy, (0, -width % multiple, 0, -height % multiple), mode="reflect")
    return network(padded)[..., :height, :width]
