"""De-raining of any size, dtype and way of cutting; expected values from plain applications of the network."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import multifocal_jax
from multifocal_jax import ModelConfig, MultifocalNet
from multifocal_jax.evaluation import memory
from multifocal_jax.evaluation.inference import Derainer, InferenceError
from multifocal_jax.evaluation.tiles import blend_tiles, starts
from multifocal_jax.weights import WeightsError
from multifocal_jax.weights_lookup import find_weights
from tests.evaluation.helpers import TINY, Program, random_params, save_tiny, simply

PARAMS = random_params()
PLAIN = jax.jit(MultifocalNet(TINY).apply)


@pytest.fixture(scope="module")
def derainer():
    return Derainer(PARAMS, TINY)


def picture(height: int, width: int, dtype: str = "float32") -> np.ndarray:
    values = np.random.default_rng(height * 1000 + width).random((height, width, 3))
    return (values * np.iinfo(dtype).max).astype(dtype) if dtype.startswith("uint") else values.astype(dtype)


def apply(batch: np.ndarray) -> np.ndarray:
    return np.asarray(PLAIN({"params": PARAMS}, jnp.asarray(batch, jnp.float32)))


def test_odd_sizes_are_reflected_and_cut_back(derainer):
    image = picture(23, 31)
    rows, columns = [*range(23), 21], [*range(31), 29]  # reflected without repeating the edge
    expected = np.clip(apply(image[rows][:, columns][None])[0, :23, :31], 0, 1)
    np.testing.assert_allclose(derainer(image), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_integers_are_scaled_and_rounded(derainer, dtype):
    image, top = picture(24, 32, dtype), np.iinfo(dtype).max
    exact = np.clip(apply(image[None] / top)[0], 0, 1) * top
    result = derainer(image)
    assert result.dtype == image.dtype
    assert np.abs(result - exact).max() < 0.5 + top * 1e-6


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 3), (2, 5, 3)])
def test_smallest_sizes(derainer, shape):
    assert derainer(np.full(shape, 100, np.uint8)).shape == shape


def test_float64_input_comes_back_as_float64(simple):
    image = picture(8, 8, "float64")
    result = Derainer(PARAMS, TINY)(image)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, np.clip(simply(image), 0, 1), atol=1e-6)


def test_a_batch_equals_its_pictures(derainer):
    batch = np.stack([picture(24, 32), picture(24, 32) ** 2])
    for image, result in zip(batch, derainer(batch), strict=True):
        np.testing.assert_allclose(derainer(image), result, atol=1e-6)


def test_every_padded_size_is_compiled_once():
    derainer = Derainer(PARAMS, TINY)
    for height in (23, 24):
        derainer(picture(height, 31, "uint8"))
    other = derainer.with_params(jax.tree.map(jnp.zeros_like, PARAMS))
    image = picture(24, 31, "uint8")
    np.testing.assert_array_equal(other(image), image)  # R = 0
    assert len(derainer._programs) == len(other._programs) == 1


def test_many_sizes_share_few_programs(simple):
    derainer = Derainer(PARAMS, TINY)
    for size in [(30, 40), (40, 30), (29, 17), (64, 50), (50, 64), (8, 8), (41, 63)]:
        image = picture(*size)
        np.testing.assert_allclose(derainer(image), np.clip(simply(image), 0, 1), atol=1e-6)
    assert [shape[1:3] for shape, _ in derainer._programs] == [(40, 30), (30, 40), (64, 64)]


@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16"}])
def test_a_shared_program_gives_what_the_pictures_own_would(options):
    derainer = Derainer(PARAMS, TINY, **options)
    for size in [(8, 8), (8, 16), (9, 17)]:
        result = derainer(picture(*size))
    own = Derainer(PARAMS, TINY, **options)(picture(9, 17))
    np.testing.assert_allclose(result, own, atol=1e-2 if options else 1e-6)
    assert [shape[1:3] for shape, _ in derainer._programs] == [(8, 8), (8, 16), (64, 64)]


@pytest.mark.parametrize("options", [{"tile": 40, "overlap": 8}, {"ensemble": True}])
def test_parts_and_views_of_a_picture_share_programs_too(options, simple):
    derainer = Derainer(PARAMS, TINY, **options)
    for size in [(30, 40), (40, 30), (50, 64)]:
        derainer(picture(*size))
    image = picture(41, 17)
    np.testing.assert_allclose(derainer(image), Derainer(PARAMS, TINY, **options)(image), atol=1e-6)
    assert len(derainer._programs) == 3


def test_where_memory_is_too_small_for_a_shared_program_a_picture_has_its_own(monkeypatch):
    """Of 800 bytes per pixel: one of 64×64 does not fit, one of 16×24 does."""
    monkeypatch.setattr(Derainer, "_compiled", lambda self, shape, dtype: Program(shape))
    derainer = Derainer(PARAMS, TINY)
    for size in [(8, 8), (8, 16)]:
        derainer(picture(*size, "uint8"))
    free = memory.fixed(jax.devices()[0]) + 400_000
    monkeypatch.setattr(memory, "available", lambda device: free)
    image = picture(16, 24, "uint8")
    assert derainer.planned_memory(image.shape) < free
    np.testing.assert_array_equal(derainer(image), image)
    assert [shape[1:3] for shape, _ in derainer._programs] == [(8, 8), (8, 16), (64, 64), (16, 24)]


def test_rows_over_devices_give_the_same():
    """With a basic module, as strided convolutions and pooling must look over the borders of the shares."""
    model = ModelConfig(channels=4, modules=1, heads=1, levels=2, spp_sizes=(1, 3))
    params = random_params(model)
    image = picture(43, 14)  # 44 rows: the shares of the small levels are not equal
    alone = Derainer(params, model)(image)
    assert np.abs(alone - image).max() > 0.05
    np.testing.assert_allclose(Derainer(params, model, devices=4)(image), alone, atol=1e-6)


def test_strength_scales_the_rain_that_is_taken_away(derainer):
    image = picture(16, 24)
    rain = image - derainer.unclipped(image[None])[0]
    assert np.abs(rain).max() > 0.05
    for strength in (0.0, 0.7, 1.5):
        weaker = Derainer(PARAMS, TINY, strength=strength)
        np.testing.assert_allclose(weaker(image), np.clip(image - strength * rain, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(Derainer(PARAMS, TINY, strength=0.0)(image), image)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
def test_ensemble_is_the_mean_over_the_square_symmetries(simple, precision, tolerance):
    image = picture(23, 31, "float64")
    views = [(flip, turns) for flip in (1, -1) for turns in range(4)]
    results = [np.rot90(simply(np.rot90(image[::flip], turns)), -turns)[::flip] for flip, turns in views]
    result = Derainer(PARAMS, TINY, ensemble=True, precision=precision)(image)
    np.testing.assert_allclose(result, np.clip(np.mean(results, axis=0), 0, 1), atol=tolerance)


def test_bfloat16_and_float64(derainer):
    image = picture(24, 32)
    exact = Derainer(PARAMS, TINY, precision="float64")(image)
    assert np.abs(derainer(image) - exact).max() < 1e-5
    assert np.abs(image - exact).max() > 0.5
    assert 1e-5 < np.abs(Derainer(PARAMS, TINY, precision="bfloat16")(image) - exact).max() < 0.01  # 2.5 of its steps


def test_a_tile_larger_than_the_picture_changes_nothing(derainer):
    image = picture(24, 32)
    np.testing.assert_allclose(Derainer(PARAMS, TINY, tile=64)(image), derainer(image), atol=1e-6)


def test_tiles_start_on_the_grid_and_cover_everything():
    for length in range(64, 400, 8):
        found = starts(length, 64, 20, 8)
        assert (found[0], found[-1]) == (0, length - 64)
        assert all(start % 8 == 0 for start in found)
        assert all(b - a <= 64 - 20 for a, b in itertools.pairwise(found))


def test_blending_reproduces_a_local_function_exactly(rng):
    batch = rng.random((2, 96, 120, 3)).astype(np.float32)
    result = blend_tiles(lambda tile: tile * 2, batch, tile=48, overlap=16, multiple=8)
    np.testing.assert_allclose(result, batch * 2, atol=1e-6)


def test_blending_has_no_seams(rng):
    """Each tile answers with a constant of its own; neighbouring pixels may differ by the fade's slope at most."""
    batch = np.zeros((1, 128, 128, 3), np.float32)
    result = blend_tiles(lambda tile: np.full(tile.shape, rng.random(), np.float32), batch, 48, 24, 8)
    steps = np.concatenate([np.abs(np.diff(result, axis=axis)).ravel() for axis in (1, 2)])
    assert 0 < steps.max() < 4 / 25


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"shape \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
        (np.zeros((8, 8, 3), np.int32), "int32"),
    ],
)
def test_bad_pictures(derainer, image, message):
    with pytest.raises(InferenceError, match=message):
        derainer(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 3}, "possible: 1, 2"),
        ({"tile": 32, "overlap": 32}, "larger than their overlap"),
        ({"tile": -8}, "tile -8"),
        ({"strength": 1.6}, "strength 1.6; allowed: 0 to 1.5"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InferenceError, match=message):
        Derainer(PARAMS, TINY, **options)


def test_load_takes_files_and_workdirs(derainer, tmp_path):
    with pytest.raises(WeightsError, match=r"holds no weights\.safetensors"):
        find_weights(tmp_path)
    with pytest.raises(WeightsError, match="'nonsense' are neither a file nor a workdir"):
        find_weights("nonsense")
    save_tiny(tmp_path / "weights.safetensors")
    image = picture(24, 32, "uint8")
    np.testing.assert_array_equal(multifocal_jax.load(tmp_path)(image), derainer(image))
    assert find_weights(tmp_path) == find_weights(str(tmp_path / "weights.safetensors"))
