"""Programs that are kept on disk: found again, equal, told apart, and replaced when damaged."""

import os

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from multifocal_jax.cli.cache import cache_folder
from multifocal_jax.config import ModelConfig
from multifocal_jax.evaluation import programs
from multifocal_jax.evaluation.inference import Derainer
from tests.evaluation.helpers import random_params

MODEL = ModelConfig(channels=4, modules=1, heads=2, levels=1, spp_sizes=(1, 2))
PARAMS = random_params(MODEL)


@pytest.fixture(autouse=True)
def _without_the_cache_of_jax():
    """Which would be used instead; JAX asks only once whether it is on, and cannot store again what it has loaded."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    jax.config.update("jax_enable_compilation_cache", True)
    reset_cache()


@pytest.fixture
def folder(tmp_path):
    programs.keep_in(tmp_path / "programs")
    yield tmp_path / "programs"
    programs.keep_in(None)


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)


def derain(picture, **options):
    return Derainer(PARAMS, MODEL, **options)(picture)


def test_the_second_start_neither_traces_nor_compiles(folder, picture, monkeypatch):
    first = derain(picture)
    assert len(list(folder.glob("*.program"))) == 1
    monkeypatch.setattr(Derainer, "_compile", lambda *_: pytest.fail("compiled again"))
    np.testing.assert_array_equal(derain(picture), first)


def test_other_shapes_precisions_and_devices_are_other_programs(folder, picture, simple):
    derain(picture)
    derain(picture[:4])
    derain(picture, precision="bfloat16")
    np.testing.assert_array_equal(derain(picture, devices=2), derain(picture, devices=2))
    assert len(list(folder.glob("*.program"))) == 4


@pytest.mark.parametrize("damage", [b"no pickle", None])
def test_a_damaged_file_is_replaced(folder, picture, simple, damage):
    first = derain(picture)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    np.testing.assert_array_equal(derain(picture), first)
    assert file.stat().st_size > len(whole) // 2


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, picture, simple):
    (tmp_path / "file").write_text("in the way")
    expected = derain(picture)
    programs.keep_in(tmp_path / "file" / "programs")
    try:
        np.testing.assert_array_equal(derain(picture), expected)
    finally:
        programs.keep_in(None)


def test_where_the_commands_keep_programs(monkeypatch, tmp_path):
    monkeypatch.delenv("MULTIFOCAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "multifocal-jax"
    monkeypatch.setenv("MULTIFOCAL_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("MULTIFOCAL_CACHE", "off")
    assert cache_folder() is None


def test_a_user_without_a_home(monkeypatch, tmp_path):
    for name in ("MULTIFOCAL_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)  # has no entry among the users
    assert cache_folder() is None
    monkeypatch.setenv("MULTIFOCAL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
