"""Converts weights of networks that concatenate their wavelet bands in another order (section 3.2).

Equations 4 and 5 order them LL, LH, HL, HH; the caption of figure 1 and much DWT code LL, HL, LH, HH. A band's update
is added to one quarter of the channels, so another order means the same network with those quarters permuted in all
features at full size. Permuting the weights undoes it exactly. The half-size path with the channel CSSAB stays as it
is, so heads do not matter.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from multifocal_jax.config import ModelConfig
from multifocal_jax.weights import flatten, unflatten

BandOrder = Literal["LL,LH,HL,HH", "LL,HL,LH,HH"]
OUR_ORDER: BandOrder = "LL,LH,HL,HH"


def reorder_bands(params: Mapping[str, Any], model: ModelConfig, order: BandOrder) -> dict[str, Any]:
    """Convert parameters of the JAX network from one trained with bands in `order` to LL, LH, HL, HH, or back."""
    if model.interaction in ("convolution", "channel"):  # no wavelets in these
        return dict(params)
    quarters = np.arange(model.channels).reshape(4, -1)
    theirs = order.split(",")
    swap = np.concatenate([quarters[theirs.index(band)] for band in OUR_ORDER.split(",")])  # ours i is theirs swap[i]
    before_shuffle = (4 * swap[:, None] + np.arange(4)).reshape(-1)
    all_levels = np.concatenate([level * model.channels + swap for level in range(model.levels)])
    # Which convolutions read features at full size, which write them, and in what arrangement of channels.
    takes = {r"fusion\.merge": all_levels, r"module_\d+\.(residual|down)_.*": swap, r".*\.spatial\.level_.*": swap}
    makes = {r"entrance\.shallow_\d+|module_\d+\.residual_.*": swap, r"module_\d+\.up_\d+": before_shuffle}
    reordered = {name: np.asarray(value) for name, value in flatten(params).items()}
    for name, array in reordered.items():
        conv, _, leaf = name.rpartition(".")
        for patterns, axis in ((takes, -2), (makes, -1)):
            for pattern, channels in patterns.items():
                if re.fullmatch(pattern, conv) and (leaf == "kernel" or axis == -1):
                    reordered[name] = array = array.take(channels, axis)
    return unflatten(reordered)
