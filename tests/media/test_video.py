"""Videos keep their colours, their frames' times, the shape of their pixels and all their tracks."""

import contextlib
import signal
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from multifocal_jax.files import OutputError
from multifocal_jax.media import containers
from multifocal_jax.media.derain_files import plan
from multifocal_jax.media.video import derain_video
from multifocal_jax.media.video_reading import VideoError
from tests.media.films import FLAT, RATE, SIZE, Extra, cover, frames, kinds, loudest, make, planes, times, tone

# FFmpeg's numbers, from ITU-T H.273
BT709, BT470BG, SMPTE170M, BT2020, BT470M, PQ, HLG = 1, 5, 6, 9, 4, 16, 18
LIMITED, FULL = 1, 2
DEEP = (361, 441, 642)  # no multiples of 4, so that no 8 bits hold them
TEN_BITS = {"codec": "libx265", "pixels": "yuv420p10le"}


def same(frame: np.ndarray) -> np.ndarray:
    return frame


def stored(path: Path) -> np.ndarray:
    return planes(frames(path)[0])


@pytest.mark.parametrize("height", [32, 720])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_an_untagged_colour_is_kept(height, suffix, tmp_path):
    source = make(tmp_path / "film.mp4", [FLAT] * 2, size=(32, height))
    assert derain_video(same, source, tmp_path / f"clean{suffix}") == []
    np.testing.assert_allclose(stored(tmp_path / f"clean{suffix}"), FLAT, atol=2)
    if suffix != ".avi":  # takes no tags
        assert frames(tmp_path / f"clean{suffix}")[0].colorspace == (BT709 if height == 720 else SMPTE170M)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("matrix", [BT709, SMPTE170M, BT470BG, BT2020])
@pytest.mark.parametrize("values", [LIMITED, FULL])
def test_a_tagged_colour_is_kept(matrix, values, suffix, tmp_path):
    told = {"colorspace": matrix, "color_range": values, "color_primaries": BT709, "color_trc": BT470M}
    source = make(tmp_path / "film.mp4", tags=told)
    derain_video(same, source, tmp_path / f"clean{suffix}")
    for path in (source, tmp_path / f"clean{suffix}"):
        frame = frames(path)[0]
        np.testing.assert_allclose(planes(frame), FLAT, atol=2)
        assert {name: getattr(frame, name) for name in told} == told


@pytest.mark.parametrize(
    ("matrix", "red"),
    # 16 + 219 Kr, 128 - 112 Kr / (1 - Kb), 128 + 112, of the standards' Kr and Kb
    [(BT709, (62.6, 102.3, 240)), (SMPTE170M, (81.5, 90.2, 240))],
)
def test_the_matrix_is_the_standards(matrix, red, tmp_path):
    source = make(tmp_path / "film.mp4", tags={"colorspace": matrix, "color_range": LIMITED})

    def paint(frame: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.array([255, 0, 0], np.uint8), frame.shape)

    derain_video(paint, source, tmp_path / "clean.mp4")
    np.testing.assert_allclose(stored(tmp_path / "clean.mp4"), red, atol=2)


def test_frames_are_read_by_the_matrix(tmp_path):
    seen = []
    source = make(tmp_path / "film.mp4", [(63, 102, 240)] * 3, tags={"colorspace": BT709, "color_range": LIMITED})
    derain_video(lambda frame: seen.append(frame.copy()) or frame, source, tmp_path / "clean.mp4")
    assert len(seen) == 3
    assert (seen[0].shape, seen[0].dtype) == ((32, 32, 3), np.uint8)
    assert np.abs(seen[0].astype(int) - (255, 0, 0)).max() <= 2


def test_rgb_and_what_takes_no_tags(tmp_path):
    """Colours stay what they are where Y, U and V cannot."""
    # FLAT by BT.601: R = 1.164 (Y - 16) + 1.596 (V - 128) and so on; planes in the order G, B, R
    source = make(tmp_path / "gbr.avi", [(67, 50, 137)], codec="magicyuv", pixels="gbrp")
    derain_video(same, source, tmp_path / "yuv.mp4")
    np.testing.assert_allclose(stored(tmp_path / "yuv.mp4"), FLAT, atol=2)
    bt709 = make(tmp_path / "bt709.mp4", [(63, 102, 240)] * 3, tags={"colorspace": BT709, "color_range": LIMITED})
    derain_video(same, bt709, tmp_path / "untagged.avi")
    np.testing.assert_allclose(stored(tmp_path / "untagged.avi"), (81.5, 90.2, 240), atol=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mts", ".flv", ".webm"])
def test_pixels_keep_their_shape_or_become_squares(suffix, tmp_path):
    source = make(tmp_path / "film.mp4", size=(72, 56), aspect=Fraction(64, 45))
    lost, shape = [], (72, 56, Fraction(64, 45))
    if suffix == ".webm":  # tells no shape
        lost, shape = ["the shape of its pixels, which became squares"], (102, 56, Fraction(1))  # 72 x 64 / 45
    assert derain_video(same, source, tmp_path / f"clean{suffix}") == lost
    with av.open(str(tmp_path / f"clean{suffix}")) as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio or 1) == shape


# Display matrices of the standard: x' = ax + cy, y' = bx + dy; how NumPy turns pixels likewise.
TURNS = {
    "clockwise": ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
    "counterclockwise": ((0, -1, 1, 0), np.rot90),
    "half": ((-1, 0, 0, -1), lambda a: a[::-1, ::-1]),
    "mirrored": ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
    "transposed": ((0, 1, 1, 0), lambda a: a.swapaxes(0, 1)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_video_turns_its_pixels(turn, tmp_path):
    source = make(tmp_path / "film.mp4", size=(64, 32), aspect=Fraction(64, 45))
    gradient = np.linspace(20, 200, 64 * 32 * 3).reshape(32, 64, 3).astype(np.uint8)
    derain_video(lambda frame: gradient, source, tmp_path / "known.mp4")
    (a, b, c, d), turned = TURNS[turn]
    data = bytearray((tmp_path / "known.mp4").read_bytes())
    matrix = (*(value << 16 for value in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *matrix)
    source.write_bytes(data)
    seen = []
    derain_video(lambda frame: seen.append(frame.copy()) or frame, source, tmp_path / "clean.mp4")
    np.testing.assert_allclose(seen[0].astype(int), turned(gradient), atol=8)
    with av.open(str(tmp_path / "clean.mp4")) as film:
        stream, frame = film.streams.video[0], next(film.decode(video=0))
        sides = (64, 32, Fraction(64, 45)) if a else (32, 64, Fraction(45, 64))
        assert (stream.width, stream.height, stream.sample_aspect_ratio) == sides
        assert frame.rotation == 0


@pytest.mark.parametrize("suffix", containers.SUFFIXES)
def test_every_kind_of_file(suffix, tmp_path):
    """Frames, their times and the sound of each kind are kept in the same kind."""
    film = make(tmp_path / "film.mp4", [FLAT] * 5, times=[0, 40, 80, 120, 160], extra=Extra(("aac",)))
    derain_video(same, film, tmp_path / f"film{suffix}")
    derain_video(same, tmp_path / f"film{suffix}", tmp_path / f"clean{suffix}")
    np.testing.assert_allclose(times(tmp_path / f"clean{suffix}"), [0, 40, 80, 120, 160], atol=1)
    np.testing.assert_allclose(stored(tmp_path / f"clean{suffix}"), FLAT, atol=2)
    assert loudest(tmp_path / f"clean{suffix}", 0) == pytest.approx(440, rel=0.02)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".wmv", ".flv"])
def test_a_variable_rate_keeps_every_frame_and_its_time(suffix, tmp_path):
    shown = [0, 33, 70, 100, 500, 517, 1000]
    source = make(tmp_path / "film.mp4", [(20 + 30 * n, 128, 128) for n in range(7)], times=shown)
    derain_video(same, source, tmp_path / f"clean{suffix}")
    np.testing.assert_allclose(times(tmp_path / f"clean{suffix}"), shown, atol=1)
    luma = [planes(frame)[0] for frame in frames(tmp_path / f"clean{suffix}")]
    np.testing.assert_allclose(luma, [20 + 30 * n for n in range(7)], atol=3)


@pytest.mark.parametrize(
    ("codec", "suffix", "other", "expected"),
    [
        ("pcm_s16le", ".mov", ".mp4", "aac"),
        ("pcm_s16le", ".mov", ".mkv", "pcm_s16le"),
        ("aac", ".mp4", ".webm", "opus"),
        ("wmav2", ".wmv", ".mp4", "aac"),
        ("libopus", ".webm", ".avi", "mp3float"),
        ("aac", ".mp4", ".mov", "aac"),
        ("aac", ".mp4", ".wmv", "wmav2"),
        ("libmp3lame", ".mkv", ".mts", "mp3float"),
    ],
)
def test_sound_is_copied_or_encoded_anew(codec, suffix, other, expected, tmp_path):
    pictures = {".webm": "libvpx-vp9", ".wmv": "msmpeg4"}.get(suffix, "libx264")
    source = make(tmp_path / f"film{suffix}", codec=pictures, extra=Extra((codec,) * 2))
    assert derain_video(same, source, tmp_path / f"clean{other}") == []
    assert kinds(tmp_path / f"clean{other}")[1:] == [f"audio {expected}"] * 2
    for track in (0, 1):
        assert loudest(tmp_path / f"clean{other}", track) == pytest.approx(440 * (track + 1), rel=0.02)


def test_channels_of_sound(tmp_path):
    source = make(tmp_path / "film.mov", extra=Extra(("pcm_s16le",), "5.1"))
    assert derain_video(same, source, tmp_path / "clean.mp4") == []
    with av.open(str(tmp_path / "clean.mp4")) as film:
        assert (film.streams.audio[0].layout.name, film.streams.audio[0].rate) == ("5.1", RATE)
    assert derain_video(same, source, tmp_path / "clean.wmv") == ["6 channels of sound, which became 2"]


FULL_FILM = Extra(("aac", "aac"), subtitles="mov_text", cover=True, chapters=True, metadata={"title": "Rain"})


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        (".mp4", []),
        (".mkv", []),
        (".mov", ["cover picture"]),
        (".webm", ["cover picture"]),
        (".avi", ["subtitles 1 (mov_text)", "cover picture", "chapters"]),
        (".mts", ["subtitles 1 (mov_text)", "cover picture", "chapters"]),
        (".flv", ["sound 2 (aac)", "subtitles 1 (mov_text)", "cover picture", "chapters"]),
    ],
)
def test_other_tracks_are_kept_or_named(suffix, lost, tmp_path):
    source = make(tmp_path / "film.mp4", extra=FULL_FILM)
    told = "video h264, audio aac, audio aac, subtitle mov_text, data bin_data, video mjpeg"
    assert ", ".join(kinds(source)) == told
    assert derain_video(same, source, tmp_path / f"clean{suffix}") == lost
    with av.open(str(tmp_path / f"clean{suffix}")) as film:
        assert len(film.streams.audio) == (1 if suffix == ".flv" else 2)
        if suffix in (".mp4", ".mkv"):
            assert [stream.metadata["language"] for stream in film.streams.audio] == ["deu", "fra"]
        if suffix != ".mts":  # has no place for it
            assert film.metadata["title"] == "Rain"
        if "chapters" not in lost:
            told = [(float(c["start"] * c["time_base"]), c["metadata"]["title"]) for c in film.chapters()]
            assert told == [(0, "one"), (0.1, "two")]
        if "cover picture" not in lost:
            picture = next(stream for stream in film.streams.video if int(stream.disposition) == 1024)
            assert next(bytes(packet) for packet in film.demux(picture)) == cover()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
def test_subtitles_say_the_same_at_the_same_time(suffix, tmp_path):
    source = make(tmp_path / "film.mp4", extra=Extra(subtitles="mov_text"))
    derain_video(same, source, tmp_path / f"clean{suffix}")
    with av.open(str(tmp_path / f"clean{suffix}")) as film:
        found = []
        for packet in film.demux(film.streams.subtitles[0]):
            texts = [part.dialogue for part in packet.decode()] if packet.size > 2 else []
            found += [(float(packet.pts * packet.time_base), text) for text in texts]
    assert found == [(0, b"Hello"), (0.15, b"World")]


def test_sound_that_nobody_knows_is_named(tmp_path):
    source = make(tmp_path / "film.mp4", extra=Extra(("aac",) * 2))
    data = source.read_bytes()
    start = data.rindex(b"mp4a")
    source.write_bytes(data[:start] + data[start:].replace(b"mp4a", b"zzzz", 1).replace(b"esds", b"zzzz", 1))
    assert derain_video(same, source, tmp_path / "clean.mp4") == ["sound 2 (unknown)"]
    assert kinds(tmp_path / "clean.mp4") == ["video h264", "audio aac"]


def test_entries_of_phones_are_kept(tmp_path):
    told = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.location.ISO6709": "+48.1+011.5/"}
    source = make(tmp_path / "film.mov", extra=Extra(metadata={"title": "Rain"}))
    tags = {"movflags": "use_metadata_tags"}
    with av.open(str(source)) as old, av.open(str(tmp_path / "phone.mov"), "w", container_options=tags) as new:
        new.metadata.update(told)
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux():
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    assert derain_video(same, tmp_path / "phone.mov", tmp_path / "clean.mov") == []
    with av.open(str(tmp_path / "clean.mov")) as film:
        assert film.metadata.items() >= told.items()


@pytest.mark.parametrize("transfer", [BT709, PQ, HLG])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov", ".mts"])
def test_ten_bits_stay_ten_bits(transfer, suffix, tmp_path):
    tags = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": transfer, "color_range": LIMITED}
    source = make(tmp_path / "film.mp4", [DEEP] * 2, tags=tags, **TEN_BITS)
    seen = []
    derain_video(lambda frame: seen.append(frame) or frame, source, tmp_path / f"clean{suffix}")
    assert seen[0].dtype == np.uint16
    frame = frames(tmp_path / f"clean{suffix}")[0]
    assert frame.format.name == "yuv420p10le"
    np.testing.assert_allclose(planes(frame), DEEP, atol=1.01)
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (BT2020, BT2020, transfer)


def test_hdr_is_refused_where_8_bits_are_all(tmp_path):
    source = make(tmp_path / "film.mp4", [DEEP], tags={"color_trc": HLG}, **TEN_BITS)
    with pytest.raises(OutputError, match=r"clean\.avi: avi holds 8 bits, too few for HDR \(HLG\); use \.mp4"):
        derain_video(same, source, tmp_path / "clean.avi")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4"]
    ordinary = make(tmp_path / "film.mp4", [DEEP], **TEN_BITS)
    assert derain_video(same, ordinary, tmp_path / "clean.avi") == ["10 bits per channel, which became 8"]
    odd = make(tmp_path / "odd.mp4", tags={"color_trc": PQ})  # 8 bits that say to be HDR
    derain_video(same, odd, tmp_path / "clean.mp4")
    assert frames(tmp_path / "clean.mp4")[0].format.name == "yuv420p10le"


def test_hdr_keeps_what_it_tells_of_the_display(tmp_path):
    told = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,500):max-cll=1000,400"
    options = {"x265-params": f"log-level=none:bframes=0:{told}"}
    source = make(tmp_path / "film.mp4", [DEEP], tags={"color_trc": PQ}, options=options, **TEN_BITS)
    assert derain_video(same, source, tmp_path / "clean.mp4") == []
    before, after = frames(source)[0].side_data, frames(tmp_path / "clean.mp4")[0].side_data
    for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        assert bytes(before[name]) == bytes(after[name])
    assert derain_video(same, source, tmp_path / "clean.webm") == ["HDR10 metadata"]


def test_transparency(tmp_path):
    vp9 = {"codec": "libvpx-vp9", "pixels": "yuva420p", "options": {"crf": "4"}}
    source = make(tmp_path / "film.webm", [(*FLAT, 77)] * 3, **vp9)
    for suffix, alpha, tolerance in (
        (".webm", 77, 2),
        (".mkv", 77, 2),
        (".mov", 77 * 4095 / 255, 8),
    ):  # ProRes: 12 bits
        assert derain_video(same, source, tmp_path / f"clean{suffix}") == []
        with av.open(str(tmp_path / f"clean{suffix}")) as film:
            stream = film.streams.video[0]
            context = stream.codec_context if suffix == ".mov" else av.CodecContext.create("libvpx-vp9", "r")
            packets = [packet for packet in film.demux(stream) if packet.size]
            found = [planes(frame)[3] for packet in packets for frame in context.decode(packet)]
            np.testing.assert_allclose(found, [alpha] * 3, atol=tolerance)
    assert derain_video(same, source, tmp_path / "clean.mp4") == ["transparency"]
    np.testing.assert_allclose(stored(tmp_path / "clean.mp4"), FLAT, atol=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm", ".avi"])
def test_odd_sides(suffix, tmp_path):
    source = make(tmp_path / "film.mp4", size=(33, 31), pixels="yuv444p")
    derain_video(same, source, tmp_path / f"clean{suffix}")
    frame = frames(tmp_path / f"clean{suffix}")[0]
    assert (frame.width, frame.height) == (33, 31)
    np.testing.assert_allclose(planes(frame), FLAT, atol=2)


def test_names_that_look_like_protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("12:30.mp4"))
    derain_video(same, Path("12:30.mp4"), Path("-13:30.mp4"))
    assert (frames(Path("-13:30.mp4"))[0].width, *SIZE)[0] == 32
    (tmp_path / "no:film.mp4").write_bytes(b"text")
    with pytest.raises(VideoError, match=r"video no:film\.mp4 cannot be read: .*Invalid data") as caught:
        derain_video(same, Path("no:film.mp4"), Path("clean.mp4"))
    assert "\n" not in str(caught.value)


def test_a_killed_run_leaves_nothing_that_is_taken_for_a_video(tmp_path):
    """SIGTERM at the second frame, in a process of its own; then the same again, as it should be."""
    make(tmp_path / "film.mp4")
    program = """
import os, signal, sys
from pathlib import Path
from multifocal_jax.media.video import derain_video
seen = []
def derain(frame):
    seen.append(1)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return frame
derain_video(derain, Path("film.mp4"), Path("clean.mp4"))
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    assert result.returncode == -signal.SIGTERM
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.mp4.partial", "film.mp4"]
    assert [job.source.name for job in plan([str(tmp_path)], str(tmp_path / "out"))[0]] == ["film.mp4"]
    derain_video(same, tmp_path / "film.mp4", tmp_path / "clean.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.mp4", "film.mp4"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mts"])
def test_recordings_joined_to_one_file(suffix, tmp_path):
    """Time begins anew in the middle, and the sound becomes stereo."""
    colours = [[(30 + 40 * n, 128, 128)] * 3 for n in range(4)]
    parts = [
        make(tmp_path / f"{layout}.mts", values, extra=Extra(("aac",), layout))
        for layout, values in zip(("mono", "stereo"), (colours[0] + colours[1], colours[2] + colours[3]), strict=True)
    ]
    (tmp_path / "film.mts").write_bytes(b"".join(part.read_bytes() for part in parts))
    derain_video(same, tmp_path / "film.mts", tmp_path / f"clean{suffix}")
    luma = [planes(frame)[0] for frame in frames(tmp_path / f"clean{suffix}")]
    np.testing.assert_allclose(luma, np.repeat([30, 70, 110, 150], 3), atol=3)
    shown = np.diff(times(tmp_path / f"clean{suffix}"))
    np.testing.assert_allclose(np.delete(shown, 5), 100, atol=1)
    assert 0 < shown[5] < 300  # between the parts, of which the sound may be longer


def test_damaged_videos(tmp_path):
    source = make(tmp_path / "film.mkv", [(20 * n, 128, 128) for n in range(1, 9)], options={"g": "1"})
    data = bytearray(source.read_bytes())
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 3 // 4])
    derain_video(same, tmp_path / "cut.mkv", tmp_path / "clean.mkv")
    assert 1 <= len(frames(tmp_path / "clean.mkv")) < 8
    (tmp_path / "sound.mkv").write_bytes(b"")
    with av.open(str(tmp_path / "sound.mkv"), "w") as film:
        stream = film.add_stream("aac", rate=RATE)
        film.mux([*stream.encode(tone(440)), *stream.encode(None)])
    with pytest.raises(VideoError, match=r"sound\.mkv cannot be read: it holds no pictures"):
        derain_video(same, tmp_path / "sound.mkv", tmp_path / "none.mkv")
    with pytest.raises(OutputError, match=r"clean\.xyz: no video is written as \.xyz; use \.mp4 or \.mkv"):
        derain_video(same, source, tmp_path / "clean.xyz")

    def fails(frame: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derain_video(fails, source, tmp_path / "interrupted.mkv")
    assert not list(tmp_path.glob("interrupted*"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_mutants_end_in_one_line_or_a_film(seed, tmp_path):
    """Bits flipped, ends cut off, blocks overwritten: no other error than those two."""
    rng = np.random.default_rng(seed)
    whole = make(tmp_path / "film.mp4", extra=FULL_FILM)
    suffixes = (".mp4", ".mkv", ".webm", ".avi", ".mts", ".flv", ".wmv")
    for suffix in suffixes:
        derain_video(same, whole, tmp_path / f"whole{suffix}")
    for number in range(1000):
        suffix = suffixes[number % len(suffixes)]
        data = bytearray((tmp_path / f"whole{suffix}").read_bytes())
        place = int(rng.integers(16, len(data) - 16))
        if number % 3 == 0:
            data[place] ^= 1 << rng.integers(8)
        elif number % 3 == 1:
            data[place : place + 16] = rng.bytes(16)
        else:
            data = data[:place]
        (tmp_path / f"mutant{suffix}").write_bytes(data)
        with contextlib.suppress(VideoError, OutputError):
            derain_video(same, tmp_path / f"mutant{suffix}", tmp_path / f"clean{suffixes[number % 4]}")
