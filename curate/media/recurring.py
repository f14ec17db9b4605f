"""What is burnt in over a whole source: edges that stand at one place in shots of different scenes.

Inside a shot whose camera is fixed, nothing tells a logo from a sign. Across shots nothing of a scene comes again: shots are to a source
what samples before a moving camera are to a clip, and the same is asked of their mean pictures as of samples (`curate.media.standing`).
Clips that show the same scene (a shot that was divided, an interview that goes to and fro) count once.

    g_k(x)    mean gradient of scene k, cut at `EDGE_LEVELS`, so that no strong edge of one scene decides
    edges(x)  = |mean g| - c * sd(g) / sqrt(n)    over n scenes, with c = CONFIDENCE + FEW_SCENES / n

Two things speak for a mark: a group of such edges that looks like a logo (`curate.media.logos`), or a group at the same place in the clips
of three scenes and of a tenth of them all, each half as strong as a clip by itself would need. A clip shows it if its own gradients
follow the mark's: regressed on them they give about 1 where it is burnt in as strongly as elsewhere, 0 where it is not. Edges that repeat
over the picture are a watermark (`curate.media.tiles`).

What looked like a logo before a fixed camera, and is absent from four other scenes and more, belongs to its scene.

Tuning half of benchmarks/flags, films of 4 to 7 shots: in 42 without a mark no common edges are worth anything; logos of 30 % opacity and
more are seen in 76 of 93 clips (46 by themselves), and repetition is 0 without and 0.49 to 0.7 with a tiled mark of 20 % and more.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from curate.clip import Box
from curate.media.logos import Group, find_logos
from curate.media.standing import MOVING_LEVELS, NOISE_VARIANCE, Standing, magnitude
from curate.media.tiles import repetition

MAX_PIXELS = 57_600  # 320 x 180
EDGE_LEVELS = 24.0  # levels per pixel
CONFIDENCE, FEW_SCENES = 1.5, 3.0  # standard errors: hardly anything comes again by chance, but of few scenes their spread is badly known
MIN_SCENES, MAX_SCENES = 4, 48
THUMBNAIL = (16, 9)
SAME_THUMBNAIL, LIKE_THUMBNAIL, SAME_EDGES, EDGES_WIDTH = 0.8, 0.4, 0.25, 80  # correlations; gradients are compared at 80 px
MAX_GROUPS, MIN_WORTH, MIN_OVERLAP = 8, 1.0, 0.4  # of a clip's own groups: kept, levels per pixel, intersection over union
AGAIN, AGAIN_SHARE, AGAIN_WORTH = 3, 0.1, 2.0  # scenes that show a group, share of all, and what that makes of the weakest that is needed
MAX_MARKS = 8
WHOLE = 8192.0
SHOWN, ABSENT = 0.5, 0.3  # likeness
MIN_MARK = 1.5  # levels per pixel: fainter marks (those in colour) cannot be followed in luma
FAINT = 0.4  # of a mark's strong edges: weaker ones do not stretch its box
FIXED_CAMERA = 0.1  # share of the scene that stands


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What is kept of a clip: its mean picture, uint8 (h, w), and its own groups (box in the picture's pixels, worth), best first."""

    picture: np.ndarray
    groups: tuple[tuple[Box, float], ...]
    standing: float
    active: Box
    shape: tuple[int, int]

    def displayed(self, box: Box) -> list[int]:
        """A box of the picture as x, y, width, height in displayed pixels of the source."""
        down, across = self.active.height / self.picture.shape[0], self.active.width / self.picture.shape[1]
        x, y = self.active.x + round(box.x * across), self.active.y + round(box.y * down)
        return [x, y, round(box.width * across), round(box.height * down)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the other clips say of one: None where they say nothing.

    logo_strength  levels per pixel, as `Group.worth`; 0 where the clip's own group belongs to its scene
    logo_box       in displayed pixels of the source
    num_scenes     scenes that show the mark
    watermark      strength in [0, 1]
    """

    logo_strength: float | None = None
    logo_box: list[int] | None = None
    num_scenes: int = 0
    watermark: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Mark:
    """Something that comes again; `edges` float32 (2, points) at `places`, bool (h, w) of the box."""

    box: Box
    strength: float
    edges: np.ndarray
    places: np.ndarray

    def likeness(self, trace: Trace) -> float:
        """How strongly a clip shows it: 1 as strongly as it is on average."""
        if np.sqrt((self.edges**2).sum(axis=0)).mean() < MIN_MARK:
            return 0.0
        own = _gradients(trace.picture, self.box)[:, self.places]
        return float((own * self.edges).sum()) / float((self.edges**2).sum())

    def is_shown(self, trace: Trace) -> bool:
        return self.likeness(trace) >= SHOWN or any(_overlap(box, self.box) >= MIN_OVERLAP for box, _ in trace.groups)


def trace(still: Standing, standing: float, groups: Sequence[Group], active: Box) -> Trace:
    """Of one clip, `standing` the share of its scene that stands, its groups by worth, and the active picture in displayed pixels."""
    level = still.level - still.level.min()
    height, width = level.shape
    scale = min(1.0, float(np.sqrt(MAX_PIXELS / (height * width))))
    if scale < 1:
        level = cv2.resize(level, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_AREA)
    picture = np.clip(level + 0.5, 0, 255).astype(np.uint8)
    down, across = picture.shape[0] / height, picture.shape[1] / width
    kept = [
        (Box(round(b.x * across), round(b.y * down), max(1, round(b.width * across)), max(1, round(b.height * down))), group.worth)
        for group in groups[:MAX_GROUPS]
        if group.worth >= MIN_WORTH and (b := group.box)
    ]
    return Trace(picture, tuple(kept), standing, active, (height, width))


def verdicts(traces: Sequence[Trace | None]) -> list[Verdict]:
    """For each clip of a source, in order; clips without a trace, and those of a picture of another size, are left as they are."""
    found = [Verdict()] * len(traces)
    sizes: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for k, one in enumerate(traces):
        if one is not None:
            sizes[one.active, one.shape].append(k)
    for places in sizes.values():
        own = [one for k in places if (one := traces[k]) is not None]
        for k, verdict in zip(places, _of_one_size(own), strict=True):
            found[k] = verdict
    return found


def scenes(pictures: Sequence[np.ndarray]) -> list[int]:
    """For each mean picture, uint8 (H, W), the number of its scene, as they come; a clip is of the first scene that it is like."""
    height, width = pictures[0].shape
    size = EDGES_WIDTH, max(1, round(EDGES_WIDTH * height / width))
    thumbnails = np.stack([cv2.resize(picture, THUMBNAIL, interpolation=cv2.INTER_AREA).ravel() for picture in pictures])
    reduced = [_gradients(cv2.resize(picture, size, interpolation=cv2.INTER_AREA)) for picture in pictures]
    small = _correlations(thumbnails - thumbnails.mean(axis=1, keepdims=True))
    edges = _correlations(np.array(reduced).reshape(len(pictures), -1))
    alike = (small > SAME_THUMBNAIL) | ((small > LIKE_THUMBNAIL) & (edges > SAME_EDGES))
    found: list[int] = []
    heads: list[int] = []
    for k in range(len(pictures)):
        same = alike[k, heads]
        place = int(np.argmax(same)) if same.any() else len(heads)
        if place == len(heads):
            heads.append(k)
        found.append(place)
    return found


def common_edges(pictures: Sequence[np.ndarray]) -> Standing:
    """What two or more mean pictures of different scenes, uint8 (H, W), have in common."""
    n, gradients = len(pictures), np.stack([_gradients(picture) for picture in pictures])
    dx, dy = gradients.mean(axis=0)
    squares = (gradients**2).sum(axis=1).mean(axis=0)
    variance = np.maximum(squares - dx * dx - dy * dy, 0) * (n / (n - 1)) + NOISE_VARIANCE
    edges = np.maximum(magnitude(dx, dy) - (CONFIDENCE + FEW_SCENES / n) * np.sqrt(variance / n), 0)
    levels = np.stack([picture - np.float32(picture.mean()) for picture in pictures])
    moving = (cv2.blur(levels.std(axis=0), (5, 5)) > MOVING_LEVELS).view(np.uint8)
    return Standing(edges, dx, dy, np.sqrt(squares), levels.mean(axis=0), moving)


def _of_one_size(traces: Sequence[Trace]) -> list[Verdict]:
    scene_of = scenes([one.picture for one in traces])
    heads = [scene_of.index(k) for k in range(max(scene_of) + 1)]
    if len(heads) < AGAIN:
        return [Verdict()] * len(traces)
    marks, sheet, watermark = _again(traces, scene_of), None, 0.0
    if len(heads) >= MIN_SCENES:
        chosen = [heads[k] for k in np.linspace(0, len(heads) - 1, min(MAX_SCENES, len(heads))).round().astype(int)]
        common = common_edges([traces[k].picture for k in chosen])
        watermark = repetition(common)
        if watermark > 0:
            sheet = _of_edges(common, Box(0, 0, common.edges.shape[1], common.edges.shape[0]), watermark)
        groups = [group for group in find_logos(common, anywhere=True) if group.worth >= MIN_WORTH]
        marks = _merged([*(_of_edges(common, _trimmed(common, group.box), group.worth) for group in groups), *marks])
    marks = marks[:MAX_MARKS]
    shown = [[mark.is_shown(one) for one in traces] for mark in marks]
    found = []
    for k, one in enumerate(traces):
        best = next((m for m in range(len(marks)) if shown[m][k]), None)
        verdict = Verdict(watermark=watermark) if sheet is not None and sheet.likeness(one) >= SHOWN else Verdict()
        if best is not None:
            num_scenes = len({scene for scene, is_shown in zip(scene_of, shown[best], strict=True) if is_shown})
            box = one.displayed(marks[best].box)
            verdict = replace(verdict, logo_strength=marks[best].strength, logo_box=box, num_scenes=num_scenes)
        elif _belongs_to_its_scene(one, [traces[h] for h in heads[:MAX_SCENES] if scene_of[h] != scene_of[k]]):
            verdict = replace(verdict, logo_strength=0.0, num_scenes=1)
        found.append(verdict)
    return found


def _again(traces: Sequence[Trace], scene_of: Sequence[int]) -> list[_Mark]:
    """Groups that the clips of enough scenes have at one place, the strongest first."""
    seeds = [(worth, k, box) for k, one in enumerate(traces) for box, worth in one.groups]
    seeds.sort(key=lambda seed: (-seed[0], seed[1], seed[2].y, seed[2].x))
    enough = max(AGAIN, int(AGAIN_SHARE * len(set(scene_of))))
    boxes = np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for _, _, box in seeds], np.float32).reshape(-1, 4)
    is_free = np.ones(len(seeds), bool)
    found: list[_Mark] = []
    for n, (_, _, box) in enumerate(seeds):
        if not is_free[n]:
            continue
        here = np.flatnonzero(_overlaps(boxes[n], boxes) >= MIN_OVERLAP)
        by_scene: dict[int, tuple[float, int]] = {}
        for worth, k, _ in (seeds[i] for i in here.tolist()):
            by_scene.setdefault(scene_of[k], (worth, k))
        if len(by_scene) >= enough:
            is_free[here] = False
            worths = sorted((worth for worth, _ in by_scene.values()), reverse=True)
            own = np.mean([_gradients(traces[k].picture, box) for _, k in by_scene.values()], axis=0)
            found.append(_Mark(box, min(worths[0], AGAIN_WORTH * worths[enough - 1]), *_followed(own)))
    return sorted(found, key=lambda mark: -mark.strength)


def _merged(marks: Sequence[_Mark]) -> list[_Mark]:
    """The strongest of those at one place, strongest first."""
    kept: list[_Mark] = []
    for mark in sorted(marks, key=lambda mark: -mark.strength):
        if not any(_overlap(mark.box, other.box) >= MIN_OVERLAP for other in kept):
            kept.append(mark)
    return kept


def _belongs_to_its_scene(one: Trace, others: Sequence[Trace]) -> bool:
    """Whether the clip's best group lies before a fixed camera, and the other scenes do not show it."""
    if one.standing < FIXED_CAMERA or not one.groups or len(others) < MIN_SCENES:
        return False
    box = one.groups[0][0]
    mark = _Mark(box, 0.0, *_followed(_gradients(one.picture, box)))
    return float(np.mean([mark.likeness(other) < ABSENT for other in others])) >= 0.8


def _of_edges(common: Standing, box: Box, strength: float) -> _Mark:
    inside = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
    places = common.edges[inside] > 0
    return _Mark(box, strength, np.stack([common.dx[inside][places], common.dy[inside][places]]), places)


def _trimmed(common: Standing, box: Box) -> Box:
    """The part of a group's box that holds its stronger edges; weak ones beside a mark may agree by chance."""
    edges = common.edges[box.y : box.y + box.height, box.x : box.x + box.width]
    strong = edges >= FAINT * float(np.quantile(edges[edges > 0], 0.9))
    rows, columns = np.flatnonzero(strong.sum(axis=1) > 1), np.flatnonzero(strong.sum(axis=0) > 1)
    if not rows.size or not columns.size:
        return box
    x, y = int(columns[0]), int(rows[0])
    return Box(box.x + x, box.y + y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)


def _followed(gradients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The stronger half of gradients (2, h, w) as (2, points), and where they are."""
    size = magnitude(gradients[0], gradients[1])
    places = size >= np.median(size)
    return gradients[:, places], places


def _gradients(picture: np.ndarray, box: Box | None = None) -> np.ndarray:
    """float32 (2, h, w) of a picture or of a box in it, cut at `EDGE_LEVELS`; the neighbours of the box count."""
    x, y = (box.x, box.y) if box else (0, 0)
    height, width = (box.height, box.width) if box else picture.shape
    left, top = min(1, x), min(1, y)
    part = picture[y - top : y + height + 1, x - left : x + width + 1]
    both = np.stack([cv2.Sobel(part, cv2.CV_32F, *axis, ksize=1, scale=0.5) for axis in ((1, 0), (0, 1))])
    both = both[:, top : top + height, left : left + width]
    cut: np.ndarray = both * np.minimum(1.0, EDGE_LEVELS / np.maximum(magnitude(both[0], both[1]), 1e-3))
    return cut


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    across = max(0, min(a.x + a.width, b.x + b.width) - max(a.x, b.x))
    common = across * max(0, min(a.y + a.height, b.y + b.height) - max(a.y, b.y))
    return common / (a.width * a.height + b.width * b.height - common)


def _overlaps(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """As `_overlap`, of (4,) with (N, 4): left, top, right, bottom."""
    low, high = np.maximum(one[:2], others[:, :2]), np.minimum(one[2:], others[:, 2:])
    common = np.prod(np.maximum(0, high - low), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    shares: np.ndarray = common / (np.prod(one[2:] - one[:2]) + areas - common)
    return shares


def _correlations(rows: np.ndarray) -> np.ndarray:
    """float64 (N, N); of whole numbers, whose sums are exact in any order, and so on any number of threads."""
    unit = np.rint(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6) * WHOLE).astype(np.float64)
    found: np.ndarray = unit @ unit.T / WHOLE**2
    return found
