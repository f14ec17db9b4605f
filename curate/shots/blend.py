"""Where, inside an interval that a low-rate detector points at, one shot turns into the other.

Between a frame A of the old shot and a frame B of the new one every frame x is projected on B - A:
    alpha = <x - A, B - A> / |B - A|^2        residual = |x - A - alpha (B - A)|^2 / |B - A|^2
A dissolve is a straight line from A to B, so alpha climbs from 0 to 1 and the residual stays near zero. Two pictures of one
moving scene are not mixed on the way from one to the other: half way the residual of unrelated pictures is 3/4. The span is the
ramp clamp((t - u) / (v - u)) that fits alpha(t) best, in least squares.
"""

from dataclasses import dataclass

import numpy as np

from curate.shots.track import rms

COARSE = 16
"""Steps of the coarse grid over a window."""


@dataclass(frozen=True, slots=True)
class Blend:
    """A ramp from frame `start` (last of the old shot) to frame `end` (first of the new one), positions in the window.

    change    rms difference of the two frames, 8-bit levels
    residual  mean residual over the middle half of the ramp
    detour    length of the path alpha takes, 1 for a monotone climb
    spread    share of the picture that changes (participation ratio of |B - A|^2 over the blocks), 0 to 1
    drift     speed of change beside the ramp, as a share of the speed on it
    """

    start: int
    end: int
    change: float
    residual: float
    detour: float
    spread: float
    drift: float


def projected(features: np.ndarray, old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position alpha and residual (N,) of frames (N, D) on the line from `old` to `new`."""
    chord = new - old
    length2 = float(chord @ chord) + 1e-6
    offset = features - old
    alpha = offset @ chord / length2
    rest = offset - alpha[:, None] * chord
    return alpha, np.einsum("nd,nd->n", rest, rest) / length2


def fitted_ramp(alpha: np.ndarray, times_s: np.ndarray, longest_s: float) -> tuple[int, int]:
    """Positions (u, v), u < v, of the ramp from 0 to 1 with the least squared error to alpha; coarse search, then fine."""
    count = len(alpha)
    step = max(1, -(-(count - 1) // COARSE))
    knots = _within(range(0, count - 1 + step, step), count)
    u, v = _least_squares(alpha[::step], times_s[::step], times_s, knots, knots, longest_s)
    while step > 1:
        reach = step
        step = max(1, step // 4)
        near_u, near_v = (_within(range(near - reach, near + reach + 1, step), count) for near in (u, v))
        u, v = _least_squares(alpha[::step], times_s[::step], times_s, near_u, near_v, longest_s)
    return u, v


def _within(places: range, count: int) -> np.ndarray:
    """Places in ascending order, those beyond either end moved onto it, each once."""
    return np.array(sorted({min(max(place, 0), count - 1) for place in places}))


def _least_squares(
    alpha: np.ndarray, at_s: np.ndarray, times_s: np.ndarray, starts: np.ndarray, ends: np.ndarray, longest_s: float
) -> tuple[int, int]:
    first, last = np.repeat(starts, len(ends)), np.tile(ends, len(starts))
    valid = (last > first) & ((times_s[last] - times_s[first] <= longest_s) | (last == first + 1))
    if not valid.any():
        return int(starts[0]), int(starts[0]) + 1
    first, last = first[valid], last[valid]
    began_s = times_s[first]
    model = (at_s - began_s[:, None]) / (times_s[last] - began_s)[:, None]
    np.minimum(np.maximum(model, 0.0, out=model), 1.0, out=model)
    model -= alpha
    best = int(np.argmin(np.square(model, out=model).sum(axis=1)))
    return int(first[best]), int(last[best])


def located(features: np.ndarray, times_s: np.ndarray, longest_s: float) -> Blend:
    """The best single ramp in a window of at least three frames. Whether it is a transition is for the caller to judge."""
    start, stop = 0, len(features)
    for margin_s in (0.25, 0.1):
        alpha, _ = projected(features[start:stop], features[start], features[stop - 1])
        u, v = fitted_ramp(alpha, times_s[start:stop], longest_s)
        u, v = u + start, v + start
        start = int(np.searchsorted(times_s, times_s[u] - margin_s - 1e-6))
        stop = int(np.searchsorted(times_s, times_s[v] + margin_s + 1e-6))
        start, stop = max(0, min(start, u - 1)), min(len(features), max(stop, v + 2))
    alpha, _ = projected(features[start:stop], features[u], features[v])
    u, v = (n + start for n in fitted_ramp(alpha, times_s[start:stop], longest_s))
    return described(features, times_s, u, v)


def described(features: np.ndarray, times_s: np.ndarray, u: int, v: int) -> Blend:
    """The ramp from frame `u` to frame `v` of a window, whether or not it is the best one."""
    alpha, residual = projected(features[u : v + 1], features[u], features[v])
    count = v - u
    middle = residual[max(1, count // 4) : max(2, count - count // 4)] if count > 1 else np.zeros(1)
    blocks = np.square(features[v] - features[u]).reshape(-1, 3).sum(axis=1)
    change = float(rms(features[v] - features[u]))
    speed = change / max(times_s[v] - times_s[u], 1e-6)
    return Blend(
        start=u,
        end=v,
        change=change,
        residual=float(middle.mean()),
        detour=float(np.abs(np.diff(alpha)).sum()),
        spread=float(blocks.sum() ** 2 / (len(blocks) * np.square(blocks).sum() + 1e-6)),
        drift=_speed_beside(features, times_s, u, v) / max(speed, 1e-6),
    )


def _speed_beside(features: np.ndarray, times_s: np.ndarray, u: int, v: int, beside_s: float = 0.3) -> float:
    """The faster of the two sides' rms change per second over up to `beside_s` next to the ramp."""
    before = max(int(np.searchsorted(times_s, times_s[u] - beside_s)), 0)
    after = min(int(np.searchsorted(times_s, times_s[v] + beside_s)), len(features) - 1)
    sides = ((before, u), (v, after))
    speeds = [float(rms(features[last] - features[first])) / (times_s[last] - times_s[first]) for first, last in sides if last > first]
    return max(speeds, default=0.0)
