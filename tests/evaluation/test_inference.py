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
from tests.evaluation.helpers import TINY, random_params, save_tiny

MODEL = TINY
PLAIN = jax.jit(MultifocalNet(MODEL).apply)


@pytest.fixture(scope="module")
def params():
    return random_params()


@pytest.fixture(scope="module")
def derainer(params):
    return Derainer(params, MODEL)


def picture(height: int, width: int, dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(height * 1000 + width).random((height, width, 3))
    return (values * np.iinfo(dtype).max).astype(dtype) if dtype.startswith("uint") else values.astype(dtype)


def apply(params, batch: np.ndarray) -> np.ndarray:
    return np.asarray(PLAIN({"params": params}, jnp.asarray(batch, jnp.float32)))


def test_odd_sizes_are_reflected_and_cut_back(params, derainer):
    image = picture(23, 31, "float32")
    rows, columns = [*range(23), 21], [*range(31), 29]  # reflected without repeating the edge
    expected = np.clip(apply(params, image[rows][:, columns][None])[0, :23, :31], 0, 1)
    np.testing.assert_allclose(derainer(image), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_integers_are_scaled_and_rounded(params, derainer, dtype):
    image = picture(24, 32, dtype)
    top = np.iinfo(dtype).max
    exact = np.clip(apply(params, image[None] / top)[0], 0, 1) * top
    result = derainer(image)
    assert result.dtype == image.dtype
    assert np.abs(result - exact).max() < 0.5 + top * 1e-6


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 3), (2, 5, 3)])
def test_smallest_sizes(derainer, shape):
    assert derainer(np.full(shape, 100, np.uint8)).shape == shape


def test_float64_input_comes_back_as_float64(derainer):
    assert derainer(picture(8, 8, "float64")).dtype == np.float64


def test_a_batch_equals_its_pictures(derainer):
    batch = np.stack([picture(24, 32, "float32"), picture(24, 32, "float32") ** 2])
    for image, result in zip(batch, derainer(batch), strict=True):
        np.testing.assert_allclose(derainer(image), result, atol=1e-6)


def test_every_padded_size_is_compiled_once(params):
    derainer = Derainer(params, MODEL)
    for height in (23, 24):
        derainer(picture(height, 31))
    assert len(derainer._programs) == 1
    other = derainer.with_params(jax.tree.map(jnp.zeros_like, params))
    image = picture(24, 31)
    np.testing.assert_array_equal(other(image), image)  # R = 0
    assert len(derainer._programs) == 1


def test_many_sizes_share_few_programs(params):
    derainer = Derainer(params, MODEL)
    for height, width in [(30, 40), (40, 30), (29, 17), (64, 50), (50, 64), (8, 8), (41, 63)]:
        image = picture(height, width, "float32")
        padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="reflect")
        expected = np.clip(apply(params, padded[None])[0, :height, :width], 0, 1)
        np.testing.assert_allclose(derainer(image), expected, atol=1e-6)
    assert [shape[1:3] for shape, _ in derainer._programs] == [(40, 30), (30, 40), (64, 64)]


@pytest.mark.parametrize("options", [{"tile": 40, "overlap": 8}, {"ensemble": True}, {"precision": "bfloat16"}])
def test_a_shared_program_gives_what_the_pictures_own_would(params, options):
    derainer = Derainer(params, MODEL, **options)
    for size in [(30, 40), (40, 30), (50, 64)]:
        derainer(picture(*size, "float32"))
    image = picture(41, 17, "float32")
    own = Derainer(params, MODEL, **options)(image)
    np.testing.assert_allclose(derainer(image), own, atol=1e-2 if "precision" in options else 1e-6)
    assert len(derainer._programs) == 3


def test_where_memory_is_too_small_for_a_shared_program_a_picture_has_its_own(params, monkeypatch):
    derainer = Derainer(params, MODEL)
    for size in [(8, 8), (8, 16)]:
        derainer(picture(*size))
    free = memory.fixed(jax.devices()[0]) + 300_000
    monkeypatch.setattr(memory, "available", lambda device: free)
    image = picture(16, 24)
    assert derainer.planned_memory(image.shape) < free
    np.testing.assert_array_equal(derainer(image), Derainer(params, MODEL)(image))
    assert [shape[1:3] for shape, _ in derainer._programs] == [(8, 8), (8, 16), (64, 64), (16, 24)]


def test_rows_over_devices_give_the_same():
    """With a basic module, as strided convolutions and pooling must look over the borders of the shares."""
    model = ModelConfig(channels=4, modules=1, heads=1, levels=2, spp_sizes=(1, 3))
    params = random_params(model)
    image = picture(43, 14, "float32")  # 44 rows: the shares of the small levels are not equal
    alone = Derainer(params, model)(image)
    assert np.abs(alone - image).max() > 0.05
    over_devices = Derainer(params, model, devices=4)
    np.testing.assert_allclose(over_devices(image), alone, atol=1e-6)


def test_strength_scales_the_rain_that_is_taken_away(params, derainer):
    image = picture(16, 24, "float32")
    rain = image - derainer.unclipped(image[None])[0]
    assert np.abs(rain).max() > 0.05
    for strength in (0.0, 0.7, 1.5):
        weaker = Derainer(params, MODEL, strength=strength)
        np.testing.assert_allclose(weaker(image), np.clip(image - strength * rain, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(Derainer(params, MODEL, strength=0.0)(image), image)
    with pytest.raises(InferenceError, match=r"strength 1.6; allowed: 0 to 1.5"):
        Derainer(params, MODEL, strength=1.6)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
def test_ensemble_is_the_mean_over_the_square_symmetries(params, derainer, precision, tolerance):
    image = picture(23, 31, "float32")
    results = []
    for flipped in (image, image[::-1]):
        for turns in range(4):
            view = np.rot90(flipped, turns)
            height, width = view.shape[:2]
            padded = np.pad(view, ((0, -height % 2), (0, -width % 2), (0, 0)), mode="reflect")
            result = np.rot90(apply(params, padded[None])[0, :height, :width], -turns)
            results.append(result if flipped is image else result[::-1])
    expected = np.clip(np.mean(results, axis=0), 0, 1)
    np.testing.assert_allclose(Derainer(params, MODEL, ensemble=True)(image), expected, atol=1e-6)


def test_bfloat16_and_float64(params, derainer):
    image = picture(24, 32, "float32")
    exact = Derainer(params, MODEL, precision="float64")(image)
    assert np.abs(derainer(image) - exact).max() < 1e-5
    assert 1e-5 < np.abs(Derainer(params, MODEL, precision="bfloat16")(image) - exact).max() < 0.1


def test_a_tile_larger_than_the_picture_changes_nothing(params, derainer):
    image = picture(24, 32, "float32")
    np.testing.assert_allclose(Derainer(params, MODEL, tile=64)(image), derainer(image), atol=1e-6)


def test_tiles_start_on_the_grid_and_cover_everything():
    for length in range(64, 400, 8):
        found = starts(length, 64, 20, 8)
        assert found[0] == 0
        assert found[-1] == length - 64
        assert all(start % 8 == 0 for start in found)
        assert all(b - a <= 64 - 20 for a, b in itertools.pairwise(found))


def test_blending_reproduces_a_local_function_exactly():
    batch = np.random.default_rng(0).random((2, 96, 120, 3)).astype(np.float32)
    result = blend_tiles(lambda tile: tile * 2, batch, tile=48, overlap=16, multiple=8)
    np.testing.assert_allclose(result, batch * 2, atol=1e-6)


def test_blending_has_no_seams():
    """Each tile answers with a constant of its own; neighbouring pixels may differ by the fade's slope at most."""
    answers = iter(np.random.default_rng(0).random(1000))
    batch = np.zeros((1, 128, 128, 3), np.float32)
    result = blend_tiles(lambda tile: np.full(tile.shape, next(answers), np.float32), batch, 48, 24, 8)
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
    ],
)
def test_bad_options(params, options, message):
    with pytest.raises(InferenceError, match=message):
        Derainer(params, MODEL, **options)


def test_load_takes_files_and_workdirs(params, derainer, tmp_path):
    save_tiny(tmp_path / "weights.safetensors")
    image = picture(24, 32)
    np.testing.assert_array_equal(multifocal_jax.load(tmp_path)(image), derainer(image))
    assert find_weights(tmp_path) == find_weights(str(tmp_path / "weights.safetensors"))


def test_load_names_what_is_missing(tmp_path):
    with pytest.raises(WeightsError, match=r"holds no weights\.safetensors"):
        find_weights(tmp_path)
    with pytest.raises(WeightsError, match="'nonsense' are neither a file nor a workdir"):
        find_weights("nonsense")
