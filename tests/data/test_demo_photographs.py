import importlib.util

import pytest

from multifocal_jax.config import SourceConfig
from multifocal_jax.data import demo
from multifocal_jax.data.errors import DataError
from multifocal_jax.data.images import read_image
from multifocal_jax.data.sources import open_source

pytestmark = pytest.mark.usefixtures("unoptimised")


def test_photographs_are_in_the_wheel_and_in_colour():
    for split in ("train", "test"):
        for file in demo.demo_photographs(split):
            image = read_image(file)
            assert min(image.shape[:2]) >= 128
            assert (image[..., 0] != image[..., 2]).any()


def test_the_stereo_pair_is_on_one_side():
    assert set(demo.PHOTOGRAPHS["train"]).isdisjoint(demo.PHOTOGRAPHS["test"])
    sides = [[name for name in names if "motorcycle" in name] for names in demo.PHOTOGRAPHS.values()]
    assert sorted(len(side) for side in sides) == [0, 2]


def test_as_a_source_it_has_frozen_rain():
    source = open_source(SourceConfig(split="test", rain="heavy"))
    assert [source.name(index) for index in range(len(source))] == ["chelsea", "ihc"]
    rainy, clean = source.load(0)
    again, _ = open_source(SourceConfig(split="test", rain="heavy")).load(0)
    assert rainy.dtype == clean.dtype == "uint8"
    assert (rainy == again).all()
    assert rainy.mean() > clean.mean() + 10


def test_without_scikit_image_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'multifocal-jax\[demo\]'"):
        demo.demo_photographs("train")


def test_with_photographs_missing_they_are_named(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("skimage", tmp_path / "__init__.py")
    monkeypatch.setattr(demo, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match=r"lacks chelsea.png, ihc.png: pip install"):
        demo.demo_photographs("test")
