"""A curve with intervals as SVG, without a plotting library: a page shows it as it is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 34, 52
MAX_BUCKET = 255
Point = tuple[int, float, float | None, float | None]  # x, value, low, high


@dataclass(frozen=True, slots=True)
class Line:
    """A named line of points (x, value, low, high)."""

    name: str
    color: str
    points: tuple[Point, ...]


def curve_svg(lines: Sequence[Line], level: float | None, x_title: str, y_title: str) -> str:
    """Lines over 0 to 255, from 0 up; `level` is a dashed line across, of what is real."""
    values = [value for line in lines for _, *numbers in line.points for value in numbers if value is not None]
    highest, step = _axis(max([*values, *([] if level is None else [level]), 1e-9]))

    def x(bucket: float) -> float:
        return LEFT + bucket / MAX_BUCKET * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - max(value, 0.0) / highest * (HEIGHT - TOP - BOTTOM)

    label = f"{escape(y_title)} over {escape(x_title)}"
    style = 'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" font-size="12"'
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{label}" {style}>']
    for number in range(round(highest / step) + 1):
        at = y(number * step)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#e3e6ea"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#4a525c">{number * step:g}</text>')
    below = f'y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#4a525c"'
    parts += [f'<text x="{x(bucket):.1f}" {below}>{bucket}</text>' for bucket in (*range(0, 201, 50), MAX_BUCKET)]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_title)}</text>')
    across = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text transform="translate(16 {across}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>')
    if level is not None:
        ends = f'x1="{LEFT}" y1="{y(level):.1f}" x2="{WIDTH - RIGHT}" y2="{y(level):.1f}"'
        parts.append(f'<line class="real" {ends} stroke="#59626d" stroke-dasharray="6 4"/>')
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{y(level) - 5:.1f}" text-anchor="end" fill="#59626d">real windows</text>')
    for number, line in enumerate(lines):
        parts += _drawn(line, x, y)
        left = LEFT + 8 + number * 260
        parts.append(f'<rect x="{left}" y="10" width="14" height="4" fill="{line.color}"/>')
        parts.append(f'<text x="{left + 20}" y="17">{escape(line.name[:36])}</text>')
    return "\n".join([*parts, "</svg>"])


def _drawn(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    places = " ".join(f"{x(bucket):.1f},{y(value):.1f}" for bucket, value, _, _ in line.points)
    parts = [f'<polyline points="{places}" fill="none" stroke="{line.color}" stroke-width="2"/>']
    for bucket, value, low, high in line.points:
        if low is not None and high is not None:
            at = f'x1="{x(bucket):.1f}" x2="{x(bucket):.1f}"'
            parts.append(f'<line {at} y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{line.color}" stroke-width="1.5" opacity="0.6"/>')
        parts.append(f'<circle cx="{x(bucket):.1f}" cy="{y(value):.1f}" r="3.5" fill="{line.color}"><title>{value:.3g}</title></circle>')
    return parts


def _axis(highest: float) -> tuple[float, float]:
    """(end, step) of an axis from 0: 1, 2 or 5 times a power of ten, four to eight steps."""
    power = 10.0 ** math.floor(math.log10(highest / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if highest / (factor * power) <= 6)
    return math.ceil(highest / step) * step, step
