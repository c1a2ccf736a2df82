"""Photographs of every kind are read, and written so that nothing is lost; files are made by Pillow and tifffile."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from multifocal_jax.files import OutputError
from multifocal_jax.media.animations import is_animation
from multifocal_jax.media.photographs import Photograph, PhotographError, encode_photograph, format_of, read_photograph

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (12, 20, 4)).astype(np.uint16)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKE, GPS, ORIENTATION = 0x010F, 0x8825, 0x0112
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" ATTRIBUTE>ELEMENT'
    b"<tiff:Artist>Jos\xc3\xa9</tiff:Artist></rdf:Description></rdf:RDF></x:xmpmeta>"
)
ATTRIBUTE = XMP.replace(b"ATTRIBUTE", b'tiff:Orientation="6"').replace(b"ELEMENT", b"")
ELEMENT = XMP.replace(b"ATTRIBUTE", b"").replace(b"ELEMENT", b"<tiff:Orientation>6</tiff:Orientation>")


def save(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def opened(photograph: Photograph, kind: str = "") -> Image.Image:
    """Written in this format or its own, and opened by Pillow."""
    return Image.open(io.BytesIO(encode_photograph(photograph, kind or photograph.format, "file")))


def again(data: bytes) -> tuple[Photograph, Image.Image]:
    """Read and write; the first reading, and the result as Pillow opens it."""
    photograph = read_photograph(data, "file")
    return photograph, opened(photograph)


def exif(orientation: int) -> bytes:
    entries = Image.Exif()
    entries[ORIENTATION] = orientation
    entries[MAKE] = "Maker"
    entries.get_ifd(GPS)[1] = "N"
    return entries.tobytes()


@pytest.mark.parametrize(
    ("mode", "kept"), [("L", "L"), ("LA", "LA"), ("1", "L"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("P", "RGB")]
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_modes(mode, kept, kind):
    picture = Image.fromarray(PIXELS)
    picture = picture.quantize(16) if mode == "P" else picture.convert(mode)
    if mode.endswith("A"):
        picture.putalpha(Image.fromarray(PIXELS[..., 1]))
    photograph, result = again(save(picture, kind))
    assert result.mode == kept
    np.testing.assert_array_equal(np.asarray(result), np.asarray(picture.convert(kept)))
    np.testing.assert_array_equal(photograph.pixels, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_transparent_colour_becomes_alpha(mode):
    picture = Image.fromarray(PIXELS)
    picture = picture.quantize(8) if mode == "P" else picture.convert(mode)
    key = tuple(int(v) for v in PIXELS[3, 4]) if mode == "RGB" else picture.getpixel((4, 3))
    _, result = again(save(picture, "PNG", transparency=key))
    assert result.convert("RGBA").getpixel((4, 3))[3] == 0
    assert (np.asarray(result.convert("RGBA"))[..., 3] == 0).sum() < 12 * 20


def test_cmyk_becomes_rgb():
    photograph, result = again(save(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", icc_profile=PROFILE))
    assert result.mode == "RGB"
    assert "icc_profile" not in photograph.options


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_orientation(orientation, kind):
    """Corner colours stand where a viewer shows them; the file no longer says that it is turned."""
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16], stored[:8, 16:], stored[8:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    turned = {  # numpy's way of showing each orientation, from the EXIF standard's table
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored),
    }
    data = save(Image.fromarray(stored), kind, exif=exif(orientation))
    _, result = again(data)
    assert result.getexif().get(ORIENTATION, 1) == 1
    pixels, expected = np.asarray(result).astype(int), turned[orientation]
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected)[4::8, 4::8].max() < 40  # away from the edges, where JPEG is inexact


def with_xmp(kind: str, xmp: bytes, **options) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    place = {"PNG": {"pnginfo": text}, "TIFF": {"tiffinfo": {700: xmp}}}.get(kind, {"xmp": xmp})
    return save(Image.fromarray(PIXELS), kind, **place, **options)


@pytest.mark.parametrize("marked", [{}, {"exif": exif(6)}], ids=["xmp", "both"])
@pytest.mark.parametrize("xmp", [ATTRIBUTE, ELEMENT], ids=["attribute", "element"])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "PNG", "TIFF"])
def test_orientation_in_xmp(kind, xmp, marked):
    marked = {} if kind == "TIFF" else marked  # Pillow writes either of them
    _, result = again(with_xmp(kind, xmp, **marked))
    assert result.size == (12, 20)
    assert ImageOps.exif_transpose(result).size == (12, 20)
    assert result.getexif().get(ORIENTATION, 1) == 1
    assert b'tiff:Orientation="6"' not in result.info["xmp"]
    assert b"Jos\xc3\xa9" in result.info["xmp"]
    if isinstance(result, PngImagePlugin.PngImageFile):
        assert result.text["XML:com.adobe.xmp"].encode() == result.info["xmp"]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_xmp_goes_into_other_formats(kind):
    for source in ("JPEG", "PNG"):
        photograph = read_photograph(with_xmp(source, XMP, exif=exif(1)), "file")
        result = opened(photograph, kind)
        assert result.info["xmp"] == XMP
        assert result.getexif()[MAKE] == "Maker"
        assert result.getexif().get_ifd(GPS)[1] == "N"


def test_exif_as_a_text_of_png():
    """As ImageMagick writes it: the hexadecimal digits after a line with the length."""
    entries = exif(6)
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(entries):8}\n{entries.hex()}\n")
    _, result = again(save(Image.fromarray(PIXELS), "PNG", pnginfo=text))
    assert result.size == ImageOps.exif_transpose(result).size == (12, 20)
    assert "Raw profile type exif" not in result.info
    assert result.getexif()[MAKE] == "Maker"


def test_exif_that_cannot_be_written_is_left_out():
    """The orientation, and bits per sample as the fraction 10/1, which Pillow takes for an integer in writing."""
    entries = struct.pack("<HHIHH HHII", ORIENTATION, 3, 1, 6, 0, 258, 5, 1, 8 + 2 + 2 * 12 + 4)
    odd = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries[12:] + entries[:12] + struct.pack("<III", 0, 10, 1)
    _, result = again(save(Image.fromarray(PIXELS), "JPEG", exif=odd))
    assert result.size == (12, 20)
    assert not result.getexif()


def test_metadata_too_large_for_jpeg_is_left_out():
    entries = Image.Exif()
    entries[MAKE] = "M" * 70_000
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "x" * 70_000)
    photograph = read_photograph(save(Image.fromarray(PIXELS), "PNG", exif=entries.tobytes(), pnginfo=text), "file")
    result = opened(photograph, "JPEG")
    assert result.size == (20, 12)
    assert not result.getexif()
    assert "xmp" not in result.info
    assert len(opened(photograph, "PNG").getexif()[MAKE]) == 70_000


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_metadata_is_kept(kind):
    _, result = again(save(Image.fromarray(PIXELS), kind, exif=exif(6), icc_profile=PROFILE, dpi=(300, 300)))
    assert result.info["icc_profile"] == PROFILE
    assert result.getexif()[MAKE] == "Maker"
    assert result.getexif().get_ifd(GPS)[1] == "N"
    if kind != "WEBP":
        assert [round(float(value)) for value in result.info["dpi"]] == [300, 300]


def test_text_of_png_is_kept():
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "somebody")
    text.add_itxt("Title", "Regen über München")
    _, result = again(save(Image.fromarray(PIXELS), "PNG", pnginfo=text))
    assert isinstance(result, PngImagePlugin.PngImageFile)
    assert result.text == {"Author": "somebody", "Title": "Regen über München"}


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_quality_is_kept(quality, subsampling):
    data = save(Image.fromarray(PIXELS), "JPEG", quality=quality, subsampling=subsampling)
    _, result = again(data)
    original = Image.open(io.BytesIO(data))
    assert result.quantization == original.quantization
    assert result.layer == original.layer


@pytest.mark.parametrize("options", [{}, {"icc_profile": PROFILE}, {"icc_profile": PROFILE[:-1], "exif": exif(1)}])
def test_lossless_webp_stays_lossless(options):
    _, result = again(save(Image.fromarray(PIXELS), "WEBP", lossless=True, **options))
    np.testing.assert_array_equal(np.asarray(result), PIXELS)
    photograph, _ = again(save(Image.fromarray(PIXELS), "WEBP", **options | {"icc_profile": b"VP8L"}))
    assert photograph.options["lossless"] is False


def test_quality_of_avif():
    photograph, result = again(save(Image.fromarray(PIXELS), "AVIF"))
    written = save(Image.fromarray(photograph.pixels), "AVIF", quality=90)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(Image.open(io.BytesIO(written))))


def png(pixels: np.ndarray, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits, written by hand: every row unfiltered, big-endian."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]:
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return data


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (3, 2)])
def test_a_transparent_colour_of_sixteen_bits_becomes_alpha(channels, colour_type):
    pixels = DEEP[..., :channels].copy()
    pixels[5, 7] = pixels[3, 4]
    pixels[3, 5] = pixels[3, 4] ^ 1  # differs in the low bytes alone
    data = png(pixels, colour_type, (b"tRNS", pixels[3, 4].astype(">u2").tobytes()))
    photograph, result = again(data)
    expected = np.full((12, 20), 65535, np.uint16)
    expected[3, 4] = expected[5, 7] = 0
    np.testing.assert_array_equal(photograph.alpha, expected)
    np.testing.assert_array_equal(photograph.pixels, np.broadcast_to(pixels, (12, 20, 3)))
    assert photograph.grey == (channels == 1)
    np.testing.assert_array_equal(np.asarray(result.convert("RGBA"))[..., 3], expected >> 8)


def test_resolutions_that_are_none():
    """A TIFF of 16 bits that says 0/0 dots per inch."""
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, DEEP[..., :3], photometric="rgb", resolution=((7919, 7907),) * 2, resolutionunit=2)
    stored = struct.pack("<II", 7919, 7907)
    assert file.getvalue().count(stored) == 2
    photograph = read_photograph(file.getvalue().replace(stored, bytes(8)), "file")
    for kind in ("TIFF", "JPEG"):
        assert encode_photograph(photograph, kind, "file")
    assert "dpi" not in opened(photograph, "PNG").info


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_tiff(channels, byteorder, compression):
    import tifffile

    pixels = DEEP[..., :channels].squeeze()
    file = io.BytesIO()
    kind = "minisblack" if channels == 1 else "rgb"
    tifffile.imwrite(file, pixels, photometric=kind, byteorder=byteorder, compression=compression)
    photograph = read_photograph(file.getvalue(), "file")
    result = encode_photograph(photograph, "TIFF", "file")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(result)), pixels)


@pytest.mark.parametrize(("kind", "channels"), [*(("PNG", n) for n in (1, 2, 3, 4)), *(("TIFF", n) for n in (1, 3, 4))])
def test_sixteen_bits_keep_their_values_and_metadata(kind, channels):
    entries = Image.Exif()
    entries[MAKE] = "Maker"
    entries[0x0100] = 4000  # a width that the picture has no longer
    entries.get_ifd(GPS).update({1: "N", 2: (48.0, 8.5, 0.25)})
    entries.get_ifd(0x8769)[0x829D] = 2.5
    chunks = [(b"iCCP", b"p\0\0" + zlib.compress(PROFILE)), (b"pHYs", struct.pack(">IIB", 11811, 11811, 1))]
    chunks += [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), (b"eXIf", entries.tobytes().removeprefix(b"Exif\0\0"))]
    colours = np.broadcast_to(DEEP[..., : 1 if channels < 3 else 3], (12, 20, 3))
    data = png(DEEP[..., :channels], {1: 0, 2: 4, 3: 2, 4: 6}[channels], *chunks)
    for _ in range(3):  # from a PNG by hand to the kind, and twice from the kind to itself
        photograph = read_photograph(data, "file")
        np.testing.assert_array_equal(photograph.pixels, colours)
        if channels in (2, 4):
            np.testing.assert_array_equal(photograph.alpha, DEEP[..., channels - 1])
        data = encode_photograph(photograph, kind, "file")
        result = Image.open(io.BytesIO(data))
        told = result.getexif()
        assert told[MAKE] == "Maker"
        assert told.get(0x0100, 20) == 20
        assert told.get_ifd(GPS)[2] == (48.0, 8.5, 0.25)
        assert told.get_ifd(0x8769)[0x829D] == 2.5
        assert (result.info["icc_profile"], result.info["xmp"]) == (PROFILE, XMP)
        assert [round(float(value)) for value in result.info["dpi"]] == [300, 300]
        assert kind == "TIFF" or result.tile[0].args.endswith("16B")  # Pillow's name of 16-bit pixels


@pytest.mark.parametrize("kind", [3, 5, 6])  # colour in decimal digits, grey, colour
@pytest.mark.parametrize("highest", [65535, 1023])
def test_sixteen_bit_pgm_and_ppm(highest, kind):
    pixels = np.minimum(DEEP[..., 0] if kind == 5 else DEEP[..., :3], highest)
    data = b"P%d 20 # made by hand\n12\n%d\n" % (kind, highest)
    data += " ".join(map(str, pixels.ravel())).encode() if kind == 3 else pixels.astype(">u2").tobytes()
    photograph = read_photograph(data, "file")
    assert photograph.grey == (kind == 5)
    expected = np.floor(pixels * (65535 / highest) + 0.5).astype(">u2").tobytes()
    written = b"P5\n20 12\n65535\n" if kind == 5 else b"P6\n20 12\n65535\n"
    assert encode_photograph(photograph, "PPM", "file") == written + expected
    with pytest.raises(PhotographError, match="picture cut cannot be read"):
        read_photograph(data[: len(data) // 2], "cut")


@pytest.mark.parametrize(("mode", "channels"), [("L;16", 1), ("RGB;16", 3), ("RGBA;16", 4)])
def test_ten_bit_heif(mode, channels):
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.kron(DEEP[:3, :5, :channels] >> 6 << 6, np.ones((8, 8, 1), np.uint16))
    file = io.BytesIO()
    pillow_heif.encode(mode, (40, 24), pixels.tobytes(), file, quality=-1, chroma=444, matrix_coefficients=0)
    photograph = read_photograph(file.getvalue(), "file")
    colours = pixels[..., : min(channels, 3)]
    np.testing.assert_array_equal(photograph.pixels, np.broadcast_to(colours, (24, 40, 3)))
    if channels == 4:
        np.testing.assert_array_equal(photograph.alpha, pixels[..., 3])
    result = pillow_heif.open_heif(io.BytesIO(encode_photograph(photograph, "HEIF", "file")), convert_hdr_to_8bit=False)
    assert result.info["bit_depth"] == 10
    difference = np.asarray(result).reshape(pixels.shape).astype(int) - pixels
    assert np.abs(difference[4::8, 4::8]).max() < 65536 * 0.02


def test_heif_keeps_its_metadata():
    """Apple's way to say that a picture is turned, beside EXIF: a property of the container, which counts."""
    pytest.importorskip("pillow_heif")
    data = save(Image.fromarray(PIXELS), "HEIF", exif=exif(6), xmp=PHONE.encode(), icc_profile=PROFILE)
    photograph, result = again(data)
    assert photograph.pixels.shape == (20, 12, 3)
    assert b"mwg-rs:Regions" not in photograph.options["xmp"]
    assert (result.format, result.size) == ("HEIF", (12, 20))
    assert result.getexif()[MAKE] == "Maker"
    assert result.getexif().get(ORIENTATION, 1) == 1
    assert result.info["icc_profile"] == PROFILE
    assert b"Jos\xc3\xa9" in result.info["xmp"]
    for kind in ("JPEG", "PNG"):
        other = opened(photograph, kind)
        assert (other.size, other.getexif()[MAKE]) == ((12, 20), "Maker")


WIDTH, HEIGHT, SUBJECT = 0xA002, 0xA003, 0x9214  # of EXIF


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_sides_in_exif_are_those_of_the_picture(kind, orientation):
    entries = Image.Exif()
    entries[ORIENTATION] = orientation
    sides = {WIDTH: 4000, HEIGHT: 3000, SUBJECT: (5, 6, 2, 2)}
    entries.get_ifd(0x8769).update(sides)
    entries.get_ifd(0x8769)[0x829D] = 2.5  # the aperture stays
    _, result = again(save(Image.fromarray(PIXELS), kind, exif=entries.tobytes()))
    told = result.getexif().get_ifd(0x8769)
    assert (told[WIDTH], told[HEIGHT]) == result.size == ((20, 12) if orientation == 1 else (12, 20))
    assert told.get(SUBJECT) == ((5, 6, 2, 2) if orientation == 1 else None)
    assert told[0x829D] == 2.5


PHONE = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 5.1.0-jc003">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
    xmlns:Apple="http://ns.apple.com/HDRGainMap/1.0/"
    xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
    xmlns:Container="http://ns.google.com/photos/1.0/container/"
    xmlns:Item="http://ns.google.com/photos/1.0/container/item/"
    xmlns:xmpNote="http://ns.adobe.com/xmp/note/"
    xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
    hdrgm:Version="1.0" GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"
    GCamera:MotionPhotoPresentationTimestampUs="500000" GCamera:MicroVideoOffset="12345" GCamera:BurstID="kept"
    xmpNote:HasExtendedXMP="0123" tiff:Orientation="6" tiff:ImageWidth="4000" exif:PixelYDimension="3000">
   <Apple:HDRGainMapVersion>65536</Apple:HDRGainMapVersion>
   <exif:PixelXDimension>4000</exif:PixelXDimension>
   <tiff:Artist>Jos\u00e9</tiff:Artist>
   <mwg-rs:Regions><mwg-rs:RegionList/></mwg-rs:Regions>
   <Container:Directory>
    <rdf:Seq>
     <rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Length="999"/></rdf:li>
    </rdf:Seq>
   </Container:Directory>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_xmp_tells_nothing_of_what_is_dropped(kind):
    """As Google's and Apple's phones write it: with a gain map, a motion photo, a second part, faces."""
    _, result = again(with_xmp(kind, PHONE.encode()))
    told = result.info["xmp"].decode()
    gone = ("hdrgm:Version", "HDRGainMapVersion", "MotionPhoto", "MicroVideo", "HasExtended", "Directory", "Item:")
    assert [name for name in gone if name in told.replace("xmlns:Item:", "")] == []
    assert "mwg-rs:Regions" not in told  # their places hold for the picture before it was turned
    for kept in ('GCamera:BurstID="kept"', "Jos\u00e9", 'tiff:Orientation="1"', '<?xpacket end="w"?>'):
        assert kept in told
    assert result.size == (12, 20)
    assert 'tiff:ImageWidth="12"' in told
    assert 'exif:PixelYDimension="20"' in told
    assert "<exif:PixelXDimension>12<" in told
    upright = read_photograph(with_xmp(kind, PHONE.replace('Orientation="6"', 'Orientation="1"').encode()), "file")
    assert b"mwg-rs:Regions" in upright.options["xmp"]


@pytest.mark.parametrize("odd", [b"\xff\xfe no text", XMP[:-20], b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
def test_xmp_that_is_none_is_kept(odd):
    photograph, _ = again(save(Image.fromarray(PIXELS), "JPEG", xmp=odd))
    assert photograph.options["xmp"] == odd


def test_sixteen_bits_become_eight_in_jpeg():
    photograph = Photograph(np.full((8, 8, 3), 0x80FF, np.uint16), None, False, "PNG")
    assert np.abs(np.asarray(opened(photograph, "JPEG")).astype(int) - 0x80).max() <= 1


def test_damaged_and_hostile_files(monkeypatch):
    whole = save(Image.fromarray(PIXELS), "PNG")
    avif = bytearray(save(Image.fromarray(PIXELS), "AVIF"))
    avif[avif.index(b"mdat") + 4 :] = bytes(len(avif) - avif.index(b"mdat") - 4)
    assert not is_animation(bytes(avif))
    frames = [Image.fromarray(np.roll(PIXELS, i, axis=0)) for i in range(3)]
    for data, message in (
        (whole[: len(whole) // 2], r"picture a cannot be read: .*truncated"),
        (b"no picture", "a is not a picture"),
        (save(Image.fromarray(PIXELS[..., 0]).convert("F"), "TIFF"), "floating-point"),
        (bytes(avif), r"picture a cannot be read: .*decode"),
        (save(frames[0], "TIFF", save_all=True, append_images=frames[1:]), "holds 3 pages"),
    ):
        with pytest.raises(PhotographError, match=message):
            read_photograph(data, "a")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings(), pytest.raises(PhotographError, match="decompression bomb"):
        read_photograph(whole, "a")


def test_what_formats_cannot_hold(tmp_path):
    photograph = Photograph(PIXELS, PIXELS[..., 0], False, "PNG")
    with pytest.raises(OutputError, match=r"JPEG holds no transparency; choose \.png"):
        encode_photograph(photograph, "JPEG", "file")
    with pytest.raises(OutputError, match=r"no picture format is called '\.xyz'"):
        format_of(tmp_path / "a.xyz")
    with pytest.raises(OutputError, match=r"/clean: the name has no suffix; use \.png, "):
        format_of(tmp_path / "clean")


def test_what_cannot_be_written_is_told():
    """A text in the place of page numbers; more pixels in a row than the 16383 of WebP."""
    odd = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4sI", 297, 2, 4, b"abc\0", 0)
    deep = Photograph(DEEP[..., :3], None, False, "TIFF", {"exif": odd})
    with pytest.raises(OutputError, match=r"out\.tif cannot be written as TIFF: ") as caught:
        encode_photograph(deep, "TIFF", "out.tif")
    assert "\n" not in str(caught.value)
    wide = Photograph(np.zeros((1, 16400, 3), np.uint8), None, False, "PNG")
    with pytest.raises(OutputError, match=r"out\.webp cannot be written as WEBP: "):
        encode_photograph(wide, "WEBP", "out.webp")
