"""Figure 1 of the paper: what the four wavelet bands and the heads of the two CSSABs look at in a picture."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from multifocal_jax.config import ModelConfig
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation import memory
from multifocal_jax.models import MultifocalNet
from multifocal_jax.padding import pad_to_multiple

BANDS = ("LL", "LH", "HL", "HH")
_MARGIN, _CAPTION = 8, 22
_COLUMNS = 4
# Dark violet over green to yellow, readable in print and for the colour-blind.
_COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64)


class FigureError(UserError):
    """The network does not have the block to draw, or the picture is too large."""


def attention_groups(
    params: Any, model: ModelConfig, picture: np.ndarray, module: int, level: int = 0
) -> dict[str, np.ndarray]:
    """What each group of channels adds to the features: M_k V_k of eq. 5 per band, V A of eq. 6 per head.

    The picture is (H, W, 3) uint8; basic modules and levels of the pyramid count from 0, level 0 being full size.

    Returns:
        By caption, the mean over the group's channels, (H', W') float32; the bands in the order LL, LH, HL, HH.

    Raises:
        FigureError: there is no such module or level, its CSSABs are switched off, or memory does not suffice.
    """
    if not 0 <= module < model.modules or not 0 <= level < model.levels:
        has = f"{model.modules} modules and {model.levels} levels, counted from 0"
        raise FigureError(f"module {module}, level {level}: the network has {has}")
    if model.interaction not in ("cross_scale", "single_scale"):
        raise FigureError(f"interaction {model.interaction!r}: figure 1 needs a network with both kinds of CSSAB")
    height, width, _ = picture.shape
    batch = pad_to_multiple(picture[None], model.multiple).astype(np.float32) / 255

    def groups(params: Any, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        captured: Any = MultifocalNet(model).apply({"params": params}, batch, mutable=["intermediates"])[1]
        blocks = captured["intermediates"][f"module_{module}"]
        spatial, channel = (blocks[kind][f"level_{level}"] for kind in ("spatial", "channel"))
        maps, anchors = spatial["maps"][0], spatial["pooled_value"][0]
        values = anchors.reshape(*anchors.shape[:2], len(BANDS), -1)
        bands = jnp.einsum("bghws,bsgd->bghwd", maps, values).mean(-1)[0]
        # The FRCB's shuffle lays channels of one wavelet coefficient into blocks of 2×2 pixels.
        bands = bands.reshape(len(BANDS), bands.shape[1] // 2, 2, bands.shape[2] // 2, 2).mean((2, 4))
        value, mixing = channel["full_value"][0], channel["maps"][0]
        value = value.reshape(*value.shape[:3], model.heads, -1)
        heads = jnp.einsum("bhwni,bnij->bnhwj", value, mixing).mean(-1)[0]
        return bands, heads

    compiled = jax.jit(groups).lower(params, batch).compile()  # what is not asked for is never computed
    device = jax.devices()[0]
    needed = memory.needed(compiled, device)
    if (free := memory.lack(device, needed)) is not None:
        raise FigureError(
            f"a picture of {width}x{height} pixels needs {memory.spell(needed)} at once and {memory.spell(free)} are "
            "free; scale it down or cut out a part"
        )
    bands, heads = compiled(params, batch)
    named = {f"spatial CSSAB, {name}": band for name, band in zip(BANDS, bands, strict=True)}
    named |= {f"channel CSSAB, head {number}": head for number, head in enumerate(heads, 1)}
    scale = 2 ** (level + 1)  # both are maps of half the level's size
    cut = (slice(math.ceil(height / scale)), slice(math.ceil(width / scale)))
    return {name: np.asarray(group)[cut] for name, group in named.items()}


def draw_groups(picture: np.ndarray, groups: dict[str, np.ndarray]) -> np.ndarray:
    """The picture, (H, W, 3) uint8, above its groups from `attention_groups`, as uint8 RGB.

    Colours run from a group's 1st to its 99th percentile.
    """
    height, width, _ = picture.shape
    panels = [("picture", picture), *((name, _coloured(group, (width, height))) for name, group in groups.items())]
    rows = [panels[:1], *(panels[i : i + _COLUMNS] for i in range(1, len(panels), _COLUMNS))]
    size = (_COLUMNS * (width + _MARGIN) + _MARGIN, len(rows) * (height + _CAPTION + _MARGIN) + _MARGIN)
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for row, entries in enumerate(rows):
        for column, (name, panel) in enumerate(entries):
            left, top = _MARGIN + column * (width + _MARGIN), _MARGIN + row * (height + _CAPTION + _MARGIN)
            canvas.paste(Image.fromarray(panel), (left, top))
            draw.text((left, top + height + 2), name, "black", font)
    return np.asarray(canvas)


def _coloured(group: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    low, high = np.percentile(group, (1, 99))
    scaled = np.clip((group - low) / max(high - low, 1e-12), 0, 1) * (len(_COLOURS) - 1)
    channels = [np.interp(scaled, np.arange(len(_COLOURS)), _COLOURS[:, channel]) for channel in range(3)]
    return np.asarray(Image.fromarray(np.stack(channels, -1).round().astype(np.uint8)).resize(size))
