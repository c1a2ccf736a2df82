"""A line plot as SVG, without a plotting library."""

from collections.abc import Sequence

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 44


def plot_curve(points: Sequence[tuple[float, float]], x_title: str, y_title: str) -> str:
    """Draw (x, y) pairs in the order of x, perhaps none, as a line over axes with these titles.

    They begin at 0, that of y at the least value if that is negative.
    """
    right = max((x for x, _ in points), default=1) or 1
    bottom = min([0.0, *(y for _, y in points)])
    height = max((y for _, y in points), default=1) - bottom or 1

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / right * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - (y - bottom) / height * (_HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(down, 1)

    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>']
    lines.append(f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>')
    for part in range(5):
        x, y = part / 4 * right, bottom + part / 4 * height
        (x_at, floor), (left, y_at) = place(x, bottom), place(0, y)
        lines.append(f'<path d="M{left} {y_at}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{x_at}" y="{floor + 16}" text-anchor="middle">{x:,.0f}</text>')
        lines.append(f'<text x="{left - 6}" y="{y_at + 4}" text-anchor="end">{y:.3g}</text>')
    path = "L".join("{} {}".format(*place(x, y)) for x, y in points)
    if path:
        lines.append(f'<path d="M{path}" fill="none" stroke="#1565c0" stroke-width="1.5"/>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    lines.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{x_title}</text>')
    lines.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{y_title}</text>')
    return "\n".join([*lines, "</svg>", ""])
