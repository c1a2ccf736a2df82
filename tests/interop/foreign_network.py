"""The network as somebody else may have written it: another style, other names, another order of definition.

`WrappedNet` holds it as `self.net`. `ScrambledNet` has no names to go by at all. `MistakenNet` has a fault that weights
do not show.
"""

import functools
import random

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Options:
    """What a training script may keep beside its weights."""


class Haar(nn.Module):
    def forward(self, x):
        x01, x02 = x[:, :, 0::2, :] / 2, x[:, :, 1::2, :] / 2
        x1, x2, x3, x4 = x01[..., 0::2], x02[..., 0::2], x01[..., 1::2], x02[..., 1::2]
        bands = [x1 + x2 + x3 + x4, -x1 + x2 - x3 + x4, -x1 - x2 + x3 + x4, x1 - x2 - x3 + x4]
        return torch.cat([F.pixel_shuffle(band, 2) for band in bands], 1)


PROJECTIONS = {
    "conv2d": lambda dim, bias: nn.Conv2d(dim, dim, 1, bias=bias),
    "conv1d": lambda dim, bias: nn.Conv1d(dim, dim, 1, bias=bias),
    "linear": lambda dim, bias: nn.Linear(dim, dim, bias),
}


def project(layer, x):
    if isinstance(layer, nn.Conv2d):
        return layer(x)
    if isinstance(layer, nn.Conv1d):
        return layer(x.flatten(2)).view(x.shape)
    return layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


def spp(x):
    return torch.cat([F.adaptive_avg_pool2d(x, size).flatten(2) for size in (1, 3, 6, 8)], -1)


class SpatialNonLocal(nn.Module):
    def __init__(self, dim, make):
        super().__init__()
        self.g, self.phi, self.theta = (make(dim) for _ in range(3))
        self.frcb = Haar()

    def forward(self, big, little):
        b, c, h, w = big.shape
        q = self.frcb(project(self.theta, big)).view(b, 4, c // 4, h * w)
        k = spp(self.frcb(project(self.phi, little))).view(b, 4, c // 4, -1)
        v = spp(self.frcb(project(self.g, little))).view(b, 4, c // 4, -1)
        attention = torch.einsum("bkcn,bkcs->bkns", q, k).softmax(-1)
        return big + torch.einsum("bkns,bkcs->bkcn", attention, v).reshape(b, c, h, w)


class ChannelNonLocal(nn.Module):
    def __init__(self, dim, heads, make):
        super().__init__()
        self.g, self.phi, self.theta = (make(dim) for _ in range(3))
        self.heads = heads

    def forward(self, big, little):
        b, c, h, w = big.shape
        q, k = spp(project(self.theta, big)), spp(project(self.phi, little))
        q, k = (x.view(b, self.heads, c // self.heads, -1) for x in (q, k))
        v = project(self.g, big).view(b, self.heads, c // self.heads, h * w)
        attention = torch.einsum("bnis,bnjs->bnij", k, q).softmax(2)
        return big + torch.einsum("bnij,bnip->bnjp", attention, v).reshape(b, c, h, w)


class Block(nn.Module):
    def __init__(self, dim, heads, make):
        super().__init__()
        for s in (1, 2, 4):
            self.add_module(f"sa_x{s}", SpatialNonLocal(dim, make))
            self.add_module(f"ca_x{s}", ChannelNonLocal(dim, heads, make))
            up = nn.Conv2d(dim, 4 * dim, 3, 1, 1), nn.PixelShuffle(2), nn.ReLU(True)
            self.add_module(f"up_x{s}", nn.Sequential(*up))
            self.add_module(f"down_x{s}", nn.Sequential(nn.Conv2d(dim, dim, 3, 2, 1), nn.ReLU(True)))

    def forward(self, x1, x2, x4):
        d1, d2, d4 = self.down_x1(x1), self.down_x2(x2), self.down_x4(x4)
        c1, c2, c4 = self.ca_x1(d1, d2), self.ca_x2(d2, d4), self.ca_x4(d4, d4)
        y1, y2, y4 = x1 + self.up_x1(c1), x2 + self.up_x2(c2), x4 + self.up_x4(c4)
        return self.sa_x1(y1, y2), self.sa_x2(y2, y4), self.sa_x4(y4, y4)


class ForeignNet(nn.Module):
    def __init__(self, dim=8, blocks=2, heads=4, projection="conv2d", bias=True):
        super().__init__()
        make = functools.partial(PROJECTIONS[projection], bias=bias)
        self.tail = nn.Sequential(nn.Conv2d(3 * dim, dim, 3, padding=1), nn.ReLU(), nn.Conv2d(dim, 3, 3, padding=1))
        self.blocks = nn.ModuleList(Block(dim, heads, make) for _ in range(blocks))
        self.head_sa = nn.ModuleDict({f"x{s}": SpatialNonLocal(dim, make) for s in (4, 2, 1)})
        self.head_conv = nn.ModuleDict({f"x{s}": nn.Conv2d(3, dim, 3, padding=1) for s in (4, 2, 1)})
        self.pyr = nn.ModuleDict({f"k{i}": nn.Conv2d(3, 3, 3, 2, 1) for i in (2, 1)})

    def forward(self, rain):
        half = self.pyr["k1"](rain)
        images = rain, half, self.pyr["k2"](half)
        f1, f2, f4 = (self.head_conv[f"x{s}"](image) for s, image in zip((1, 2, 4), images, strict=True))
        start = f = [self.head_sa["x1"](f1, f2), self.head_sa["x2"](f2, f4), self.head_sa["x4"](f4, f4)]
        for block in self.blocks:
            f = block(*f)
        f1, f2, f4 = (a + b for a, b in zip(f, start, strict=True))
        f2 = F.interpolate(f2, scale_factor=2, mode="bilinear", align_corners=False)
        f4 = F.interpolate(f4, scale_factor=4, mode="bilinear", align_corners=False)
        return rain - self.tail(torch.cat([f1, f2, f4], 1))


class MistakenNet(ForeignNet):
    """One down convolution of the second block has another activation, or pads as TensorFlow would."""

    def __init__(self, dim=8, blocks=2, heads=4, mistake="activation", **options):
        super().__init__(dim, blocks, heads, **options)
        down = self.blocks[1].down_x2
        if mistake == "activation":
            down[1] = nn.LeakyReLU(0.2)
        else:
            down[0].padding = 0
            down.register_forward_pre_hook(lambda module, args: (F.pad(args[0], (0, 1, 0, 1)),))


class WrappedNet(nn.Module):
    """As many projects have it: names begin with a prefix that belongs to the class."""

    def __init__(self, **options):
        super().__init__()
        self.net = ForeignNet(**options)

    def forward(self, rain):
        return self.net(rain)


class ScrambledNet(nn.Module):
    """The same computation with all convolutions in one list, in random order."""

    def __init__(self, dim=8, blocks=2, heads=4, seed=0, **options):
        super().__init__()
        inner = ForeignNet(dim, blocks, heads, **options)
        convs = [(name, module) for name, module in inner.named_modules() if hasattr(module, "weight")]
        random.Random(seed).shuffle(convs)
        self.order = [name for name, _ in convs]
        self.w = nn.ModuleList(module for _, module in convs)
        self.__dict__["inner"] = inner  # not registered: its parameters are those of the list

    def double(self):
        self.inner.double()
        return super().double()

    def forward(self, rain):
        return self.inner(rain)
