"""Corrects EXIF and XMP for a picture that was rotated upright and lost other data of its file."""

import re
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from PIL import ExifTags, Image

_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_WIDTHS = ((_TIFF, "ImageWidth"), (_EXIF, "PixelXDimension"))
_HEIGHTS = ((_TIFF, "ImageLength"), (_EXIF, "PixelYDimension"))
# Beginnings of namespace and name of entries about dropped data: gain maps, depth, matting, motion photos, sound, and
# the second part of XMP that is too long for a JPEG's segment.
_DROPPED = re.compile(
    r"""http://ns\.adobe\.com/(hdr-gain-map/|xmp/note/\ HasExtendedXMP)
    |http://ns\.apple\.com/(HDRGainMap|depthData|pixeldatainfo|portraitEffectsMatte|semanticSegmentationMatte)/
    |http://ns\.google\.com/photos/(dd/|1\.0/((audio|container|depthmap|image)/|camera/\ (MicroVideo|MotionPhoto)))""",
    re.VERBOSE,
)
_PLACES = re.compile(  # the same about places in the picture as it was stored, such as faces
    r"""http://www\.metadataworkinggroup\.com/schemas/regions/|http://ns\.apple\.com/faceinfo/
    |http://ns\.microsoft\.com/photo/1\.2/\ RegionInfo""",
    re.VERBOSE,
)
_PLACES_IN_EXIF = (0x9214, ExifTags.Base.SubjectLocation)  # the first is the subject's area
_SIDES_IN_EXIF = (
    (None, ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength),
    (ExifTags.IFD.Exif, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight),
    (ExifTags.IFD.Interop, ExifTags.Interop.RelatedImageWidth, ExifTags.Interop.RelatedImageHeight),
)


def make_exif_true(exif: Image.Exif, size: tuple[int, int], turned: bool) -> None:
    """Correct a picture's EXIF in place for the picture rotated upright, of this width and height.

    The orientation is removed; `turned`: it was stored rotated.
    """
    exif.pop(ExifTags.Base.Orientation, None)
    for directory, *tags in _SIDES_IN_EXIF:
        if directory is not None and ExifTags.IFD.Exif not in exif:
            continue  # asking for it would make it
        if directory == ExifTags.IFD.Interop and directory not in exif.get_ifd(ExifTags.IFD.Exif):
            continue  # Pillow 12 would raise KeyError
        entries = exif if directory is None else exif.get_ifd(directory)
        for tag, side in zip(tags, size, strict=True):
            if tag in entries:
                entries[tag] = side
    for tag in _PLACES_IN_EXIF if turned and ExifTags.IFD.Exif in exif else ():
        exif.get_ifd(ExifTags.IFD.Exif).pop(tag, None)


def true_xmp(xmp: str, size: tuple[int, int], turned: bool) -> str:
    """A picture's XMP, corrected likewise and without what tells of embedded pictures, depth, films and sound.

    If it is not well-formed XML, only the orientation is changed.
    """
    marked = re.sub(r'(tiff:Orientation(?:="|>))[0-9]', r"\g<1>1", xmp)
    if "<!DOCTYPE" in marked:  # XMP has none, and what it declares might not end
        return marked
    try:
        document = minidom.parseString(marked.encode("utf-8", "surrogateescape"))
    except (ExpatError, UnicodeError, ValueError):
        return marked
    sides = {**dict.fromkeys(_WIDTHS, size[0]), **dict.fromkeys(_HEIGHTS, size[1])}
    root = document.documentElement
    if root is None or not _prune(root, (_DROPPED, _PLACES) if turned else (_DROPPED,), sides):
        return marked
    return "".join(node.toxml() for node in document.childNodes)


def _prune(element: minidom.Element, gone: tuple[re.Pattern[str], ...], sides: dict[tuple[str, str], int]) -> bool:
    """Remove entries and set sides of an element and its descendants; returns whether anything has changed."""
    changed = False
    for node in [*element.attributes.values(), *element.childNodes]:
        space, name = node.namespaceURI or "", node.localName or ""
        if any(pattern.match(f"{space} {name}") for pattern in gone):
            element.removeAttributeNode(node) if isinstance(node, minidom.Attr) else element.removeChild(node)
        elif (space, name) in sides and isinstance(node, minidom.Attr):
            node.value = str(sides[space, name])
        elif (space, name) in sides and isinstance(node.firstChild, minidom.Text):
            node.firstChild.data = str(sides[space, name])
        else:
            changed |= isinstance(node, minidom.Element) and _prune(node, gone, sides)
            continue
        changed = True
    return changed
