"""The weights that come with the package, as a fresh installation finds them."""

import jax
import numpy as np
import pytest

import multifocal_jax
from multifocal_jax.cli.main import run
from multifocal_jax.config import SourceConfig
from multifocal_jax.data.sources import open_source
from multifocal_jax.evaluation.inference import Derainer
from multifocal_jax.evaluation.metrics import score
from multifocal_jax.release.pack import LARGEST, LARGEST_TOGETHER
from multifocal_jax.weights import WeightsError, load_weights
from multifocal_jax.weights_lookup import DEFAULT_NAME, find_weights, packaged_weights, pretrained_folder

SIDE = 192


@pytest.fixture(scope="module")
def default():
    return multifocal_jax.load()


def part(rain):
    """Of the cat Chelsea: rainy and clean."""
    pair = open_source(SourceConfig(dataset="demo", split="test", rain=rain)).load(0)
    return [picture[60 : 60 + SIDE, 120 : 120 + SIDE] for picture in pair]


@pytest.mark.parametrize(("rain", "gain"), [("light", 1.0), ("heavy", 4.0)])
def test_the_default_weights_take_rain_away(default, rain, gain):
    rainy, clean = part(rain)
    assert score(default(rainy), clean).psnr > score(rainy, clean).psnr + gain


def test_the_default_weights_leave_a_photograph_without_rain_alone(default):
    _, clean = part("light")
    assert score(default(clean), clean).psnr >= 38
    unharmed = load_weights(find_weights()).record["scores"][-1]
    assert unharmed["input"] is None
    assert unharmed["result"]["uint8"][0] >= 38


def test_files_are_small_and_have_a_notice():
    sizes = [path.stat().st_size for path in packaged_weights().values()]
    assert max(sizes) <= LARGEST == 12_000_000
    assert sum(sizes) <= LARGEST_TOGETHER == 25_000_000
    notice = (pretrained_folder() / "NOTICE").read_text()
    for name in packaged_weights():
        assert name in notice


@pytest.mark.parametrize("rain", ["light", "heavy"])
@pytest.mark.parametrize("name", packaged_weights())
def test_rounding_to_float16_costs_less_than_a_hundredth_of_a_decibel(name, rain):
    weights = load_weights(packaged_weights()[name])
    assert abs(weights.record["float16_loss_db"]) < 0.01  # measured when the float32 weights were at hand
    # What they were is lost; any weights that round to these ones must do the same.
    rng = np.random.default_rng(0)

    def unrounded(value):
        half_step = np.spacing(np.abs(value).astype(np.float16)).astype(np.float32) / 2
        return value + rng.uniform(-0.99, 0.99, value.shape).astype(np.float32) * half_step

    rainy, clean = part(rain)
    rounded = Derainer(weights.params, weights.model)
    exact = rounded.with_params(jax.tree.map(unrounded, weights.params))
    assert abs(score(exact(rainy), clean).psnr - score(rounded(rainy), clean).psnr) < 0.01


def test_the_list_shows_network_data_and_scores_with_the_default_first(capsys):
    with pytest.raises(SystemExit) as exit_:
        run(["derain", "--list-weights"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    listed = multifocal_jax.list_weights()
    assert shown.startswith(f"{DEFAULT_NAME} (default), version {listed[0].about.record['release']}: ")
    assert {weights.name for weights in listed} == set(packaged_weights()) >= {"demo", DEFAULT_NAME}
    for weights in listed:
        entry = str(weights)
        assert entry in shown
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(load_weights(weights.path).params))
        assert f"{count:,} parameters, {weights.path.stat().st_size / 1e6:.1f} MB" in entry
        assert "trained on: " in entry
        assert " dB / 0." in entry


def test_a_damaged_file_is_refused_in_one_line(tmp_path):
    content = bytearray(packaged_weights()["demo"].read_bytes())
    content[-100] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"^.*checksum differs.*$") as error:
        load_weights(tmp_path / "damaged.safetensors")
    assert "\n" not in str(error.value)


def test_a_folder_of_the_same_name_does_not_hide_packaged_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # as `make demo` leaves it
    assert find_weights("demo") == packaged_weights()["demo"]
