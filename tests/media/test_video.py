"""Videos keep their colours, the shape of their pixels and their names' oddities; ffmpeg makes and measures them."""

import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from multifocal_jax.media.video import VideoError, derain_video, find_videos

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg") or not shutil.which("ffprobe"), reason="needs FFmpeg")
TAGS = ("color_space", "color_range", "color_primaries", "color_transfer", "sample_aspect_ratio")
FLAT = (90, 110, 160)  # Y, U, V: a colour within RGB by every matrix and range


def make(path: Path, yuv=FLAT, size="64x48", pixels="yuv420p", encoder=("libx264", "-qp", "0"), filters="null") -> Path:
    """Three frames of one colour, given as it is stored."""
    width, height = (int(side) for side in size.split("x"))
    planes = [np.full(height * width // parts, value, np.uint8) for value, parts in zip(yuv, (1, 4, 4), strict=True)]
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "yuv420p",
        "-s",
        size,
        "-r",
        "10",
        "-i",
        "-",
    ]
    command += ["-vf", filters, "-pix_fmt", pixels, "-c:v", *encoder, str(path.absolute())]
    subprocess.run(command, input=b"".join(plane.tobytes() for plane in planes) * 3, check=True)
    return path


def tags(path: Path) -> dict[str, str]:
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-show_entries",
        f"stream=width,height,{','.join(TAGS)}",
    ]
    output = subprocess.run([*command, "-of", "json", str(path.absolute())], capture_output=True, check=True).stdout
    return json.loads(output)["streams"][0]


def stored(path: Path) -> np.ndarray:
    """Mean Y, U, V of the first frame, as it is stored."""
    stream = tags(path)
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-noautorotate",
        "-i",
        str(path.absolute()),
        "-frames:v",
        "1",
        "-f",
        "rawvideo",
        "-",
    ]
    data = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    area = stream["width"] * stream["height"]
    return np.array([plane.mean() for plane in np.split(data, [area, area + (len(data) - area) // 2])])


def same(frame: np.ndarray) -> np.ndarray:
    return frame


@needs_ffmpeg
@pytest.mark.parametrize("size", ["64x48", "1280x720"])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_an_untagged_colour_is_kept(size, suffix, tmp_path):
    source = make(tmp_path / "film.mp4", size=size)
    derain_video(same, source, tmp_path / f"clean{suffix}")
    np.testing.assert_allclose(stored(tmp_path / f"clean{suffix}"), FLAT, atol=2)
    if suffix != ".avi":  # takes no tags
        assert tags(tmp_path / f"clean{suffix}")["color_space"] == ("bt709" if size == "1280x720" else "smpte170m")


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt470bg", "bt2020nc"])
@pytest.mark.parametrize("values", ["tv", "pc"])
def test_a_tagged_colour_is_kept(matrix, values, suffix, tmp_path):
    told = {"color_space": matrix, "color_range": values, "color_primaries": "bt709", "color_transfer": "bt470m"}
    filters = f"setparams=colorspace={matrix}:range={values}:color_primaries=bt709:color_trc=bt470m"
    source = make(tmp_path / "film.mp4", filters=filters)
    assert tags(source).items() >= told.items()
    derain_video(same, source, tmp_path / f"clean{suffix}")
    np.testing.assert_allclose(stored(tmp_path / f"clean{suffix}"), FLAT, atol=2)
    assert tags(tmp_path / f"clean{suffix}").items() >= told.items()


@needs_ffmpeg
@pytest.mark.parametrize(
    ("matrix", "red"),
    # 16 + 219 Kr, 128 - 112 Kr / (1 - Kb), 128 + 112, of the standards' Kr and Kb
    [("bt709", (62.6, 102.3, 240)), ("smpte170m", (81.5, 90.2, 240))],
)
def test_the_matrix_is_the_standards(matrix, red, tmp_path):
    source = make(tmp_path / "film.mp4", filters=f"setparams=colorspace={matrix}:range=tv")

    def paint(frame: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.array([255, 0, 0], np.uint8), frame.shape)

    derain_video(paint, source, tmp_path / "clean.mp4")
    np.testing.assert_allclose(stored(tmp_path / "clean.mp4"), red, atol=2)


@needs_ffmpeg
def test_frames_are_read_by_the_matrix(tmp_path):
    seen = []
    source = make(tmp_path / "film.mp4", (63, 102, 240), filters="setparams=colorspace=bt709:range=tv")
    derain_video(lambda frame: seen.append(frame) or frame, source, tmp_path / "clean.mp4")
    assert len(seen) == 3
    assert np.abs(seen[0].astype(int) - (255, 0, 0)).max() <= 2


@needs_ffmpeg
def test_rgb_and_what_takes_no_tags(tmp_path):
    """Colours stay what they are where Y, U and V cannot."""
    gbr = make(tmp_path / "gbr.mkv", pixels="gbrp", encoder=("ffv1",))
    derain_video(same, gbr, tmp_path / "yuv.mp4")
    np.testing.assert_allclose(stored(tmp_path / "yuv.mp4"), FLAT, atol=2)
    bt709 = make(tmp_path / "bt709.mp4", (63, 102, 240), filters="setparams=colorspace=bt709:range=tv")
    derain_video(same, bt709, tmp_path / "untagged.avi")
    np.testing.assert_allclose(stored(tmp_path / "untagged.avi"), (81.5, 90.2, 240), atol=2)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_pixels_keep_their_shape(suffix, tmp_path):
    source = make(tmp_path / "film.mp4", size="720x576", filters="setsar=64/45")
    derain_video(same, source, tmp_path / f"clean{suffix}")
    result = tags(tmp_path / f"clean{suffix}")
    assert (result["width"], result["height"], result["sample_aspect_ratio"]) == (720, 576, "64:45")


@needs_ffmpeg
def test_a_turned_video_turns_its_pixels(tmp_path):
    source = make(tmp_path / "film.mp4", size="64x32", filters="setsar=64/45")
    data = bytearray(source.read_bytes())
    struct.pack_into(
        ">9i", data, data.index(b"tkhd") + 44, 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30
    )  # by 90 degrees
    source.write_bytes(data)
    derain_video(same, source, tmp_path / "clean.mp4")
    result = tags(tmp_path / "clean.mp4")
    assert (result["width"], result["height"], result["sample_aspect_ratio"]) == (32, 64, "45:64")


@needs_ffmpeg
def test_names_that_look_like_protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("12:30.mp4"))
    derain_video(same, Path("12:30.mp4"), Path("-13:30.mp4"))
    assert tags(Path("-13:30.mp4"))["width"] == 64
    (tmp_path / "no:film.mp4").write_bytes(b"text")
    with pytest.raises(VideoError, match=r"video no:film\.mp4 cannot be read: .*Invalid data") as caught:
        derain_video(same, Path("no:film.mp4"), Path("clean.mp4"))
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_itself(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "up").symlink_to("..")
    (tmp_path / "self").symlink_to(".")
    for name in ("b.MP4", "below/a.webm", ".hidden.mp4", "c.png"):
        (tmp_path / name).touch()
    assert find_videos(tmp_path) == [tmp_path / "b.MP4", tmp_path / "below" / "a.webm"]
