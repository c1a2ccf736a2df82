"""Groups are recomputed with NumPy from the intermediates that the network names."""

import numpy as np
import pytest

from multifocal_jax import ModelConfig
from multifocal_jax.evaluation import memory
from multifocal_jax.interop.intermediates import flax_intermediates
from multifocal_jax.paper.figure1 import FigureError, attention_groups, draw_groups
from tests.evaluation.helpers import random_params

MODEL = ModelConfig(channels=8, modules=1, heads=2, levels=2, spp_sizes=(1, 3))


def test_groups():
    params = random_params(MODEL)
    picture = np.random.default_rng(0).integers(0, 256, (15, 24, 3), dtype=np.uint8)
    groups = attention_groups(params, MODEL, picture, module=0)
    assert list(groups) == [
        *(f"spatial CSSAB, {band}" for band in ("LL", "LH", "HL", "HH")),
        *(f"channel CSSAB, head {head}" for head in (1, 2)),
    ]
    batch = np.concatenate([picture, picture[-2:-3:-1]])[None].astype(np.float32) / 255  # reflected to 16 rows
    seen = flax_intermediates(params, MODEL, batch)
    value, mixing = (seen[f"module_0.channel.level_0.{name}"][0] for name in ("full_value", "maps"))
    second = (value[..., 4:] @ mixing[1]).mean(-1)  # head 2 is channels 4 to 7
    np.testing.assert_allclose(groups["channel CSSAB, head 2"], second[:8], atol=1e-5)
    maps, anchors = (seen[f"module_0.spatial.level_0.{name}"][0] for name in ("maps", "pooled_value"))
    third = (maps[2] @ anchors[:, 4:6]).mean(-1)  # HL is channels 4 and 5
    expected = (third[0::2, 0::2] + third[1::2, 0::2] + third[0::2, 1::2] + third[1::2, 1::2]) / 4
    np.testing.assert_allclose(groups["spatial CSSAB, HL"], expected[:8], atol=1e-5)


def test_a_picture_that_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 1_000_000)
    monkeypatch.setattr(memory, "_PATIENCE", (0, 0))
    with pytest.raises(FigureError, match=r"16x8 pixels needs \d+ MB at once and 1 MB are free; scale it down"):
        attention_groups(random_params(MODEL), MODEL, np.zeros((8, 16, 3), np.uint8), module=0)


def test_drawing():
    picture = np.zeros((20, 30, 3), np.uint8)
    groups = {f"group {i}": np.random.default_rng(i).random((10, 15)).astype(np.float32) for i in range(8)}
    drawn = draw_groups(picture, groups)
    assert drawn.shape == (3 * (20 + 22 + 8) + 8, 4 * (30 + 8) + 8, 3)
    assert (drawn[8:28, 8:38] == 0).all()


@pytest.mark.parametrize(
    ("model", "module", "message"),
    [
        (MODEL, 1, "has 1 modules"),
        (ModelConfig(channels=8, modules=1, interaction="spatial"), 0, "needs a network with both kinds"),
    ],
)
def test_what_cannot_be_drawn(model, module, message):
    with pytest.raises(FigureError, match=message):
        attention_groups({}, model, np.zeros((8, 8, 3), np.uint8), module)
