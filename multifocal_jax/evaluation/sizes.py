"""Chooses the sizes for which the network is compiled, so that a folder of mixed sizes needs few compilations."""

Size = tuple[int, int]

_AS_THEY_ARE = 2  # sizes: portrait and landscape pictures of one camera
_BUCKET = 64  # sides of further programs are multiples of this


class Sizes:
    """Decides picture by picture which program size to use: the picture's own, or a larger one.

    The first two sizes get their own programs. A further size uses the smallest program that holds it, if that has at
    most `worth` pixels more; if there is none, one for its sides rounded up to multiples of 64. A size that has been
    padded by `worth` pixels in total gets its own program from then on. So padding never costs much more than compiling
    would have, nor compiling much more than padding.

    Args:
        worth: number of pixels that can be de-rained in the time of compiling a program.
    """

    def __init__(self, worth: int) -> None:
        self._worth = worth
        self._programs: set[Size] = set()
        self._padding: dict[Size, int] = {}

    def program_for(self, size: Size, times: int = 1) -> Size:
        """The program size for a picture of this (height, width), or for `times` tiles of this size."""
        height, width = size
        padding = self._padding.get(size, 0)
        if size in self._programs or len(self._programs) < _AS_THEY_ARE or padding >= self._worth:
            self._programs.add(size)
            return size
        most = height * width + self._worth // times
        holding = [(h, w) for h, w in self._programs if h >= height and w >= width and h * w <= most]
        rounded = -(-height // _BUCKET) * _BUCKET, -(-width // _BUCKET) * _BUCKET
        found = min(holding, key=lambda sides: (sides[0] * sides[1], sides), default=rounded)
        self._programs.add(found)
        self._padding[size] = padding + times * (found[0] * found[1] - height * width)
        return found

    def discard(self, size: Size) -> None:
        """No longer offer the program of this size."""
        self._programs.discard(size)
