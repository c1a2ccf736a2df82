"""Counts by hand and from docs/reconstruction.md's figures."""

import pytest

from multifocal_jax.cli.main import run
from multifocal_jax.config import ModelConfig
from multifocal_jax.cost import count_macs, measure, to_markdown
from multifocal_jax.evaluation import memory

HEAD = ModelConfig(channels=4, modules=0, heads=1, spp_sizes=(1, 3))


def test_the_default_network():
    none, one = (sum(count_macs(ModelConfig(modules=modules), 128, 128).values()) for modules in (0, 1))
    assert none + 8 * (one - none) == pytest.approx(14.2e9, abs=0.05e9)  # each of the modules costs the same


def test_counts_by_hand():
    """No modules, C = 4, S = 10: pyramid, shallow convs, three spatial CSSABs, fusion at 16×8."""
    pixels = [16 * 8, 8 * 4, 4 * 2]
    pyramid = 9 * 3 * 3 * (pixels[1] + pixels[2])
    shallow = 9 * 3 * 4 * sum(pixels)
    neighbours = [*pixels[1:], pixels[2]]  # the bottom level reads itself
    projections = 4 * 4 * (sum(pixels) + 2 * sum(neighbours))
    fusion = (9 * 12 * 4 + 9 * 4 * 3) * pixels[0]
    macs = count_macs(HEAD, 16, 8)
    assert macs["convolutions"] == pyramid + shallow + projections + fusion
    assert macs["spatial attention"] == 2 * sum(pixels) * 10 * 4


def test_channel_attention_by_hand():
    """One module with only channel CSSABs, 2 heads of 2 channels, S = 10: at the halved sizes of each level."""
    model = ModelConfig(channels=4, modules=1, heads=2, spp_sizes=(1, 3), interaction="channel")
    macs = count_macs(model, 16, 8)
    assert "spatial attention" not in macs
    assert macs["channel attention"] == sum(2 * (10 + pixels) * 2 * 2 for pixels in (8 * 4, 4 * 2, 2 * 1))


def test_measured():
    (result,) = measure(HEAD, [(14, 9)], repeats=1)
    assert (result.height, result.width) == (16, 16)
    assert 0 < result.seconds < 60
    assert result.memory > 16 * 16 * 4 * 4
    assert "| 16×16 |" in to_markdown(HEAD, [result])


def test_a_size_that_does_not_fit_costs_the_others_nothing(monkeypatch):
    monkeypatch.setattr(memory, "lack", lambda device, size: 1 if size > 10**9 else None)
    small, large = measure(HEAD, [(16, 16), (4096, 4096)], repeats=1)
    assert small.seconds > 0
    assert large.memory > 10**9
    last = to_markdown(HEAD, [small, large]).splitlines()[-3]
    assert last.startswith("| 4096×4096 | ")
    assert last.endswith(f" G | does not fit | does not fit | {large.memory / 1e9:.2f} GB |")


def test_command(tmp_path, capsys):
    file = tmp_path / "config.py"
    file.write_text("from multifocal_jax.config import ExperimentConfig\ndef get_config(): return ExperimentConfig()\n")
    small = ["--config.model.channels=8", "--config.model.modules=0"]
    assert run(["cost", "--config", str(file), "--sizes", "128x60", "--repeats", "0", *small]) == 0
    assert "| 128×64 | 0.0" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(["cost", "--config", str(file), "--sizes", "128"])
    assert "'128' is not a size; allowed: WIDTHxHEIGHT in pixels, such as 481x321" in capsys.readouterr().err
