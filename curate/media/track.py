"""What every decoded frame says at almost no cost: its time, its luma statistics, and whether it repeats the frame before it.

A frame arrives as a lattice of single luma points (about 160 x 90 of them; see `Picture.lattice`): points, not averages, so
that a small thing that moves changes some of them by a lot. With e the mean squared difference to the frame before, in
squared 8-bit levels, a frame is a duplicate when

    e < 0.5, no point by more than 40    a change that no eye and no flow field sees, or
    e < min(1.2 * sqrt(E), E / 4, 20)    a change small beside E, the usual change between the source's own pictures.

E is the second largest e of the last four frames that were not duplicates. The second line is what a codec needs: it refines a
repeated picture, or blends it with the next one, by an amount that grows with the motion around it (rms 0.2 to 4 levels at CRF 18
to 35). E is forgotten after eight duplicates by the second line alone, for then the motion has slowed down, and at a cut, after which it
takes two changes to know it again: one alone may be the end of a flash.

On 33 real clips shown each twice, 3:2 or on twos through x264, MPEG-4 and VP9 (26,220 repeats that stayed repeats) recall was 0.95 and
precision 0.98; CRF 28 and 35 with a fast preset are the hard cases (0.91 and 0.70), the others lie at 0.96 and more.
"""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from curate.clip import Span
from curate.samples import THUMB_SIZE, Track

STILL_ENERGY = 0.5  # squared 8-bit levels
STILL_PEAK = 40  # levels; a cursor that blinks changes one point by more, a codec 1 in 100 repeated pictures
NOISE_FACTOR = 1.2  # levels
NOISE_SHARE = 0.25
MAX_NOISE = 20.0  # squared levels: flashes raise the usual change a hundredfold, and no codec's noise
NUM_REFERENCES = 4
MAX_QUIET_FRAMES = 8
CUT_ENERGY = 1000.0  # squared 8-bit levels; and four times the largest of the references
CUT_RATIO = 4.0


@dataclass(slots=True, eq=False)
class _Frame:
    time_ns: int
    end_ns: int | None
    lattice: np.ndarray
    is_interlaced: bool
    is_duplicate: bool


class FrameTrack:
    """Takes every frame of one source in order; keeps those that have not been forgotten, and one before them."""

    def __init__(self) -> None:
        self._frames: deque[_Frame] = deque()
        self._passed_ns: deque[int] = deque()
        self._references: deque[float] = deque(maxlen=NUM_REFERENCES)
        self._num_quiet = 0
        self._num_needed = 1

    def push(self, time_ns: int, lattice: np.ndarray, is_interlaced: bool) -> bool:
        """Takes uint8 (h, w) points of full-range luma, h and w the same for the whole source; True when the frame is a duplicate.

        The frame that follows a change of size is never a duplicate.
        """
        last = self._frames[-1] if self._frames else None
        if last is not None and time_ns <= last.time_ns:
            raise ValueError(f"frame time_ns={time_ns} does not follow the frame at {last.time_ns}: frames come in presentation order")
        is_duplicate = False
        if last is not None:
            last.end_ns = time_ns if last.end_ns is None else min(last.end_ns, time_ns)
            if last.lattice.shape == lattice.shape:
                energy = cv2.norm(last.lattice, lattice, cv2.NORM_L2SQR) / lattice.size
                is_duplicate = self._decide(energy, last.lattice, lattice)
            else:
                self._references.clear()
                self._num_quiet = 0
        self._frames.append(_Frame(time_ns, None, lattice, is_interlaced, is_duplicate))
        return is_duplicate

    def pass_over(self, time_ns: int) -> None:
        """States that a frame was shown then, of which nothing is known: `push` failed on it. It is in `times`, and in no `cut`."""
        if self._frames:
            last = self._frames[-1]
            if last.time_ns >= time_ns:
                return
            last.end_ns = time_ns if last.end_ns is None else min(last.end_ns, time_ns)
        self._passed_ns.append(time_ns)

    def times(self, span: Span) -> tuple[np.ndarray, np.ndarray]:
        """Times int64[N] of all frames in the span, and bool[N]: they show the picture of the frame before."""
        seen = [(frame.time_ns, frame.is_duplicate) for frame in self._frames if frame.time_ns in span]
        found = sorted([*seen, *((time_ns, False) for time_ns in self._passed_ns if time_ns in span)])
        return np.array([time_ns for time_ns, _ in found], np.int64), np.array([is_duplicate for _, is_duplicate in found], bool)

    def finish(self, end_ns: int) -> None:
        """States when the last frame so far ends: at the end of the source, or where it breaks off."""
        if self._frames:
            self._frames[-1].end_ns = max(end_ns, self._frames[-1].time_ns + 1)

    def cut(self, span: Span, rows: slice, cols: slice) -> Track:
        """The frames whose times lie in the span, their luma read inside `rows` and `cols` of the lattice.

        The last frame ends with the span at the latest. `change` and `energy` are NaN where there is no frame before of the same size.
        """
        frames = [frame for frame in self._frames if frame.time_ns in span]
        before = next((frame for frame in reversed(self._frames) if frame.time_ns < span.start_ns), None)
        earlier: list[tuple[tuple[int, ...], np.ndarray]] = []  # size of the lattice, and its points inside the crop
        if before is not None:
            earlier.append((before.lattice.shape, _crop(before.lattice, rows, cols)))
        change, energy, energy2, mean, std = (np.full(len(frames), np.nan, np.float32) for _ in range(5))
        thumbs = np.zeros((len(frames), *THUMB_SIZE), np.uint8)
        for i, frame in enumerate(frames):
            size, points = frame.lattice.shape, _crop(frame.lattice, rows, cols)
            mean[i], std[i] = (float(value[0, 0]) for value in cv2.meanStdDev(points))
            if earlier and earlier[-1][0] == size:
                change[i] = cv2.norm(earlier[-1][1], points, cv2.NORM_L1) / points.size
                energy[i] = cv2.norm(earlier[-1][1], points, cv2.NORM_L2SQR) / points.size
            if i > 1 and earlier[-2][0] == size:
                energy2[i] = cv2.norm(earlier[-2][1], points, cv2.NORM_L2SQR) / points.size
            thumbs[i] = _thumb(points)
            earlier = [*earlier[-1:], (size, points)]
        end_ns = span.end_ns
        if frames and frames[-1].end_ns is not None:
            end_ns = min(frames[-1].end_ns, end_ns)
        return Track(
            times_ns=np.array([frame.time_ns for frame in frames], np.int64),
            end_ns=end_ns,
            change=change,
            is_duplicate=np.array([frame.is_duplicate for frame in frames], bool),
            luma_mean=mean,
            luma_std=std,
            is_interlaced=np.array([frame.is_interlaced for frame in frames], bool),
            energy=energy,
            energy2=energy2,
            thumbs=thumbs,
        )

    def forget_before(self, time_ns: int) -> None:
        """Drops frames before the time, but for the last of them, which the next clip's first frame is compared with."""
        while len(self._frames) > 1 and self._frames[1].time_ns < time_ns:
            self._frames.popleft()
        while self._passed_ns and self._passed_ns[0] < time_ns:
            self._passed_ns.popleft()

    def _decide(self, energy: float, before: np.ndarray, lattice: np.ndarray) -> bool:
        is_still = energy < STILL_ENERGY and cv2.norm(before, lattice, cv2.NORM_INF) <= STILL_PEAK
        is_noise = not is_still and energy < self._noise_limit()
        self._num_quiet = self._num_quiet + 1 if is_noise else 0
        if self._num_quiet > MAX_QUIET_FRAMES:
            self._references.clear()
            self._num_quiet = 0
            is_noise = False
        if is_still or is_noise:
            return True
        if self._references and energy > max(CUT_ENERGY, CUT_RATIO * max(self._references)):
            self._references.clear()
            self._num_needed = 2  # the next one alone may be the end of a flash
        else:
            self._references.append(energy)
        return False

    def _noise_limit(self) -> float:
        """Squared levels that a codec may add to a repeated picture, judged by what the source's own pictures change."""
        if len(self._references) < self._num_needed:
            return 0.0
        usual = sorted(self._references)[-2:][0]
        return min(NOISE_FACTOR * usual**0.5, NOISE_SHARE * usual, MAX_NOISE)


def _crop(lattice: np.ndarray, rows: slice, cols: slice) -> np.ndarray:
    # A source that changes its size may leave nothing of a frame inside a crop that was made for the other size.
    points = lattice[rows, cols]
    return points if points.size else lattice


def _thumb(points: np.ndarray) -> np.ndarray:
    """uint8 `THUMB_SIZE`: by a whole number of points to a cell where there are enough, for that is three times as fast."""
    rows, cols = THUMB_SIZE
    height, width = (side // cells * cells or side for side, cells in zip(points.shape, THUMB_SIZE, strict=True))
    inner = points[:height, :width]
    shrinks = height >= rows and width >= cols
    return cv2.resize(inner, (cols, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
