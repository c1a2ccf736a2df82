"""The command `derain` on files of every kind, with a tiny network or a stand-in for it."""

import functools
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from multifocal_jax.cli.main import run
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation import inference
from multifocal_jax.evaluation.niqe import niqe
from multifocal_jax.files import PARTIAL
from multifocal_jax.media import derain_files as files
from tests.evaluation.helpers import save_tiny
from tests.media import films

derain = functools.partial(run, name="derain")
PIXELS = np.random.default_rng(0).integers(0, 200, (20, 30, 3)).astype(np.uint8)


@pytest.fixture
def brighten(monkeypatch):
    """In the place of the network: adds 20 to every value of 8 bits."""
    monkeypatch.setattr(inference, "load", lambda name, **options: lambda image: image + image.dtype.type(20))


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "in"
    (source / "sub" / "deep").mkdir(parents=True)
    (source / ".hidden").mkdir()
    Image.fromarray(PIXELS).save(source / "a.png")
    Image.fromarray(PIXELS[..., 0]).save(source / "sub" / "grey.png")
    Image.fromarray(PIXELS).save(source / "sub" / "deep" / "b.JPG", quality=95)
    Image.fromarray(PIXELS).save(source / ".hidden" / "c.png")
    (source / "notes.txt").write_text("no picture")
    return source


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_with_a_real_network(tmp_path):
    weights = save_tiny(tmp_path / "w.safetensors")
    Image.fromarray(PIXELS).save(tmp_path / "in.png")
    assert derain([str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--weights", weights, "--quiet"]) == 0
    expected = inference.load(weights)(PIXELS)
    np.testing.assert_array_equal(np.asarray(opened(tmp_path / "out.png")), expected)


def test_the_strength_is_that_of_the_option(tmp_path):
    weights = save_tiny(tmp_path / "w.safetensors")
    Image.fromarray(PIXELS).save(tmp_path / "in.png")
    taken = {}
    for strength in ("0", "0.5", "1", "1.5"):
        out = tmp_path / f"{strength}.png"
        options = ["--weights", weights, "--strength", strength, "--quiet"]
        assert derain([str(tmp_path / "in.png"), "-o", str(out), *options]) == 0
        taken[strength] = PIXELS.astype(int) - np.asarray(opened(out))
    assert not taken["0"].any()
    assert np.abs(taken["1"]).max() > 10  # there is something to scale
    unclipped = (PIXELS > 80) & (PIXELS < 175) & (np.abs(taken["1"]) < 50)
    for strength in ("0.5", "1.5"):
        np.testing.assert_allclose(taken[strength][unclipped], float(strength) * taken["1"][unclipped], atol=1.25)


def test_a_folder_keeps_its_structure(folder, tmp_path, brighten, capsys):
    assert derain([str(folder), "-o", str(tmp_path / "out")]) == 0
    assert written(tmp_path / "out") == ["a.png", "sub/deep/b.JPG", "sub/grey.png"]
    np.testing.assert_array_equal(np.asarray(opened(tmp_path / "out" / "a.png")), PIXELS + 20)
    np.testing.assert_array_equal(np.asarray(opened(tmp_path / "out" / "sub" / "grey.png")), PIXELS[..., 0] + 20)
    error = capsys.readouterr().err
    assert "3/3" in error  # progress
    assert "3 de-rained" in error


def test_without_an_output_results_lie_beside_the_input(folder, brighten, capsys, monkeypatch):
    assert derain([str(folder / "a.png")]) == 0
    assert (folder / "a-derained.png").is_file()
    assert f"written to {folder / 'a-derained.png'}" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"a-derained\.png exists; .*--overwrite"):
        derain([str(folder / "a.png")])
    monkeypatch.chdir(folder)
    assert derain([".", "--quiet"]) == 0
    assert (folder.parent / f"{folder.name}-derained" / "a.png").is_file()
    with pytest.raises(UserError, match="add -o FOLDER"):
        derain(["*.png"])
    with pytest.raises(UserError, match=r"nowhere\.png does not exist"):
        derain(["nowhere.png"])


def test_a_broken_file_is_reported_and_the_rest_is_done(folder, tmp_path, brighten, capsys):
    whole = (folder / "a.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no picture")
    assert derain([str(folder), "-o", str(tmp_path / "out")]) == 1
    assert len(written(tmp_path / "out")) == 3
    summary = capsys.readouterr().err.splitlines()[-4:]
    assert "3 de-rained" in summary[0]
    assert "2 failed" in summary[0]
    assert "broken.png cannot be read" in summary[1]
    assert "text.jpg is not a picture" in summary[2]
    assert summary[3] == "left out: 1 .txt"
    assert derain([str(folder), "-o", str(tmp_path / "again"), "--quiet"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"failed: .*broken\.png cannot be read: .*", first)
    assert re.fullmatch(r"failed: .*text\.jpg is not a picture .*", second)


def test_what_exists_is_left_alone(folder, tmp_path, brighten, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"precious")
    assert derain([str(folder), "-o", str(out)]) == 0
    assert (out / "a.png").read_bytes() == b"precious"
    assert "1 skipped as they exist" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"a\.png exists; .*--overwrite"):
        derain([str(folder / "a.png"), "-o", str(out / "a.png")])
    assert derain([str(folder / "a.png"), "-o", str(out / "a.png"), "--overwrite"]) == 0
    assert opened(out / "a.png").size == (30, 20)


def test_a_folder_is_not_replaced_by_its_own_results(folder, brighten):
    with pytest.raises(UserError, match="would be replaced"):
        derain([str(folder), "-o", str(folder)])
    assert derain([str(folder), "-o", str(folder), "--overwrite", "--quiet"]) == 0
    np.testing.assert_array_equal(np.asarray(opened(folder / "a.png")), PIXELS + 20)


def test_an_output_inside_the_input_is_not_taken_as_input(folder, brighten):
    for _ in range(2):
        assert derain([str(folder), "-o", str(folder / "clean"), "--overwrite", "--quiet"]) == 0
    assert written(folder / "clean") == ["a.png", "sub/deep/b.JPG", "sub/grey.png"]


def test_patterns_and_several_inputs(folder, tmp_path, brighten):
    assert derain([f"{folder}/**/*.png", str(folder / "sub" / "deep"), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert written(tmp_path / "out") == ["a.png", "b.JPG", "grey.png"]
    (folder / "other").mkdir()
    shutil.copy(folder / "a.png", folder / "other" / "a.png")
    with pytest.raises(UserError, match="would both be written to"):
        derain([f"{folder}/**/*.png", "-o", str(tmp_path / "out2")])


def test_files_that_several_inputs_name_are_taken_once(folder, tmp_path, brighten, capsys):
    for number, inputs in enumerate(([f"{folder}/**"], [str(folder), f"{folder}/sub/grey.png", f"{folder}/sub/deep"])):
        assert derain([*inputs, "-o", str(tmp_path / str(number))]) == 0
        assert written(tmp_path / str(number)) == ["a.png", "sub/deep/b.JPG", "sub/grey.png"]
        assert capsys.readouterr().err.splitlines()[-1] == "left out: 1 .txt"


def test_another_format(folder, tmp_path, brighten):
    assert derain([str(folder / "a.png"), "-o", str(tmp_path / "out.webp"), "--quiet"]) == 0
    assert opened(tmp_path / "out.webp").format == "WEBP"


def test_a_wrong_suffix_does_not_change_the_format(folder, tmp_path, brighten):
    shutil.copy(folder / "a.png", folder / "really_png.jpg")
    assert derain([str(folder / "really_png.jpg"), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert opened(tmp_path / "out" / "really_png.jpg").format == "PNG"


def test_comparisons(folder, tmp_path, brighten):
    assert derain([str(folder), "-o", str(tmp_path / "out"), "--compare", str(tmp_path / "both"), "--quiet"]) == 0
    assert written(tmp_path / "both") == ["a.jpg", "sub/deep/b.jpg", "sub/grey.jpg"]
    assert opened(tmp_path / "both" / "a.jpg").size == (60, 20)


def test_comparisons_replace_nothing(folder, tmp_path, brighten):
    shutil.copy(folder / "sub" / "deep" / "b.JPG", folder / "a.jpg")
    command = [str(folder), "--quiet", "--compare"]
    original = (folder / "a.jpg").read_bytes()
    for overwrite in ([], ["--overwrite"]):
        with pytest.raises(UserError, match=r"a\.jpg is a picture to de-rain"):
            derain([str(folder / "a.jpg"), "-o", str(tmp_path / "out"), "--compare", str(folder), *overwrite])
    assert (folder / "a.jpg").read_bytes() == original
    with pytest.raises(UserError, match="would be both result and comparison"):
        derain([str(folder / "a.jpg"), "-o", str(tmp_path / "out"), "--compare", str(tmp_path / "out")])
    assert derain([*command, str(tmp_path / "both"), "-o", str(tmp_path / "out")]) == 0
    assert written(tmp_path / "both") == ["a.jpg.jpg", "a.png.jpg", "sub/deep/b.jpg", "sub/grey.jpg"]
    with pytest.raises(UserError, match="exists; choose another --compare folder"):
        derain([*command, str(tmp_path / "both"), "-o", str(tmp_path / "again")])
    assert derain([*command, str(folder / "both"), "-o", str(folder / "clean")]) == 0
    assert derain([*command, str(folder / "both"), "-o", str(folder / "clean")]) == 0
    assert len(written(folder / "clean")) == len(written(folder / "both")) == 4  # neither was taken as input


def test_an_output_that_holds_the_input(folder, brighten, monkeypatch):
    monkeypatch.chdir(folder)
    assert derain(["sub", "-o", ".", "--quiet"]) == 0
    assert (folder / "grey.png").is_file()
    assert (folder / "deep" / "b.JPG").is_file()


def test_a_file_is_written_under_any_suffix_of_a_picture(folder, tmp_path, brighten):
    assert derain([str(folder / "a.png"), "-o", str(tmp_path / "clean.jfif"), "--quiet"]) == 0
    assert opened(tmp_path / "clean.jfif").format == "JPEG"


def test_animations(folder, tmp_path, brighten):
    frames = [Image.fromarray(PIXELS // 64 * 64 + np.uint8(9 * number)) for number in range(3)]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], duration=[30, 40, 50])
    arguments = [str(folder / "moving.webp"), "-o", str(tmp_path / "out"), "--compare", str(tmp_path / "both")]
    assert derain([*arguments, "--quiet"]) == 0
    assert opened(tmp_path / "out" / "moving.webp").n_frames == 3
    assert opened(tmp_path / "both" / "moving.jpg").size == (60, 20)


def test_what_a_format_cannot_hold_is_refused_before_the_computation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(inference, "load", lambda name, **options: lambda image: pytest.fail("was computed"))
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS // 2)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    frames[0].convert("RGBA").save(tmp_path / "alpha.png")
    for name, what in (("moving.webp", "animation"), ("alpha.png", "transparency")):
        assert derain([str(tmp_path / name), "-o", str(tmp_path / "out.jpg"), "--quiet"]) == 1
        assert f"out.jpg: JPEG holds no {what}; choose " in capsys.readouterr().err


def test_niqe(tmp_path, brighten, capsys, rng):
    large = rng.integers(0, 200, (100, 200, 3)).astype(np.uint8)
    Image.fromarray(large).save(tmp_path / "large.png")
    Image.fromarray(PIXELS).save(tmp_path / "small.png")
    assert derain([str(tmp_path / "*.png"), "-o", str(tmp_path / "out"), "--niqe"]) == 0
    shown = capsys.readouterr().err
    both = f"{niqe(large):.2f} -> {niqe(large + np.uint8(20)):.2f}"
    assert f"large.png: NIQE {both}" in shown
    assert "small.png: NIQE not measured: a picture of 30x20 pixels is too small" in shown
    assert f"NIQE, lower is better, mean of 1: {both}" in shown


def test_pipes(folder, tmp_path, brighten, monkeypatch, capfdbinary):
    stdin = io.TextIOWrapper(io.BytesIO((folder / "a.png").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    assert derain(["-", "-o", "-"]) == 0
    result = Image.open(io.BytesIO(sys.stdout.buffer.getvalue()))
    np.testing.assert_array_equal(np.asarray(result), PIXELS + 20)
    assert derain([str(folder / "a.png"), "-o", "-"]) == 0
    with pytest.raises(UserError, match="a pipe takes one picture"):
        derain(["-", str(folder), "-o", "-"])
    for option in (["--niqe"], ["--compare", str(tmp_path / "both")]):
        with pytest.raises(UserError, match="do not go with a pipe"):
            derain(["-", "-o", "-", *option])
    stdin.seek(0)
    assert derain(["-", "-o", str(tmp_path / "new" / "piped.tif")]) == 0
    assert opened(tmp_path / "new" / "piped.tif").format == "TIFF"


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("-", "new/a.png", "stdin is not a picture of a known format"),
        ("-", "raw.nef/a.png", "cannot write into "),
        ("raw.nef", "-", "raw.nef is the raw file of a camera; develop it first"),
        ("film.mp4", "-", "film.mp4 is a video, and a pipe takes one picture; name a file to write"),
    ],
)
def test_a_pipe_that_fails(source, target, message, tmp_path, brighten, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save("raw.nef", "TIFF")
    films.make(tmp_path / "film.mp4")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"some text")))
    assert derain([source, "-o", target]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {message}")
    assert shown.err.count("\n") == 1
    assert written(tmp_path) == ["film.mp4", "raw.nef"]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png", "-o", "out"], "nowhere.png does not exist"),
        (["*.nothing", "-o", "out"], "nothing matches"),
        (["empty", "-o", "out"], "no pictures or videos in empty"),
        (["a.png", "-o", "out.png", "--weights", "nonsense"], "'nonsense' are neither a file"),
        (["a.png", "-o", "out.png", "--weights", "w.safetensors", "--tile", "16"], "larger than their overlap"),
        (["a.png", "-o", "out.png", "--weights", "w.safetensors", "--strength", "1.6"], "allowed: 0 to 1.5"),
    ],
)
def test_wrong_usage(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    Image.fromarray(PIXELS).save("a.png")
    save_tiny(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=message):
        derain(arguments)


def test_an_unwritable_output_is_reported(folder, tmp_path, brighten, capsys):
    (tmp_path / "out").write_text("a file where the folder should be")
    assert derain([str(folder), "-o", str(tmp_path / "out")]) == 1
    assert "cannot write into" in capsys.readouterr().err


def test_errors_are_one_line_and_status_2(tmp_path):
    command = [sys.executable, "-m", "multifocal_jax.cli.main", "derain", "nowhere.png", "-o", "out"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "error: nowhere.png does not exist\n"


def test_videos_without_pyav(tmp_path, brighten, monkeypatch, capsys):
    films.make(tmp_path / "film.mp4")
    monkeypatch.setitem(sys.modules, "multifocal_jax.media.video", None)  # cannot be imported
    assert derain([str(tmp_path / "film.mp4"), "-o", str(tmp_path / "out" / "clean.mp4")]) == 1
    assert "install it with: pip install av (the extra `video`)" in capsys.readouterr().err
    assert written(tmp_path) == ["film.mp4"]


def test_videos(tmp_path, brighten, capsys):
    """Y of 100 is brightened by 20 in every channel: by 219 / 255 of it in Y."""
    film = films.make(tmp_path / "film.mkv", [(100, 128, 128)] * 3, extra=films.Extra(cover=False, chapters=True))
    assert derain([str(film), "-o", str(tmp_path / "new" / "clean.mp4")]) == 0
    np.testing.assert_allclose(films.planes(films.frames(tmp_path / "new" / "clean.mp4")[2]), (117, 128, 128), atol=1.5)
    shown = capsys.readouterr().err
    assert "3/3" in shown  # progress
    assert "not kept" not in shown
    assert derain([str(film), "-o", str(tmp_path / "clean.avi")]) == 0
    assert "1 de-rained in" in (shown := capsys.readouterr().err)
    assert shown.rstrip().endswith(f"not kept:\n  {film}: chapters")


def test_suffixes_that_say_nothing_or_the_wrong(tmp_path, brighten, capsys):
    """Kinds are found by contents; what is none is counted; camera raw files are not taken for small pictures."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name, kind in (("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c.odd", "PNG"), ("noname", "PNG"), ("d.dng", "TIFF")):
        Image.fromarray(PIXELS).save(source / name, kind)
    for name in ("e.mts", "f.3gp", "g.wmv", "h.flv", "i.ts"):
        encoder = "msmpeg4" if name == "g.wmv" else "libx264"
        films.make(source / name, codec=encoder)
    shutil.copy(source / "h.flv", source / "video.gif")
    shutil.copy(source / "i.ts", source / "moving")
    with av.open(str(source / "sound.wma"), "w") as song:
        stream = song.add_stream("wmav2", rate=films.RATE, bit_rate=64_000)
        song.mux([*stream.encode(films.tone(440, "stereo")), *stream.encode(None)])
    for name in ("notes.txt", "more.TXT", "script.ts", "track.m3u8"):
        (source / name).write_text("#EXTM3U\nfilm.mp4\n")
    assert derain([str(source), "-o", str(out)]) == 0
    assert written(out) == sorted(
        ["a.jfif", "b.jpe", "c.odd", "noname", "e.mts", "f.3gp", "g.wmv", "h.flv", "i.ts", "video.gif", "moving"]
    )
    assert [opened(out / name).format for name in ("a.jfif", "b.jpe", "c.odd", "noname")] == [
        "JPEG",
        "JPEG",
        "PNG",
        "PNG",
    ]
    assert all(len(films.frames(out / name)) == 3 for name in ("e.mts", "g.wmv", "i.ts", "video.gif", "moving"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("left out: 2 .txt")
    assert all(part in last for part in ("1 .dng", "1 .ts", "1 .m3u8", "1 .wma"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.xyz", "is not a picture or video of a known format"),
        ("a", "is not a picture or video of a known format"),
        ("a.odd", "cannot be read: Invalid data found when processing input"),
        ("a.jpg", "is not a picture of a known format"),
        ("a.mp4", "cannot be read: Invalid data found when processing input"),
        ("a.dng", "is the raw file of a camera; develop it first"),
        ("a.png.partial", "was left by a run that did not end; remove it"),
    ],
)
def test_nothing_is_made_for_what_cannot_be_read(name, reason, tmp_path, brighten, capsys):
    (tmp_path / name).write_bytes(b"\x1a\x45\xdf\xa3 begins like a film" if name == "a.odd" else b"some text")
    assert derain([str(tmp_path / name)]) == 1
    assert f"{tmp_path / name} {reason}" in capsys.readouterr().err
    assert derain([str(tmp_path / name), "-o", str(tmp_path / "new" / "folder")]) == 1
    assert written(tmp_path) == [name]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_leavings_of_earlier_runs_are_not_taken_up(tmp_path, brighten, capsys):
    """Runs that were killed while they wrote a picture, an animation and a video."""
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS // 2)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    films.make(tmp_path / "c.mp4")
    for name in ("a.png", "b.gif", "c.mp4"):
        shutil.copy(tmp_path / name, tmp_path / f"{name}{PARTIAL}")
    assert derain([str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    assert "left out: 3 .partial" in capsys.readouterr().err
    assert derain([f"{tmp_path}/[abc]*", "-o", str(tmp_path / "again")]) == 0
    assert "left out: 3 .partial" in capsys.readouterr().err
    assert written(tmp_path / "out") == written(tmp_path / "again") == ["a.png", "b.gif", "c.mp4"]
    (tmp_path / "out" / f"c.mp4{PARTIAL}").write_bytes(b"left")  # is in the way of nothing
    assert derain([str(tmp_path / "c.mp4"), "-o", str(tmp_path / "out"), "--overwrite"]) == 0
    assert written(tmp_path / "out") == ["a.png", "b.gif", "c.mp4"]


def test_heif(tmp_path, brighten, capsys):
    pytest.importorskip("pillow_heif")
    pixels = np.kron(PIXELS[:4, :6], np.ones((16, 16, 1), np.uint8))
    Image.fromarray(pixels).save(tmp_path / "IMG.heic", "HEIF", quality=100)
    assert derain([str(tmp_path / "IMG.heic")]) == 0
    result = opened(tmp_path / "IMG-derained.heic")
    assert result.format == "HEIF"
    difference = np.asarray(result).astype(int) - pixels - 20
    assert np.abs(difference[8::16, 8::16]).max() <= 4  # away from the edges, where colours are stored at half the size
    assert derain([str(tmp_path / "IMG.heic"), "-o", str(tmp_path / "photo.jpg")]) == 0
    assert opened(tmp_path / "photo.jpg").format == "JPEG"


def test_heif_without_its_extra(tmp_path):
    """In a process of its own, in which pillow-heif cannot be imported."""
    pytest.importorskip("pillow_heif")
    Image.fromarray(PIXELS).save(tmp_path / "IMG.heic", "HEIF")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    program = """
import sys
sys.modules["pillow_heif"] = None
from multifocal_jax.cli.main import run
from multifocal_jax.evaluation import inference
inference.load = lambda name, **options: lambda image: image
for arguments in (["IMG.heic"], [".", "-o", "out"], ["a.png", "-o", "out.heic"]):
    print(run(["derain", *arguments]))
"""
    run = [sys.executable, "-c", program]
    result = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["1", "1", "1"]
    assert (
        result.stderr.count("pip install pillow-heif (the extra `heif`)") == 4
    )  # the folder's is told at once and at the end
    assert written(tmp_path) == ["IMG.heic", "a.png", "out/a.png"]


def test_jobs_of_a_single_file():
    here = str(Path(__file__))
    assert files.plan([here], "out.png")[0][0].target == Path("out.png")
    assert files.plan([here], "out")[0][0].target == Path("out/test_derain.py")
