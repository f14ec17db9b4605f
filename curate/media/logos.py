"""Static logos and marks: small groups of standing edges (`curate.media.standing`) over a picture that moves, or sharper than a scene.

Edges are grouped at several heights, since a faint mark may lie among weaker edges that stand still, too. What makes a group a logo is
what nearly every logo has and a thing in the scene rarely: it is small, its edges run in all directions, little of its kind stands beside
it, and it lies near a corner. `worth` is its mean standing gradient, in levels per pixel, reduced for what is wanting of these.

Where the camera moves that is enough, since nothing else stands still. Before a fixed camera the whole scene stands. What lettering and
drawing have and optics rarely do is left to tell by: strokes so thin that the second derivative is large for the first (`sharpness`, at
most 1.4 for the strongest groups of real scenes, 1.2 to 3 for logos), and a place within the usual margin. Such a group is worth
`FIXED_WORTH` of what it were before a moving camera; a faint, soft or textured logo is missed there.

A group that is blurred is no mark wherever the camera is: the frame of a car's window, what is near and out of focus. That halves the false
ones of the tuning half at the same recall (3 of 987 cases instead of 6, 63 of 78 logos).

Small lettering is cut to two or three rows of pixels, of which only the upper and lower edges are left: a sharpness that no lens gives
(above 3.5), or being most of what stands in the picture, then speaks for it in place of edges in all directions.

The same is looked for in colour (`find_colour_logos`), in small RGB samples: a coloured mark over a grey or a differently coloured scene
stands there alone, also before a fixed camera, and where luma hardly differs. Only near a corner, since many scenes hold one thing of a
bright colour. A mark of one colour on a scene full of it is missed.

Numbers were chosen on the tuning half of benchmarks/flags (120 logos, 1521 cases without).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from curate.clip import Box
from curate.media.standing import SceneStands, Standing, Sums

HEIGHTS = (2.0, 4.0, 8.0, 14.0, 22.0, 32.0, 45.0)  # levels per pixel
UNIT_SIDE = 180  # px of the short side that lengths below speak of
REACH_X, REACH_Y = 4, 3  # gaps that are closed between letters and between lines
NEAR, FAR, ALONG = 2, 8, 40  # the ring lies between the first two distances from the box, strips beside it reach out to the third
MIN_EDGES, ALL_EDGES = 14, 40  # points, per `UNIT_SIDE`
MIN_WIDTH, MAX_WIDTH, MAX_HEIGHT = 0.025, 0.45, 0.4  # of the picture's side
MAX_FIXED_AREA = 0.04  # of the picture, before a fixed camera
UNEVEN, EVEN = 0.1, 0.5  # evenness: lines of one direction, edges in all directions
COMPANY = 0.25  # company that spoils a group
MOVING_CAMERA, FIXED_CAMERA = 0.1, 0.25  # share of the scene that stands, over the grid and the pairs
MIN_MOVING, QUIET_WORTH = 0.5, 0.5  # of the ring; before a moving camera a clear sky or a blurred wall may seem to stand
CORNER = 0.25  # a group's middle lies this near a corner (of the side)
INNER_WORTH, FEW, MOST = 0.25, 0.04, 0.25  # of a group elsewhere, if it is most of what stands in the picture
MAX_MARGIN_X, MAX_MARGIN_Y = 0.1, 0.16  # of the side
SOFT, SHARP, SOFT_WORTH = 1.4, 1.8, 0.5
FIXED_WORTH = 0.16
RESTING_WORTH = 0.5  # before a fixed camera, where nothing moves on one side of the group
LENS, DRAWN, FEW_EDGES = 3.5, 4.5, 25  # sharpness; points that are enough for strokes sharper than a lens makes them
ALONE, ALL_ALONE, ALONE_WORTH = 0.3, 0.6, 0.8  # dominance that stands in for evenness, if it is not quite one of parallel lines
BLURRED, CLEAR = 0.8, 1.2  # sharpness: what a lens left out of focus, what may be drawn
SAME_WORTH = 0.4
NO_INNER = 0.16  # standing share of the whole scene from which only groups near a corner are looked at

COLOUR_HEIGHTS = (1.5, 3.0, 6.0, 12.0, 24.0)
COLOUR_WORTH = 0.8  # brings the strength of colour to the threshold of luma
COLOUR_MOVING_CAMERA, COLOUR_FIXED_CAMERA = 0.06, 0.16  # what follows is for colour what its namesake is for luma
COLOUR_UNEVEN, COLOUR_EVEN, COLOUR_ALONE, COLOUR_ALL_ALONE = 0.05, 0.4, 0.5, 0.8
COLOUR_QUIET = 0.45
COLOUR_FIXED, COLOUR_FIXED_AREA, COLOUR_RESTING = 0.25, 0.011, 0.02
COLOUR_SOFT, COLOUR_SHARP, COLOUR_SOFT_WORTH = 1.0, 1.6, 0.6


@dataclass(frozen=True, slots=True)
class Group:
    """One group of standing edges; shares are of 1.

    num_edges  points, divided by how many times `UNIT_SIDE` the short side is
    strength   mean of its standing edges, levels per pixel
    evenness   smaller by larger eigenvalue of its gradients' covariance: 0 for parallel lines, 1 for all directions alike
    sharpness  mean |Laplacian| of the mean picture at its edges, by `strength`
    moving     share of the ring that moves, on its quietest side of four
    company    edges as high as its own per pixel of the ring, by those per pixel of the group
    standing   share of the scene outside that stands
    dominance  share of all standing edges, by their height, that are its own
    area       of its box, share of the picture's
    place      distance of its middle from the nearest corner, the larger of the two in shares of the side
    has_margin whether it lies as near to the rim as logos do
    is_colour  whether it stands in colour, in small samples, rather than in luma
    """

    box: Box
    num_edges: float
    strength: float
    evenness: float
    sharpness: float
    moving: float
    company: float
    standing: float
    dominance: float
    area: float
    place: float
    has_margin: bool
    is_colour: bool = False

    @property
    def worth(self) -> float:
        """Levels per pixel."""
        shape, moving, fixed = self._colour() if self.is_colour else self._luma()
        cameras = (COLOUR_MOVING_CAMERA, COLOUR_FIXED_CAMERA) if self.is_colour else (MOVING_CAMERA, FIXED_CAMERA)
        share = _ramp(self.standing, *cameras)
        return self.strength * shape * max(0.0, 1.0 - self.company / COMPANY) * (share * fixed + (1.0 - share) * moving)

    @property
    def is_placed(self) -> bool:
        return self.place <= CORNER and self.has_margin

    def _luma(self) -> tuple[float, float, float]:
        """What its shape is worth, and its place before a moving and before a fixed camera."""
        alone = ALONE_WORTH * _ramp(self.dominance, ALONE, ALL_ALONE) * _ramp(self.evenness, 0.03, 0.1)
        drawn = _ramp(self.sharpness, LENS, DRAWN) * _ramp(self.evenness, 0.0, 0.1)
        enough = FEW_EDGES if self.sharpness > LENS else ALL_EDGES
        shape = max(_ramp(self.evenness, UNEVEN, EVEN), drawn, alone) * min(1.0, self.num_edges / enough)
        shape *= _ramp(self.sharpness, BLURRED, CLEAR)
        ring = 1.0 if self.moving >= MIN_MOVING else QUIET_WORTH
        moving = ring if self.is_placed else ring * INNER_WORTH * _ramp(self.dominance, FEW, MOST)
        fixed = FIXED_WORTH * max(SOFT_WORTH, _ramp(self.sharpness, SOFT, SHARP)) * (RESTING_WORTH if self.moving <= 0 else 1.0)
        return shape, moving, fixed if self.is_placed and self.area <= MAX_FIXED_AREA else 0.0

    def _colour(self) -> tuple[float, float, float]:
        alone = ALONE_WORTH * _ramp(self.dominance, COLOUR_ALONE, COLOUR_ALL_ALONE) * _ramp(self.evenness, 0.03, 0.1)
        shape = max(_ramp(self.evenness, COLOUR_UNEVEN, COLOUR_EVEN), alone) * min(1.0, self.num_edges / ALL_EDGES)
        # Nothing is worth anything elsewhere: scenes hold one thing of a bright colour often enough.
        moving = (1.0 if self.moving >= MIN_MOVING else COLOUR_QUIET) if self.is_placed else 0.0
        soft = max(COLOUR_SOFT_WORTH, _ramp(self.sharpness, COLOUR_SOFT, COLOUR_SHARP))
        fixed = COLOUR_FIXED * soft * (RESTING_WORTH if self.moving <= COLOUR_RESTING else 1.0)
        return COLOUR_WORTH * shape, moving, fixed if self.is_placed and self.area <= COLOUR_FIXED_AREA else 0.0


def find_logos(still: Standing, others: Sequence[Box] = (), anywhere: bool = False) -> list[Group]:
    """Groups by worth, the best first, none over another, none that mostly lies in one of `others` (overlays of another kind).

    With `anywhere` a group away from the corners is worth as much as one near them.
    """
    groups = _groups(still, HEIGHTS)
    return best_groups((replace(group, place=0.0, has_margin=True) for group in groups) if anywhere else groups, others)


def find_colour_logos(colours: Sequence[Standing], shape: Sequence[int]) -> list[Group]:
    """Groups in colour (`curate.media.standing.standing_colours`), in no order; boxes in pixels of samples of `shape` (H, W)."""
    found = []
    for colour in colours:
        down, across = shape[0] / colour.edges.shape[0], shape[1] / colour.edges.shape[1]
        for group in _groups(colour, COLOUR_HEIGHTS):
            x, y = round(group.box.x * across), round(group.box.y * down)
            x1, y1 = round((group.box.x + group.box.width) * across), round((group.box.y + group.box.height) * down)
            found.append(replace(group, box=Box(x, y, x1 - x, y1 - y), is_colour=True))
    return found


def best_groups(groups: Iterable[Group], others: Sequence[Box] = ()) -> list[Group]:
    """As `find_logos` promises.

    The strongest edges of a logo are worth most, but do not span it: its box holds all groups there of `SAME_WORTH` of the best or more.
    """
    chosen: list[Group] = []
    for group in sorted(groups, key=lambda g: (-g.worth, g.box.y, g.box.x, g.box.width)):
        if group.worth <= 0 or any(_covers(box, group.box) for box in others):
            continue
        place = next((k for k, better in enumerate(chosen) if _covers(better.box, group.box)), None)
        if place is None:
            chosen.append(group)
        elif group.worth >= SAME_WORTH * chosen[place].worth:
            chosen[place] = replace(chosen[place], box=around(chosen[place].box, group.box))
    return chosen


def _groups(still: Standing, heights: Sequence[float]) -> Iterator[Group]:
    """Groups that are small enough for a logo and do not touch the picture's rim."""
    height, width = still.edges.shape
    unit = min(height, width) / UNIT_SIDE
    down, across = round(REACH_Y * unit), round(REACH_X * unit)
    kernel = np.ones((2 * down + 1, 2 * across + 1), np.uint8)
    measure = _Measure(still, unit)
    for level in heights:
        mask = (still.edges > level).view(np.uint8)
        if cv2.countNonZero(mask) < MIN_EDGES * unit:
            break
        # With a margin, or closing would join what lies near the rim to the rim.
        closed = cv2.morphologyEx(cv2.copyMakeBorder(mask, down, down, across, across, cv2.BORDER_CONSTANT), cv2.MORPH_CLOSE, kernel)
        _, _, stats, _ = cv2.connectedComponentsWithStats(closed)
        x, y, w, h, area = (stats[1:] - [across, down, 0, 0, 0]).T
        fits = (area >= MIN_EDGES * unit) & (w >= MIN_WIDTH * width) & (w <= MAX_WIDTH * width) & (h <= MAX_HEIGHT * height)
        fits &= (x > 0) & (y > 0) & (x + w < width) & (y + h < height)
        counts = Sums(mask)
        for place in np.flatnonzero(fits):
            group = measure.group(mask, counts, Box(int(x[place]), int(y[place]), int(w[place]), int(h[place])))
            if group is not None:
                yield group


class _Measure:
    def __init__(self, still: Standing, unit: float) -> None:
        self._still, self._unit = still, unit
        self._moving, self._scene = Sums(still.moving), SceneStands(still)
        self.is_fixed = still.scene_share > NO_INNER
        self._all_edges = max(1.0, float(still.edges.sum()))
        self._laplacian = np.abs(cv2.Laplacian(still.level, cv2.CV_32F))

    def group(self, mask: np.ndarray, counts: Sums, box: Box) -> Group | None:
        height, width = mask.shape
        x0, y0, x1, y1 = box.x, box.y, box.x + box.width, box.y + box.height
        place = max(_from_rim((x0 + x1) / 2, width), _from_rim((y0 + y1) / 2, height))
        if counts.over(x0, y0, x1, y1) < MIN_EDGES * self._unit or (self.is_fixed and place > CORNER):
            return None
        inside = np.s_[y0:y1, x0:x1]
        chosen = mask[inside] > 0
        still = self._still
        edges, dx, dy, second = (values[inside][chosen] for values in (still.edges, still.dx, still.dy, self._laplacian))
        xx, yy, xy = float(dx @ dx), float(dy @ dy), float(dx @ dy)
        half, apart = (xx + yy) / 2, float(np.hypot((xx - yy) / 2, xy))
        near, far = max(1, round(NEAR * self._unit)), round(FAR * self._unit)
        inner, outer = (x0 - near, y0 - near, x1 + near, y1 + near), (x0 - far, y0 - far, x1 + far, y1 + far)
        strength = float(edges.mean())
        return Group(
            box,
            len(edges) / self._unit,
            strength,
            (half - apart) / (half + apart),
            float(second.mean()) / strength,
            self._least_moving(inner, outer, 2 * far),
            self._beside(counts, inner, outer) / counts.share(x0, y0, x1, y1),
            self._scene.outside(box, near),
            float(still.edges[inside].sum()) / self._all_edges,
            box.width * box.height / (width * height),
            place,
            min(x0, width - x1) <= MAX_MARGIN_X * width and min(y0, height - y1) <= MAX_MARGIN_Y * height,
        )

    def _beside(self, counts: Sums, inner: tuple[int, int, int, int], outer: tuple[int, int, int, int]) -> float:
        """Edges per pixel of the ring, or of the strips beside or above and below the box: a part of something long is no logo."""
        (x0, y0, x1, y1), reach = inner, round(ALONG * self._unit)
        wider = (outer, (x0 - reach, y0, x1 + reach, y1), (x0, y0 - reach, x1, y1 + reach))
        within, area = counts.over(*inner), counts.area(*inner)
        return max((counts.over(*place) - within) / max(1, counts.area(*place) - area) for place in wider)

    def _least_moving(self, inner: tuple[int, int, int, int], outer: tuple[int, int, int, int], least_area: int) -> float:
        """On the quietest side of the ring that is not cut off by the picture's rim."""
        (x0, y0, x1, y1), (ox0, oy0, ox1, oy1) = inner, outer
        sides = ((ox0, oy0, x0, oy1), (x1, oy0, ox1, oy1), (ox0, oy0, ox1, y0), (ox0, y1, ox1, oy1))
        return min((self._moving.share(*side) for side in sides if self._moving.area(*side) >= least_area), default=0.0)


def _ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _from_rim(middle: float, side: int) -> float:
    return min(middle, side - middle) / side


def around(a: Box, b: Box) -> Box:
    """The smallest box that holds both."""
    x, y = min(a.x, b.x), min(a.y, b.y)
    return Box(x, y, max(a.x + a.width, b.x + b.width) - x, max(a.y + a.height, b.y + b.height) - y)


def _covers(outer: Box, inner: Box) -> bool:
    """Whether most of `inner` lies in `outer`, or the other way round."""
    across = min(outer.x + outer.width, inner.x + inner.width) - max(outer.x, inner.x)
    down = min(outer.y + outer.height, inner.y + inner.height) - max(outer.y, inner.y)
    return 2 * max(0, across) * max(0, down) > min(inner.width * inner.height, outer.width * outer.height)
