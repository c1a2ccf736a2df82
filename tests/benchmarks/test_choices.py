import pytest

from benchmarks.choices import CHOICES, configure, finished, table
from multifocal_jax.config_files import changed_fields


@pytest.mark.parametrize("choice", CHOICES)
def test_all_choices_see_as_many_pixels_and_differ_in_what_they_say(choice):
    config = configure(choice, seed=1)
    pixels = config.train.steps * config.train.batch_size * config.data.crop_size**2
    assert pixels == 300 * 4 * 64**2
    changed = {change.name for change in changed_fields(configure("default", seed=1), config)}
    assert changed - {"name"} == set(CHOICES[choice][1])


def test_the_table_shows_means_and_spread_and_names_what_was_not_run(tmp_path):
    (tmp_path / "ema-0.json").write_text('{"psnr": 20.0, "ssim": 0.5, "parameters": 1000}')
    (tmp_path / "ema-1.json").write_text('{"psnr": 21.0, "ssim": 0.6, "parameters": 1000}')
    lines = table(finished(tmp_path)).splitlines()
    assert len(lines) == 2 + len(CHOICES)
    assert lines[2] == "| default | | not run | | | 0 |"
    assert lines[-1] == "| mean of the weights, decay 0.99 | 1,000 | 20.50 | 20.00 to 21.00 | 0.5500 | 2 |"
