"""A film composed from single-shot pieces by a seeded plan: shots, transitions between them, negatives inside them, and the truth.

Half of the transitions are hard cuts, a quarter dissolves of 4 to 60 frames (short ones more often), an eighth fades through black or
white, with and without a hold, an eighth wipes of 5 to 40 frames. A shot is shown in its own time (frames repeat or fall out where the
film's rate differs) or frame by frame, cropped, mirrored, graded, at times with a slow pan or zoom.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace

import cv2
import numpy as np

from cuts import negatives
from cuts.footage import Piece
from cuts.negatives import Negative, View

VISIBLE = 0.1
"""A mixed frame counts as visibly mixed if it holds at least this share of the other shot, or of black or white."""
MARGIN = 8
"""Least number of frames between a negative and a transition or another negative."""
WIPES = ("left", "right", "up", "down", "iris in", "iris out")
NEGATIVE_EVERY = 200
"""Mean number of clean frames for one negative."""


@dataclass(frozen=True)
class Truth:
    """A transition: frames `first <= n < clean` are mixed; for a cut both are the first frame of the new shot.

    visible_first, visible_clean  the part of them that is mixed by VISIBLE or more
    """

    first: int
    clean: int
    kind: str
    visible_first: int
    visible_clean: int


@dataclass(frozen=True)
class Marked:
    """A negative's frames, `first <= n < end`."""

    first: int
    end: int
    kind: str


@dataclass
class Shot:
    """One piece as it is shown. `rate` is frames of the piece for one of the film; `drift` px, px and log of zoom a frame."""

    piece: Piece
    start: int
    rate: float
    view: View
    drift: tuple[float, float, float]
    is_mirrored: bool
    gain: float
    gamma: float
    negatives: list[Negative] = field(default_factory=list)

    def frame(self, k: int, size: tuple[int, int]) -> np.ndarray:
        source = self.piece.bgr(self.start + int(k * self.rate))
        image = self._seen(source, k, size)
        if self.gain != 1 or self.gamma != 1:
            levels = np.arange(256) / 255
            image = cv2.LUT(image, np.clip(255 * self.gain * levels**self.gamma + 0.5, 0, 255).astype(np.uint8))
        for one in self.negatives:
            image = negatives.painted(one, image, k - one.first)
        return image

    def _view(self, at: float) -> View:
        x, y, zoom = self.drift
        view = View(self.view.x + x * at, self.view.y + y * at, self.view.width * float(np.exp(zoom * at)))
        for one in self.negatives:
            view = negatives.moved(one, view, at - one.first)
        return view

    def _seen(self, source: np.ndarray, k: int, size: tuple[int, int]) -> np.ndarray:
        """Exposed over part of a frame's time where an effect moves the camera."""
        begun = self._view(k)
        if begun.width > 1.2 * size[0]:
            source = cv2.GaussianBlur(source, (0, 0), 0.4 * begun.width / size[0])  # or fine grids turn to moire
        if not any(one.kind in negatives.CAMERA and one.first <= k < one.end for one in self.negatives):
            return self._warped(source, begun, size)
        ended = self._view(k + negatives.SHUTTER)
        path = (abs(ended.x - begun.x) + abs(ended.y - begun.y) + abs(ended.width - begun.width)) * size[0] / begun.width
        count = int(np.clip(np.ceil(path / 3), 1, 24))
        total = np.zeros((size[1], size[0], 3), np.float32)
        for moment in k + negatives.SHUTTER * (np.arange(count) + 0.5) / count:
            total += self._warped(source, self._view(float(moment)), size)
        image = (total / count + 0.5).astype(np.uint8)
        gap = round(abs(ended.x - begun.x) * size[0] / begun.width / count)
        return cv2.blur(image, (gap, 1)) if gap > 1 else image

    def _warped(self, source: np.ndarray, view: View, size: tuple[int, int]) -> np.ndarray:
        scale = view.width / size[0]
        across = -scale if self.is_mirrored else scale
        matrix = np.float64([
            [across, 0, view.x - across * (size[0] - 1) / 2],
            [0, scale, view.y - scale * (size[1] - 1) / 2],
        ])  # fmt: skip
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(source, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)


@dataclass(frozen=True)
class Join:
    """The transition before a shot: `out_frames` and `in_frames` are a fade's ramps, `hold` what lies between; else out_frames is all."""

    kind: str
    detail: str = ""
    out_frames: int = 0
    hold: int = 0
    in_frames: int = 0
    is_eased: bool = False
    softness: float = 0.0

    @property
    def num_mixed(self) -> int:
        return self.out_frames + self.hold + self.in_frames

    @property
    def num_shared(self) -> int:
        """Frames in which both shots run."""
        return self.out_frames if self.kind in ("dissolve", "wipe") else 0


@dataclass(eq=False)
class Film:
    """A plan: `shots[n]` is joined by `joins[n]` (the first is no transition) and runs over frames `starts[n] <= k < ends[n]`."""

    size: tuple[int, int]
    fps: float
    shots: list[Shot]
    joins: list[Join]
    starts: list[int]
    ends: list[int]

    @property
    def num_frames(self) -> int:
        return self.ends[-1]

    def truth(self) -> list[Truth]:
        return [self._truth(n) for n in range(1, len(self.shots))]

    def _truth(self, n: int) -> Truth:
        join, first, clean = self.joins[n], *self._mixed(n)
        shares = np.array([min(_share(join, k), 1.0) for k in range(join.num_mixed)])
        if join.kind in ("dissolve", "wipe"):
            visible = np.flatnonzero((shares >= VISIBLE) & (shares <= 1 - VISIBLE))
        else:
            visible = np.flatnonzero(shares >= VISIBLE)
        span = (first + int(visible[0]), first + int(visible[-1]) + 1) if len(visible) else (clean, clean)
        return Truth(first, clean, f"{join.kind} {join.detail}".strip(), *span)

    def _mixed(self, n: int) -> tuple[int, int]:
        """First mixed and first clean frame of the transition before shot n."""
        join = self.joins[n]
        first = self.starts[n] if join.num_shared or join.kind == "cut" else self.ends[n - 1] - join.out_frames
        return first, first + join.num_mixed

    def marked(self) -> list[Marked]:
        return [
            Marked(at + one.first, at + one.end, one.kind)
            for at, shot in zip(self.starts, self.shots, strict=True)
            for one in shot.negatives
        ]

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3) BGR."""
        field_of = {n: _wipe_field(join.detail, self.size) for n, join in enumerate(self.joins) if join.kind == "wipe"}
        number = 0
        for k in range(self.num_frames):
            while number + 1 < len(self.shots) and k >= self._mixed(number + 1)[1]:
                number += 1
            following = number + 1
            if following == len(self.shots) or k < self._mixed(following)[0]:
                yield self.shots[number].frame(k - self.starts[number], self.size)
                continue
            join, n = self.joins[following], k - self._mixed(following)[0]
            share = _share(join, n)
            if join.kind == "fade":
                yield self._faded(following, k, n, share)
                continue
            old = self.shots[number].frame(k - self.starts[number], self.size)
            new = self.shots[following].frame(k - self.starts[following], self.size)
            if join.kind == "dissolve":
                yield cv2.addWeighted(old, 1 - share, new, share, 0)
            else:
                mask = np.clip((share * (1 + join.softness) - field_of[following]) / join.softness, 0, 1)[:, :, None]
                yield (old * (1 - mask) + new * mask + 0.5).astype(np.uint8)

    def _faded(self, n: int, k: int, at: int, share: float) -> np.ndarray:
        join = self.joins[n]
        level = 255 if join.detail == "white" else 0
        if join.out_frames <= at < join.out_frames + join.hold:
            return np.full((self.size[1], self.size[0], 3), level, np.uint8)
        shown = n - 1 if at < join.out_frames else n
        image = self.shots[shown].frame(k - self.starts[shown], self.size)
        return cv2.convertScaleAbs(image, alpha=1 - share, beta=share * level)

    def described(self) -> list[dict]:
        """The shots, for those who read the truth."""
        rows = []
        for at, end, shot in zip(self.starts, self.ends, self.shots, strict=True):
            view = {key: round(value, 2) for key, value in asdict(shot.view).items()}
            rows.append(
                {
                    "first": at,
                    "end": end,
                    "file": shot.piece.listed.file,
                    "start": shot.piece.listed.first + shot.start,
                    "rate": shot.rate,
                    "view": view,
                }
            )
        return rows


def _share(join: Join, n: int) -> float:
    """How much of a mixed frame is the new shot (dissolve, wipe) or the flat colour (fade)."""
    if join.kind != "fade" or n < join.out_frames:
        share = (n + 1) / (join.out_frames + 1)
    elif n < join.out_frames + join.hold:
        share = 1.0
    else:
        share = 1 - (n - join.out_frames - join.hold + 1) / (join.in_frames + 1)
    return share * share * (3 - 2 * share) if join.is_eased else share


def _wipe_field(detail: str, size: tuple[int, int]) -> np.ndarray:
    """float32 (H, W) in 0..1: the share at which each pixel turns to the new shot."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / (width - 1), y / (height - 1)
    radius = np.sqrt(((x - 0.5) * width) ** 2 + ((y - 0.5) * height) ** 2) / (0.5 * float(np.hypot(width, height)))
    return {"left": 1 - x, "right": x, "up": 1 - y, "down": y, "iris out": radius, "iris in": 1 - radius}[detail].astype(np.float32)


def drawn_join(random: np.random.Generator) -> Join:
    kind = str(random.choice(["cut", "dissolve", "fade", "wipe"], p=[0.5, 0.25, 0.125, 0.125]))
    is_eased = bool(random.random() < 0.3)
    if kind == "dissolve":
        return Join(kind, out_frames=round(float(np.exp(random.uniform(np.log(4), np.log(60.4))))), is_eased=is_eased)
    if kind == "wipe":
        softness = float(random.choice([0.01, 0.05, 0.2]))
        return Join(kind, str(random.choice(WIPES)), out_frames=int(random.integers(5, 41)), is_eased=is_eased, softness=softness)
    if kind == "fade":
        level = "black" if random.random() < 0.75 else "white"
        out, back = (round(float(np.exp(random.uniform(np.log(4), np.log(40))))) for _ in range(2))
        hold = int(random.integers(2, 31)) if random.random() < 0.5 else 1
        return Join(kind, level, out, hold, back, is_eased)
    return Join(kind)


def drawn_shot(random: np.random.Generator, pieces: list[Piece], size: tuple[int, int], fps: float) -> Shot:
    piece = pieces[random.integers(len(pieces))]
    width, height = piece.size
    widest = min(width, height * size[0] / size[1])
    seen = widest * random.uniform(0.6, 1.0)
    view = View(
        float(width / 2 + (width - seen) * random.uniform(-0.5, 0.5)),
        float(height / 2 + (height - seen * size[1] / size[0]) * random.uniform(-0.5, 0.5)),
        float(seen),
    )
    native = piece.fps / fps
    is_retimed = 0.4 <= 1 / native <= 2.5 and random.random() < 0.5
    drift = (0.0, 0.0, 0.0)
    if random.random() < 0.3:
        # Up to 1.2 px of a 320 px wide picture a frame, as a slow pan; zooms of up to 15 % in 100 frames.
        pan = seen / 320 * random.uniform(-1.2, 1.2)
        drift = (float(pan), 0.0, 0.0) if random.random() < 0.6 else (0.0, 0.0, float(random.uniform(-0.0015, 0.0015)))
    gain, gamma = (float(random.uniform(0.8, 1.1)), float(random.uniform(0.8, 1.3))) if random.random() < 0.4 else (1.0, 1.0)
    start = int(random.integers(len(piece.frames)))
    return Shot(piece, start, 1.0 if is_retimed else native, view, drift, bool(random.random() < 0.5), gain, gamma)


def _negatives(random: np.random.Generator, first: int, end: int, fps: float, every: int) -> list[Negative]:
    """Negatives for the clean frames `first <= k < end` of a shot, in order, apart from each other."""
    found: list[Negative] = []
    for _ in range(int(random.poisson((end - first) / every))):
        one = negatives.drawn(random, str(random.choice(negatives.KINDS)), fps)
        low, high = first + MARGIN, end - MARGIN - one.length
        if high <= low:
            continue
        one = replace(one, first=int(random.integers(low, high)))
        if all(one.first >= other.end + MARGIN or other.first >= one.end + MARGIN for other in found):
            found.append(one)
    return sorted(found, key=lambda one: one.first)


@dataclass(frozen=True)
class Style:
    """What a film's shots and transitions are drawn from. `negative_every`: mean number of clean frames for one negative."""

    join: Callable[[np.random.Generator], Join] = drawn_join
    shot: Callable[[np.random.Generator, list[Piece], tuple[int, int], float], Shot] = drawn_shot
    negative_every: int = NEGATIVE_EVERY


BENCHMARK = Style()


def planned(
    random: np.random.Generator,
    pieces: list[Piece],
    size: tuple[int, int],
    fps: float,
    density: int,
    num_frames: int,
    style: Style = BENCHMARK,
) -> Film:
    """A film of about `num_frames` with a transition about every `density` frames."""
    film = Film(size, fps, [], [], [], [])
    while not film.ends or film.ends[-1] < num_frames:
        join = style.join(random) if film.shots else Join("cut")
        clean = int(random.uniform(0.35, 1.45) * density)
        before = film.shots[-1].piece.listed.scene if film.shots else ""
        at = film.ends[-1] - join.num_shared if film.ends else 0
        hold = join.hold if join.kind == "fade" else 0
        shot = style.shot(random, [p for p in pieces if p.listed.scene != before], size, fps)
        lead = join.num_shared or join.in_frames
        film.shots.append(shot)
        film.joins.append(join)
        film.starts.append(at + hold)
        film.ends.append(at + hold + lead + clean)
        shot.negatives = _negatives(random, lead, lead + clean, fps, style.negative_every)
        _room_for_next(film, join)
    return film


def _room_for_next(film: Film, join: Join) -> None:
    """The old shot runs on through what it shares with the new one, or while it fades; its clean part stays as long as drawn."""
    if len(film.shots) < 2:
        return
    extra = join.num_shared or join.out_frames
    film.ends[-2] += extra
    film.starts[-1] += extra
    film.ends[-1] += extra
