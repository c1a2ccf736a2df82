"""Scoring a source with a stand-in for the network; scores are compared with those of the files written."""

import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from multifocal_jax.data.errors import ImageError
from multifocal_jax.evaluation.journal import JournalError
from multifocal_jax.evaluation.metrics import MetricError, score_all
from multifocal_jax.evaluation.page import write_page
from multifocal_jax.evaluation.report import Report, ReportError, comparison_table, differences
from multifocal_jax.evaluation.scoring import EvaluationError, evaluate
from multifocal_jax.files import OutputError
from tests.evaluation.helpers import Listed


def pictures(*sizes):
    """Pairs of random pictures; the rainy ones are brighter, more so from picture to picture."""
    rng = np.random.default_rng(0)
    clean = [rng.integers(0, 200, (*size, 3), dtype=np.uint8) for size in sizes]
    return Listed((picture + np.uint8(10 + 10 * number), picture) for number, picture in enumerate(clean))


SOURCE = pictures((24, 32), (32, 24), (24, 32), (24, 32), (40, 40))


def darken(batch: np.ndarray) -> np.ndarray:
    """Takes away 10 of the rain."""
    assert batch.ndim == 4
    return batch - np.uint8(10)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    report = evaluate(darken, SOURCE, output=folder, record={"name": "test <set>", "tile": 0})
    return report, folder


def test_scores_are_those_of_the_written_files(evaluated):
    report, folder = evaluated
    assert [picture.name for picture in report.pictures] == [SOURCE.name(i) for i in range(5)]
    for index, picture in enumerate(report.pictures):
        rainy, clean = SOURCE.load(index)
        with Image.open(folder / "images" / f"{picture.name}.png") as file:
            written = np.asarray(file)
        assert picture.result == score_all(written, clean)
        assert picture.input == score_all(rainy, clean)
        assert (picture.height, picture.width) == clean.shape[:2]


def test_means_are_over_pictures(evaluated):
    report, _ = evaluated
    tail = Report(report.pictures[1:])  # the first is restored perfectly
    for side in ("input", "result"):
        scores = [getattr(picture, side)["double"] for picture in tail.pictures]
        for measure in ("psnr", "ssim"):
            expected = np.mean([getattr(score, measure) for score in scores])
            assert getattr(tail.mean(side, "double"), measure) == pytest.approx(expected)
    assert report.mean("result").psnr == np.inf


def test_batches_of_equal_size_give_the_same(evaluated):
    sizes = []

    def watch(batch):
        sizes.append(batch.shape)
        return darken(batch)

    assert evaluate(watch, SOURCE, batch_size=2).pictures == evaluated[0].pictures
    assert {shape[0] for shape in sizes} == {2}  # filled up, so that each size is compiled once
    assert len(sizes) == 4


def test_limit(evaluated):
    assert evaluate(darken, SOURCE, limit=2).pictures == evaluated[0].pictures[:2]


def test_an_interrupted_evaluation_goes_on(tmp_path, evaluated):
    many, calls = pictures(*[(16, 16)] * 12), []

    def interrupted(batch):
        calls.append(batch)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return darken(batch)

    with pytest.raises(KeyboardInterrupt):
        evaluate(interrupted, many, output=tmp_path)
    kept = len((tmp_path / "scores.jsonl").read_text().splitlines()) - 1
    assert 0 < kept < 9
    with (tmp_path / "scores.jsonl").open("a") as file:
        file.write('{"name": "picture-11", "wid')  # cut short

    calls.clear()
    report = evaluate(lambda batch: calls.append(batch) or darken(batch), many, output=tmp_path, resume=True)
    assert len(calls) == 12 - kept
    assert report.pictures == evaluate(darken, many).pictures
    again = evaluate(lambda batch: pytest.fail("everything is scored"), many, output=tmp_path, resume=True)
    assert again.pictures == report.pictures


def test_resuming_something_else_is_refused(tmp_path):
    evaluate(darken, SOURCE, limit=1, output=tmp_path, record={"weights": "a"})
    with pytest.raises(JournalError, match="begun with another config or other weights"):
        evaluate(darken, SOURCE, limit=1, output=tmp_path, record={"weights": "b"}, resume=True)


@pytest.mark.parametrize("kept", ["", "\n", '{"record": {"wei'])
def test_scores_cut_off_before_the_first_are_begun_anew(tmp_path, evaluated, kept):
    (tmp_path / "scores.jsonl").write_text(kept)
    assert evaluate(darken, SOURCE, output=tmp_path, resume=True).pictures == evaluated[0].pictures
    assert json.loads((tmp_path / "scores.jsonl").read_text().splitlines()[0]) == {"record": {}}


def test_bad_sources(tmp_path):
    with pytest.raises(EvaluationError, match="no pictures to score"):
        evaluate(darken, pictures())
    with pytest.raises(MetricError, match=r"picture-0: .* smaller than SSIM's window"):
        evaluate(darken, pictures((8, 8)))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write into .*file"):
        evaluate(darken, SOURCE, output=tmp_path / "file")


def test_pictures_that_no_evaluation_wrote_are_kept(tmp_path):
    photograph = tmp_path / "images" / "picture-1.png"
    photograph.parent.mkdir()
    photograph.write_bytes(b"precious")
    with pytest.raises(EvaluationError, match=r"picture-1\.png would be replaced, and there is no scores\.jsonl"):
        evaluate(darken, SOURCE, output=tmp_path)
    assert photograph.read_bytes() == b"precious"
    assert not (tmp_path / "scores.jsonl").exists()
    assert evaluate(darken, SOURCE, output=tmp_path, save_images=False).pictures
    photograph.unlink()
    for _ in range(2):  # its own may be replaced
        evaluate(darken, SOURCE, output=tmp_path)


def test_scores_known_before_a_broken_picture_are_kept(tmp_path):
    def load(index):
        if index == 4:
            raise ImageError("picture-4 is broken")
        return SOURCE.load(index)

    broken = Listed(SOURCE.pictures)
    broken.load = load
    with pytest.raises(ImageError, match="picture-4 is broken"):
        evaluate(darken, broken, output=tmp_path)
    names = [json.loads(line)["name"] for line in (tmp_path / "scores.jsonl").read_text().splitlines()[1:]]
    assert names == [f"picture-{index}" for index in range(len(names))]
    assert len(list((tmp_path / "images").iterdir())) == len(names)


def test_json_round_trip(evaluated):
    report, _ = evaluated
    text = report.to_json()
    assert json.loads(text)["pictures"][0]["scores"]["uint8"]["result"]["psnr"] is None  # infinite
    assert Report.from_json(text) == report
    content = json.loads(text)
    for wrong in ({}, [], content | {"pictures": []}, content | {"pictures": [{"name": "a"}]}):
        with pytest.raises(ReportError, match=r"x\.json is not a report"):
            Report.from_json(json.dumps(wrong), "x.json")
    for picture in content["pictures"]:
        del picture["scores"]["rgb"]
    with pytest.raises(ReportError, match="lacks scores of some"):
        Report.from_json(json.dumps(content))


def test_equal_pictures_gain_nothing():
    _, clean = SOURCE.load(0)
    report = evaluate(lambda batch: batch, Listed([(clean, clean)]))
    for text in (report.to_text(), report.to_markdown()):
        assert "+0.00" in text
        assert "nan" not in text


def test_csv(evaluated):
    report, _ = evaluated
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [row["name"] for row in rows] == [picture.name for picture in report.pictures]
    assert float(rows[2]["result_double_psnr"]) == pytest.approx(report.pictures[2].result["double"].psnr, abs=1e-4)


def test_tables_hold_every_picture_and_family(evaluated):
    report, _ = evaluated
    for text in (report.to_text(), report.to_markdown()):
        assert all(picture.name in text for picture in report.pictures)
        assert all(family in text for family in ("uint8", "double", "rgb"))
    lines = [line for line in report.to_markdown().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert len({line.count("|") for line in lines[5:]}) == 1


def test_side_by_side(evaluated):
    report, _ = evaluated
    table = comparison_table([("one", report), ("two", evaluate(lambda batch: batch, SOURCE))]).splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == ["rainy input", "one", "two"]  # and no difference
    assert table[2].split("|")[3:] == table[4].split("|")[3:]  # "two" leaves the rain
    other = evaluate(darken, SOURCE, limit=3)
    table = comparison_table([("one", report), ("three", other), ("again", report)]).splitlines()
    titles = [line.split("|")[1].strip() for line in table[2:7]]
    assert titles == ["rainy input", "one", "rainy input of three", "three", "again"]
    assert len(table) == 9
    assert "three is scored on other pictures than one: 3 of an unknown set, not 5 of" in table[8]
    brighter = Listed((rainy + np.uint8(1), clean) for rainy, clean in SOURCE.pictures)
    (line,) = differences([("one", report), ("rainier", evaluate(darken, brighter))])
    assert "5 of an unknown set, not 5 of an unknown set; 0 are the same" in line


class Elements(HTMLParser):
    """Tags with their attributes, in order."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page(evaluated):
    report, folder = evaluated
    write_page(report, SOURCE, folder)
    elements = Elements((folder / "report.html").read_text())
    assert elements.open == []
    figures = [attributes["id"] for tag, attributes in elements.found if tag == "figure"]
    assert figures == [f"picture-{i}" for i in (4, 3, 2, 1, 0)]  # worst first
    assert sum(attributes.get("type") == "range" for tag, attributes in elements.found if tag == "input") == 5
    sources = [attributes["src"] for tag, attributes in elements.found if tag == "img"]
    assert len(sources) == 15
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    links = [value for _, attributes in elements.found for key, value in attributes.items() if key in ("href", "src")]
    assert not [link for link in links if not link.startswith(("#", "data:"))]  # self-contained
    assert "test &lt;set&gt;" in (folder / "report.html").read_text()
