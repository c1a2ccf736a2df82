"""NIQE against golden values by BasicSR (tests/golden/make_niqe.py), LPIPS's hand-over, and reports that hold both."""

import contextlib
import csv
import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from multifocal_jax.evaluation.metrics import MetricError
from multifocal_jax.evaluation.niqe import niqe
from multifocal_jax.evaluation.page import write_page
from multifocal_jax.evaluation.perceptual import open_measures
from multifocal_jax.evaluation.report import Report, comparison_table
from multifocal_jax.evaluation.scoring import evaluate
from tests.evaluation.helpers import Listed
from tests.golden.golden_pairs import digest, golden_pairs
from tests.launch import ROOT

VALUES = json.loads((ROOT / "tests" / "golden" / "niqe.json").read_text())["pairs"]


def test_niqe_golden_values():
    """To a thousandth: BasicSR counts the signs of rounding errors in flat places and halves in float32."""
    for name, pair in golden_pairs().items():
        assert digest(pair) == VALUES[name]["sha256"], "the pictures are not those that the values were made of"
        for picture, side in zip(pair, ("rainy", "clean"), strict=True):
            assert niqe(picture) == pytest.approx(VALUES[name][side], rel=1e-3)


def test_niqe_of_unfit_pictures(rng):
    flat = np.full((192, 192, 3), 7, np.uint8)
    for picture, message in ((flat[:191, :100], "100x191 pixels is too"), (flat, "flat"), (flat / 1, "needs uint8")):
        with pytest.raises(MetricError, match=message):
            niqe(picture)
    half = rng.integers(0, 256, (192, 288, 3)).astype(np.uint8)
    half[:, :96] = 200  # two of six blocks are flat
    assert 0 < niqe(half) < 1000


RAINY = np.random.default_rng(0).integers(0, 200, (3, 100, 200, 3)).astype(np.uint8)
PHOTOGRAPHS = Listed((rainy, None) for rainy in RAINY)


def smooth(batch):
    return (batch // np.uint8(3) + np.roll(batch, 1, 1) // np.uint8(3) + np.roll(batch, 1, 2) // np.uint8(3)).copy()


def test_photographs_without_ground_truth(tmp_path):
    report = evaluate(smooth, PHOTOGRAPHS, measures=open_measures(["niqe"], truth=False), output=tmp_path)
    assert not report.has_truth
    for rainy, picture in zip(RAINY, report.pictures, strict=True):
        assert picture.perceptual["niqe"] == pytest.approx((niqe(rainy), niqe(smooth(rainy[None])[0])))
    assert Report.from_json(report.to_json()) == report
    again = evaluate(lambda batch: pytest.fail("everything is scored"), PHOTOGRAPHS, output=tmp_path, resume=True)
    assert again.pictures == report.pictures
    values = [picture.perceptual["niqe"][1] for picture in report.worst_first()]
    assert values == sorted(values, reverse=True)
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert list(rows[0]) == ["name", "width", "height", "input_niqe", "result_niqe"]
    assert f"{np.mean(values):.4f}" in report.to_markdown()
    write_page(report, PHOTOGRAPHS, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "PSNR" not in report.to_markdown() + report.to_text() + page
    assert page.count("<img") == 6
    assert '<label hidden><input type="radio" name="left" value="clean">' in page


def test_photographs_without_any_metric(tmp_path):
    report = evaluate(smooth, PHOTOGRAPHS, output=tmp_path)
    assert "3 pictures without ground truth; --metrics niqe" in report.to_text()
    lines = report.to_markdown().splitlines()[-3:]
    assert [line.split("|")[1].strip() for line in lines] == ["picture-0", "picture-1", "picture-2"]
    write_page(report, PHOTOGRAPHS, tmp_path)
    assert (tmp_path / "report.html").read_text().count('<figure id="picture-') == 3


def test_metrics_beside_psnr():
    source = Listed((rainy, rainy // 2) for rainy in RAINY)
    plain = evaluate(smooth, source)
    report = evaluate(smooth, source, measures={"niqe": lambda picture, clean: float(picture.mean())})
    assert [picture.result for picture in report.pictures] == [picture.result for picture in plain.pictures]
    assert json.loads(report.to_json())["mean"]["niqe"]["input"] == pytest.approx(RAINY.mean())
    assert "NIQE rainy | NIQE de-rained" in report.to_markdown()
    assert "mean niqe" in report.to_text()
    table = comparison_table([("plain", plain), ("with niqe", report)]).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert [line.split("|")[1].strip() for line in table[2:]] == ["rainy input", "plain", "with niqe"]
    assert [line.split("|")[-2].strip() for line in table[2:4]] == [f"{RAINY.mean():.4f}", "not measured"]
    assert "niqe" not in plain.to_markdown().lower() + plain.to_csv() + plain.to_json()


@pytest.fixture
def torchmetrics(monkeypatch):
    """In the place of PyTorch, torchvision and TorchMetrics: a network that tells what it was given."""

    def network(net_type):
        assert net_type == "alex"
        return SimpleNamespace(net=lambda *tensors, normalize: modules.seen.append((*tensors, normalize)) or 0.25)

    modules = SimpleNamespace(LearnedPerceptualImagePatchSimilarity=network, seen=[])
    torch = SimpleNamespace(no_grad=contextlib.nullcontext, from_numpy=lambda array: array)
    torch.hub = SimpleNamespace(get_dir=lambda: "/cache")
    stand_ins = {"torch": torch, "torchmetrics.image.lpip": modules}
    for name in ("torch", "torchvision", "torchmetrics", "torchmetrics.image", "torchmetrics.image.lpip"):
        monkeypatch.setitem(sys.modules, name, stand_ins.get(name, SimpleNamespace()))
    return modules


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

    def unreachable(net_type):
        raise OSError("no network")

    monkeypatch.setattr(torchmetrics, "LearnedPerceptualImagePatchSimilarity", unreachable)
    with pytest.raises(MetricError, match=r"AlexNet's weights.*no network.*at /cache/checkpoints/alexnet-.*\.pth"):
        open_measures(["lpips"], truth=True)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MetricError, match=r"needs torchvision: pip install 'multifocal-jax\[metrics\]'"):
        open_measures(["lpips"], truth=True)
