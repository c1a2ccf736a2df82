"""NIQE against golden values by BasicSR (tests/golden/make_niqe.py), LPIPS's hand-over, and reports that hold both."""

import csv
import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from multifocal_jax.evaluation.metrics import MetricError
from multifocal_jax.evaluation.niqe import niqe
from multifocal_jax.evaluation.page import write_page
from multifocal_jax.evaluation.perceptual import open_measures
from multifocal_jax.evaluation.report import Report, comparison_table
from multifocal_jax.evaluation.scoring import evaluate
from tests.golden.golden_pairs import digest, golden_pairs

GOLDEN = Path(__file__).parents[1] / "golden"

VALUES = json.loads((GOLDEN / "niqe.json").read_text())["pairs"]


def test_niqe_golden_values():
    """To a thousandth: BasicSR counts the signs of rounding errors in flat places and halves in float32."""
    for name, pair in golden_pairs().items():
        assert digest(pair) == VALUES[name]["sha256"], "the pictures are not those that the values were made of"
        assert niqe(pair[0]) == pytest.approx(VALUES[name]["rainy"], rel=1e-3)
        assert niqe(pair[1]) == pytest.approx(VALUES[name]["clean"], rel=1e-3)


def test_niqe_of_unfit_pictures(rng):
    with pytest.raises(MetricError, match="100x191 pixels is too small for NIQE"):
        niqe(np.zeros((191, 100, 3), np.uint8))
    with pytest.raises(MetricError, match="flat"):
        niqe(np.full((192, 192, 3), 7, np.uint8))
    with pytest.raises(MetricError, match="needs uint8"):
        niqe(np.zeros((192, 192, 3)))
    half = rng.integers(0, 256, (192, 288, 3)).astype(np.uint8)
    half[:, :96] = 200  # two of six blocks are flat
    assert 0 < niqe(half) < 1000


class Photographs:
    """Rainy pictures with or without ground truth."""

    def __init__(self, rng, truth: bool):
        self.rainy = [rng.integers(0, 200, (100, 200, 3)).astype(np.uint8) for _ in range(3)]
        self.truth = truth

    def __len__(self):
        return len(self.rainy)

    def name(self, index):
        return f"photograph-{index}"

    def load(self, index):
        return self.rainy[index], self.rainy[index] // 2 if self.truth else None


def smooth(batch):
    """Each next picture is smoothed more; told apart by their first value."""
    return (batch // np.uint8(3) + np.roll(batch, 1, 1) // np.uint8(3) + np.roll(batch, 1, 2) // np.uint8(3)).copy()


def test_photographs_without_ground_truth(rng, tmp_path):
    source = Photographs(rng, truth=False)
    report = evaluate(smooth, source, measures=open_measures(["niqe"], truth=False), output=tmp_path)
    assert not report.has_truth
    for index, picture in enumerate(report.pictures):
        expected = niqe(source.rainy[index]), niqe(smooth(source.rainy[index][None])[0])
        assert picture.perceptual["niqe"] == pytest.approx(expected)
    assert Report.from_json(report.to_json()) == report
    again = evaluate(lambda batch: pytest.fail("everything is scored"), source, output=tmp_path, resume=True)
    assert again.pictures == report.pictures
    values = [picture.perceptual["niqe"][1] for picture in report.worst_first()]
    assert values == sorted(values, reverse=True)
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert list(rows[0]) == ["name", "width", "height", "input_niqe", "result_niqe"]
    assert "PSNR" not in report.to_markdown() + report.to_text()
    assert f"{np.mean(values):.4f}" in report.to_markdown()
    write_page(report, source, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == 6
    assert "PSNR" not in page
    assert '<label hidden><input type="radio" name="left" value="clean">' in page


def test_photographs_without_any_metric(rng, tmp_path):
    source = Photographs(rng, truth=False)
    report = evaluate(smooth, source, output=tmp_path)
    assert "3 pictures without ground truth; --metrics niqe" in report.to_text()
    assert [line.split("|")[1].strip() for line in report.to_markdown().splitlines()[-3:]] == [
        "photograph-0",
        "photograph-1",
        "photograph-2",
    ]
    write_page(report, source, tmp_path)
    assert (tmp_path / "report.html").read_text().count('<figure id="photograph-') == 3


def test_metrics_beside_psnr(rng):
    source = Photographs(rng, truth=True)
    plain = evaluate(smooth, source)
    report = evaluate(smooth, source, measures={"niqe": lambda picture, clean: float(picture.mean())})
    assert [picture.result for picture in report.pictures] == [picture.result for picture in plain.pictures]
    assert json.loads(report.to_json())["mean"]["niqe"]["input"] == pytest.approx(
        np.mean([picture.mean() for picture in source.rainy])
    )
    assert "NIQE rainy | NIQE de-rained" in report.to_markdown()
    assert "mean niqe" in report.to_text()
    table = comparison_table([("plain", plain), ("with niqe", report)]).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert table[3].endswith("| not measured |")
    assert "niqe" not in plain.to_markdown().lower() + plain.to_csv() + plain.to_json()


@pytest.fixture
def torchmetrics(monkeypatch):
    """In the place of PyTorch, torchvision and TorchMetrics: a network that tells what it was given."""

    class Network:
        def __init__(self, net_type):
            assert net_type == "alex"
            self.net = lambda picture, clean, normalize: self.seen.append((picture, clean, normalize)) or 0.25

    class NoGrad:
        def __enter__(self): ...
        def __exit__(self, *_): ...

    Network.seen = []
    modules = {name: types.ModuleType(name) for name in ("torch", "torchvision", "torchmetrics", "torchmetrics.image")}
    modules["torch"].no_grad = NoGrad
    modules["torch"].from_numpy = lambda array: array
    modules["torch"].hub = types.SimpleNamespace(get_dir=lambda: "/cache")
    lpip = modules["torchmetrics.image.lpip"] = types.ModuleType("torchmetrics.image.lpip")
    lpip.LearnedPerceptualImagePatchSimilarity = Network
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return Network


def test_lpips_is_given_tensors_from_0_to_1(torchmetrics, rng):
    measure = open_measures(["lpips"], truth=True)["lpips"]
    picture, clean = rng.integers(0, 256, (2, 40, 50, 3)).astype(np.uint8)
    assert measure(picture, clean) == 0.25
    given, reference, normalize = torchmetrics.seen[0]
    assert normalize  # to the range of the network, from [0, 1]
    np.testing.assert_allclose(given[0, 2], picture[..., 2] / 255, rtol=1e-6)
    np.testing.assert_allclose(reference[0, 1], clean[..., 1] / 255, rtol=1e-6)
    with pytest.raises(MetricError, match="too small for LPIPS"):
        measure(picture[:20], clean[:20])


def test_lpips_that_cannot_be_had(torchmetrics, monkeypatch):
    with pytest.raises(MetricError, match="LPIPS compares with the ground truth"):
        open_measures(["lpips", "niqe"], truth=False)

    def unreachable(self, net_type):
        raise OSError("no network")

    monkeypatch.setattr(torchmetrics, "__init__", unreachable)
    with pytest.raises(MetricError, match=r"AlexNet's weights.*no network.*at /cache/checkpoints/alexnet-.*\.pth"):
        open_measures(["lpips"], truth=True)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MetricError, match=r"needs torchvision; install it with: pip install '\.\[metrics\]'"):
        open_measures(["lpips"], truth=True)
