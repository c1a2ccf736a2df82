"""`multifocal evaluate` from the command line to the files, with a tiny network on pairs in a folder."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multifocal_jax.config import SourceConfig
from multifocal_jax.data.sources import open_source
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.inference import load
from multifocal_jax.evaluation.metrics import score, score_all
from multifocal_jax.evaluation.page import write_page
from multifocal_jax.evaluation.report import PictureScores, Report
from multifocal_jax.weights import Weights, save_weights
from tests.evaluation.helpers import CONFIG, TINY, Listed, evaluate_py, random_params, save_tiny, write_experiment

FOLDER = Path("runs/folder/evaluation")
NO_IMAGES = "--config.eval.save_images=False"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a config, weights as training leaves them, and three pairs."""
    monkeypatch.chdir(tmp_path)
    write_experiment(CONFIG, dict.fromkeys("abc", (24, 32)))


@pytest.fixture
def unchanged(here, monkeypatch):
    """The same, and in the place of the network one that leaves pictures as they are."""
    monkeypatch.setattr("multifocal_jax.evaluation.run.Derainer", lambda *_, **__: lambda batch: batch)


def read(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def report_in(folder: Path = FOLDER) -> Report:
    return Report.read(folder / "report.json")


def refused(message: str, *arguments: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_py(*arguments)


def test_from_the_command_line_to_the_files(here, capsys):
    assert evaluate_py() == 0
    assert "mean uint8" in capsys.readouterr().out
    assert {path.name for path in FOLDER.iterdir()} >= {"report.json", "report.csv", "report.md", "report.html"}
    report, derainer = report_in(), load("runs/folder")
    for picture, name in zip(report.pictures, "abc", strict=True):
        result = derainer(read(f"pairs/rain/{name}.png"))
        np.testing.assert_array_equal(read(FOLDER / "images" / f"{name}.png"), result)
        expected = score(result, read(f"pairs/norain/{name}.png"), "double")
        assert picture.result["double"].psnr == pytest.approx(expected.psnr)
    assert report.record["weights"] == "runs/folder"
    assert evaluate_py("--config.eval.save_images=False") == 0
    assert not (FOLDER / "report.html").exists()  # it would show results of the evaluation before


def test_several_weights_and_earlier_reports_side_by_side(unchanged, capsys):
    save_tiny("other.safetensors")
    assert evaluate_py("--output", "first", "--config.eval.limit=1", NO_IMAGES, "--quiet") == 0
    arguments = ["--weights", "runs/folder", "other.safetensors", "--compare", "first", "--output", "both"]
    assert evaluate_py(*arguments, "--config.eval.limit=2", NO_IMAGES) == 0
    assert Path("both/folder/report.json").is_file()
    assert Path("both/other/report.json").is_file()
    lines = Path("both/comparison.md").read_text().splitlines()
    titles = ["rainy input", "folder", "other", "rainy input of first", "first"]
    assert [line.split("|")[1].strip() for line in lines[2:7]] == titles
    what = "1 of folder, not 2 of folder"
    note = f"- first is scored on other pictures than folder: {what}; 1 are the same, so the means cannot be compared"
    assert lines[7:] == ["", note]
    assert lines[2] in capsys.readouterr().out


def test_networks_of_several_architectures_side_by_side(here, capsys):
    wide = dataclasses.replace(TINY, channels=8, spp_sizes=(1, 2))
    save_weights("wide.safetensors", Weights(random_params(wide), wide, {}))
    options = [NO_IMAGES, "--config.eval.limit=1"]
    assert evaluate_py("--weights", "runs/folder", "wide.safetensors", "--output", "both", *options) == 0
    difference = "- wide differs from folder in its architecture: channels: 4 -> 8, spp_sizes: [1, 3] -> [1, 2]\n"
    assert capsys.readouterr().out.endswith(difference + "\n")
    for name, network in (("folder", "runs/folder"), ("wide", "wide.safetensors")):
        expected = score(load(network)(read("pairs/rain/a.png")), read("pairs/norain/a.png"))
        assert report_in(Path("both", name)).pictures[0].result["uint8"] == expected
    refused("another architecture", "--weights", "wide.safetensors")
    assert evaluate_py("--compare", "both/wide", *options, "--config.eval.tile=64") == 0
    lines = (FOLDER / "comparison.md").read_text().splitlines()
    assert lines[-2:] == [difference[:-1], "- wide differs from folder in its options: tile: 64 -> 0"]


def test_weights_are_told_apart_by_names_with_dots_and_may_lie_here(unchanged, monkeypatch):
    for name in ("lr0.5", "lr0.25"):
        shutil.copytree("runs/folder", f"runs/{name}")
    assert evaluate_py("--weights", "runs/lr0.5", "runs/lr0.25", "--output", "both", "--quiet") == 0
    assert sorted(path.parent.name for path in Path("both").glob("*/report.json")) == ["lr0.25", "lr0.5"]
    shutil.copytree("pairs", "runs/folder/pairs")
    shutil.copy("config.py", "runs/folder")
    monkeypatch.chdir("runs/folder")
    assert evaluate_py("--workdir", ".", "--quiet") == 0
    assert Path("evaluation/report.json").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are Unicode")
def test_odd_names_and_wide_pictures_are_reported(unchanged):
    for folder in Path("pairs").iterdir():
        shutil.copy(folder / "a.png", folder / "a|b\n.png")
        (folder / "a.png").rename(folder / os.fsdecode(b"pl\xe4ne.png"))
        Image.fromarray(np.zeros((16, 16400, 3), np.uint8)).save(folder / "wide.png")
    assert evaluate_py("--quiet") == 0
    assert "pl\\udce4ne,32,24," in (FOLDER / "report.csv").read_text()
    table = [line for line in (FOLDER / "report.md").read_text().splitlines() if "24×32" in line]
    assert "pl\\udce4ne" in (FOLDER / "report.html").read_text()
    assert all(line.replace("\\|", "").count("|") == 6 for line in table)


def test_what_a_user_can_get_wrong(here):
    refused(r"another architecture .*channels: 8 -> 4.*--config\.model\.channels=4", "--config.model.channels=8")
    refused("'nowhere' are neither a file", "--weights", "nowhere")
    refused(r"holds no report\.json", "--compare", "pairs")
    refused("named twice", "--weights", "runs/folder", "runs/folder")
    refused("sets none aside", "--config.eval.split=held_out")
    Path("pairs/norain/b.png").unlink()
    refused("b")
    shutil.rmtree("pairs")
    refused("pairs")


def test_faults_are_listed_before_any_work_or_left_out(unchanged, capsys):
    for name in "def":
        for side in ("rain", "norain"):
            shutil.copy(f"pairs/{side}/a.png", f"pairs/{side}/{name}.png")
    Path("pairs/norain/b.png").write_bytes(b"broken")
    refused(r"^picture pairs/norain/b\.png .*no known format.* \(--config\.data\.on_broken=s")
    Image.new("RGB", (30, 24)).save("pairs/rain/c.png")
    for side in ("rain", "norain"):
        Image.new("RGB", (9, 24)).save(f"pairs/{side}/d.png")
    faults = [
        "3 of 6 pictures cannot be scored; repair or remove them, or score the others with "
        "--config.data.on_broken=skip:",
        "picture pairs/norain/b.png cannot be read: it is of no known format; replace or remove it",
        "pair c: pairs/rain/c.png is 30x24 but pairs/norain/c.png is 32x24; the two sides must be of one size",
        "d: a picture of 9x24 pixels is smaller than SSIM's window of 11x11",
    ]
    with pytest.raises(UserError) as error:
        evaluate_py()
    assert str(error.value).splitlines() == [faults[0], *(f"  {fault}" for fault in faults[1:])]
    assert not FOLDER.exists()

    Path("pairs/rain/e.png").write_bytes(Path("pairs/rain/e.png").read_bytes()[:-900])  # its header is whole
    assert evaluate_py("--config.data.on_broken=skip") == 0
    said = capsys.readouterr()
    assert "warning: 4 pictures are left out; the reports name them\n" in said.err
    assert all(f"left out: {name} (" in said.out for name in "bcde")
    report = report_in()
    assert [picture.name for picture in report.pictures] == ["a", "f"]
    assert list(report.left_out) == list("bcde")
    assert list(report.left_out.values())[:3] == faults[1:]
    assert f"- left out: c ({faults[2]})" in (FOLDER / "report.md").read_text()
    assert f"<dt>left out</dt><dd>c ({faults[2]})</dd>" in (FOLDER / "report.html").read_text()
    for name in "af":
        Path(f"pairs/norain/{name}.png").write_bytes(b"broken")
    nothing = "6 of 6 pictures cannot be scored; there is nothing left to score:\n"
    refused(nothing, "--config.data.on_broken=skip")


def test_an_evaluation_goes_on_after_a_repair(unchanged):
    Image.open("pairs/rain/c.png").save("pairs/rain/c.jpg")
    Path("pairs/rain/c.png").unlink()
    Path("pairs/rain/c.jpg").write_bytes(Path("pairs/rain/c.jpg").read_bytes()[:-200])  # its header is whole
    refused(r"picture pairs/rain/c\.jpg cannot be read")
    refused("begun with another config or other weights", "--resume", "--config.eval.tile=64")
    repaired = ["--config.data.on_broken=skip", "--config.data.workers=4", "--config.eval.family=double"]
    assert evaluate_py("--resume", "--weights", "./runs/folder", *repaired) == 0
    assert [picture.name for picture in report_in().pictures] == ["a", "b"]
    refused("begun with another config or other weights", "--resume", "--config.data.root=runs/../pairs")


def test_quiet_shows_nothing_on_a_terminal(unchanged, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert evaluate_py("--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert evaluate_py() == 0
    assert "checking pictures" in capsys.readouterr().err


def test_reports_at_their_usual_place_are_called_by_their_workdir(unchanged):
    shutil.copytree("runs/folder", "runs/earlier")
    for name in ("folder", "earlier"):
        assert evaluate_py("--workdir", f"runs/{name}", NO_IMAGES, "--quiet") == 0
    arguments = ["--workdir", "runs/folder", NO_IMAGES, "--quiet", "--output", "both"]
    for places in (["runs/earlier/evaluation"], ["runs/folder/evaluation/report.json", "runs/earlier/evaluation"]):
        assert evaluate_py(*arguments, "--compare", *places) == 0
        lines = Path("both/comparison.md").read_text().splitlines()
        titles = [line.split("|")[1].strip() for line in lines[3:]]
        assert titles == ["folder", *(["folder (2)"] if len(places) == 2 else []), "earlier"]
    not_text = r"is not a report of an evaluation: it is not text"
    refused(not_text, *arguments, "--compare", "runs/folder/weights.safetensors")


def test_pictures_that_are_trained_on_are_said_to_be(unchanged, capsys):
    assert evaluate_py() == 0
    said = capsys.readouterr()
    warning = "warning: 3 of the 3 pictures to score were trained on by runs/folder (not certain: the record of"
    assert warning in said.err
    assert "--config.eval.split=held_out scores those that training sets aside" in said.err
    assert "mean uint8 (trained on)" in said.out
    assert report_in().record["dataset"] == "folder, trained on"
    assert evaluate_py("--config.data.train.0.root=elsewhere") == 0
    assert "warning" not in capsys.readouterr().err


def test_results_do_not_come_among_photographs(here):
    shutil.copytree("pairs/rain", "flat")
    among = r"would lie among the pictures of .*flat and be read as such the next time"
    refused(among, "--photographs", "flat", "--output", "flat")
    assert {path.name for path in Path("flat").iterdir()} == {"a.png", "b.png", "c.png"}
    refused(r"a\.png is a file; name its folder", "--photographs", "flat/a.png")


def test_photographs_without_ground_truth(here, capsys):
    assert evaluate_py("--photographs", "pairs/rain") == 0
    assert "3 pictures without ground truth" in capsys.readouterr().out
    folder = Path("runs/folder/photographs")
    content = json.loads((folder / "report.json").read_text())
    assert [picture["name"] for picture in content["pictures"]] == ["a", "b", "c"]
    assert content["record"]["dataset"] == "rainy"
    np.testing.assert_array_equal(read(folder / "images" / "b.png"), load("runs/folder")(read("pairs/rain/b.png")))
    assert (folder / "report.html").is_file()
    photographs = ["--photographs", "pairs/rain", "--metrics"]
    refused("LPIPS compares with the ground truth", *photographs, "lpips")
    refused("a: a picture of 32x24 pixels is too small for NIQE", *photographs, "niqe")
    Path("empty").mkdir()
    refused(r"no pictures in .*empty", "--photographs", "empty")
    no_pairs = r"no pairs under .*; pictures without ground truth: --photographs DIR"
    refused(no_pairs, "--config.data.test.root=rain")
    with pytest.raises(UserError, match="have no ground truth; they can be evaluated"):
        open_source(SourceConfig(dataset="rainy", root="pairs/rain"))


@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path):
    """Chromium shows the slider, moves it and exchanges the left picture; where there is no Chromium, this fails."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "install it: apt install chromium"

    result, clean, rainy = (np.zeros((60, 90, 3), np.uint8) + np.uint8(255) * row for row in np.eye(3, dtype=np.uint8))
    (tmp_path / "images").mkdir()
    Image.fromarray(result).save(tmp_path / "images" / "picture-0.png")  # red, with green and blue
    scores = PictureScores("picture-0", 90, 60, score_all(rainy, clean), score_all(result, clean))
    write_page(Report((scores,)), Listed([(rainy, clean)]), tmp_path)
    page = (tmp_path / "report.html").read_text()

    def columns(script: str) -> list[str]:
        """Colours of the slider at a tenth and nine tenths of its width, as painted."""
        acted = page.replace("</body>", f"<script>{script}; scrollTo(0, 0)</script></body>")
        acted = acted.replace("nav {", "nav, dl, h1, table, details { display: none } nav {")
        (tmp_path / "acted.html").write_text(acted)
        shot = tmp_path / "shot.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=400,300"]
        command = [browser, *options, f"--screenshot={shot}", f"file://{tmp_path}/acted.html"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        painted = read(str(shot)).astype(int)
        colourful = np.argwhere(np.ptp(painted[..., :3], axis=-1) > 150)
        (top, left), (bottom, right) = colourful.min(0), colourful.max(0)
        middle = painted[(top + bottom) // 2, :, :3]
        return [("red", "green", "blue")[middle[left + (right - left) * n // 10].argmax()] for n in (1, 4, 6, 9)]

    move = "s = document.querySelector('input[type=range]'); s.value = {}; "
    move += "s.dispatchEvent(new Event('input', {{bubbles: true}}))"
    assert columns("") == ["blue", "blue", "red", "red"]
    assert columns(move.format(80)) == ["blue", "blue", "blue", "red"]
    assert columns(move.format(20)) == ["blue", "red", "red", "red"]
    assert columns("document.querySelector('input[value=clean]').click()") == ["green", "green", "red", "red"]
