"""How well and how fast shots are found: the cascade, each part of it, TransNetV2, and PySceneDetect's detectors at their defaults.

    python benchmarks/shots.py --videos DIR [--films 16] [--seed 0] [--only NAME ...]

DIR holds videos and CUTS.json ({"file": {"hard": [first frame of each new shot], "gradual": [a frame inside each]}}). Two tables: its films
as they are, and seeded films composed from those of its files that have no cut (half cuts; dissolves of 0.2 to 2 s; fades through
black and white with and without a hold; 12 to 60 frames/s, one in five of uneven rate), blended on the tiny frames that detectors see.
A transition is found if one is reported that overlaps it, give or take a frame; `left` is the share of the frames of gradual transitions
that no reported span covers. ms is CPU time a frame on one thread, without decoding. The files with no cut count in the first table:
what is reported in them is a false alarm.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np

from curate.shots import ShotDetector
from curate.shots.params import DetectorPass, Shots, open_detector

TINY, TINIER = (64, 36), (48, 27)
Truth = list[tuple[int, int, str]]


@dataclass
class Footage:
    """Frames at both sizes, uint8 (N, H, W, 3) BGR, with times; `truth` holds (first mixed frame, first clean frame, kind)."""

    name: str
    times_ns: np.ndarray
    frames: dict[tuple[int, int], np.ndarray]
    truth: Truth


@dataclass
class Tally:
    """What was found, missed and reported falsely, by kind."""

    counts: dict[str, list[int]] = field(default_factory=lambda: {"hard": [0, 0, 0], "gradual": [0, 0, 0]})
    num_frames: int = 0
    num_gradual_frames: int = 0
    num_left: int = 0
    cpu_s: float = 0.0

    def add(self, truth: Truth, found: Truth) -> None:
        used = set()
        for first, clean, kind in truth:
            near = [n for n, (start, end, _) in enumerate(found) if start <= clean + 1 and end >= first - 1]
            # A cut explains one cut, a span may cover several transitions.
            near = [n for n in near if n not in used or found[n][1] > found[n][0]]
            used.update(near)
            self.counts["hard" if kind == "cut" else "gradual"][0 if near else 1] += 1
            if clean - first > 1:
                self.num_gradual_frames += clean - first
                covered = {frame for n in near for frame in range(*found[n][:2])}
                self.num_left += len(set(range(first, clean)) - covered)
        for n, (start, end, _) in enumerate(found):
            if n not in used:
                self.counts["hard" if start == end else "gradual"][2] += 1

    def row(self) -> list[str]:
        both = [sum(pair) for pair in zip(*self.counts.values(), strict=True)]
        cells = []
        for hit, missed, false in (both, self.counts["hard"], self.counts["gradual"]):
            precision, recall = hit / max(hit + false, 1), hit / max(hit + missed, 1)
            cells += [f"{precision:.3f}", f"{recall:.3f}", f"{2 * hit / max(2 * hit + missed + false, 1):.3f}"]
        left = f"{self.num_left / max(self.num_gradual_frames, 1):.3f}"
        return [*cells, left, f"{1000 * self.cpu_s / max(self.num_frames, 1):.2f}"]


class Stock:
    """A PySceneDetect detector as its users run it: every frame, defaults, its own minimum scene length."""

    size = TINY
    settled_ns = 0

    def __init__(self, name: str) -> None:
        from scenedetect import detectors

        self._detector = getattr(detectors, name)()
        self._times_ns: list[int] = []

    def push(self, time_ns: int, tiny_bgr: np.ndarray) -> list:
        from scenedetect import FrameTimecode

        self._times_ns.append(time_ns)
        return self._named(self._detector.process_frame(FrameTimecode(len(self._times_ns) - 1, fps=25.0), tiny_bgr))

    def finish(self, end_ns: int) -> list:  # noqa: ARG002 (the detectors' contract)
        from scenedetect import FrameTimecode

        return self._named(self._detector.post_process(FrameTimecode(len(self._times_ns) - 1, fps=25.0)))

    def _named(self, cuts: list) -> list:
        from curate.shots import Transition

        return [Transition(self._times_ns[cut.frame_num], self._times_ns[cut.frame_num], "cut") for cut in cuts]


def contestants() -> dict[str, Callable[[], ShotDetector]]:
    full, middle, slow = Shots().passes
    content = DetectorPass(detector="content", fps=None, threshold=27.0)

    def cascade(*passes: DetectorPass) -> Callable[[], ShotDetector]:
        return lambda: open_detector(Shots(passes=passes))

    return {
        "cascade": lambda: open_detector(Shots()),
        "cascade, full rate alone": cascade(full),
        "cascade, without 4 fps": cascade(full, slow),
        "cascade, without 2 fps": cascade(full, middle),
        "cascade, content at full rate": cascade(content, middle, slow),
        "PySceneDetect ContentDetector": lambda: Stock("ContentDetector"),
        "PySceneDetect AdaptiveDetector": lambda: Stock("AdaptiveDetector"),
        "transnetv2": lambda: open_detector(Shots(detector="transnetv2")),
    }


def read(path: Path, truth: Truth) -> Footage:
    times_ns: list[int] = []
    frames: dict[tuple[int, int], list[np.ndarray]] = {TINY: [], TINIER: []}
    with av.open(f"file:{path}") as container:
        for frame in container.decode(video=0):
            times_ns.append(round(frame.time * 1e9))
            planes = [
                np.frombuffer(memoryview(p), np.uint8).reshape(p.height, p.line_size)[:, : p.width]
                for p in frame.reformat(format="yuv420p").planes
            ]
            for size, taken in frames.items():
                luma, blue, red = (cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR).astype(np.float32) for plane in planes)
                y, u, v = (luma - 16.0) * (255 / 219), (blue - 128.0) * (255 / 224), (red - 128.0) * (255 / 224)
                bgr = np.stack([y + 1.772 * u, y - 0.344 * u - 0.714 * v, y + 1.402 * v], axis=-1)
                taken.append(np.clip(bgr + 0.5, 0, 255).astype(np.uint8))
    return Footage(path.name, np.asarray(times_ns, np.int64), {size: np.stack(taken) for size, taken in frames.items()}, truth)


def library(folder: Path) -> list[Footage]:
    cuts = json.loads((folder / "CUTS.json").read_text())
    found = []
    for name, marked in sorted(cuts.items()):
        if not name.startswith("_"):
            hard = [(at, at, "cut") for at in marked["hard"]]
            found.append(read(folder / name, sorted(hard + [(at, at + 1, "gradual") for at in marked["gradual"]])))
    return found


def composed(singles: list[Footage], seed: int) -> Footage:
    """A film of nine shots whose transitions are known."""
    random = np.random.default_rng(seed)
    fps = float(random.choice([12, 24, 25, 30, 30, 60]))
    is_uneven = random.random() < 0.2
    out: dict[tuple[int, int], list[np.ndarray]] = {TINY: [], TINIER: []}
    truth: Truth = []
    last = None
    for number in range(9):
        shot, last = _shot(random, singles, last, round(random.uniform(1.2, 6.0) * fps), fps)
        kind = str(random.choice(["cut", "dissolve", "black", "white"], p=[0.5, 0.3, 0.15, 0.05])) if number else "first"
        longest = min(len(shot[TINY]), len(out[TINY][-1]) if out[TINY] else 0) * 2 // 5
        ramp = min(round(random.uniform(0.2, 2.0 if kind == "dissolve" else 1.5) * fps), longest)
        hold = round(random.uniform(0.0, 1.0) * fps) if random.random() < 0.6 else 0
        begun = sum(map(len, out[TINY]))
        for size, parts in out.items():
            _join(parts, shot[size].astype(np.float32), kind, ramp, hold)
        end = sum(map(len, out[TINY])) - len(out[TINY][-1])
        if kind in ("black", "white"):
            truth.append((begun - ramp, end, "fade"))
        elif number:
            truth.append((begun - (ramp if kind == "dissolve" else 0), end, kind))
    count = sum(map(len, out[TINY]))
    steps = random.choice([1, 1, 1, 2, 3], count) if is_uneven else np.ones(count)
    times_ns = np.round(np.concatenate([[0.0], np.cumsum(steps[:-1])]) * 1e9 / fps).astype(np.int64)
    frames = {size: np.clip(np.concatenate(parts) + 0.5, 0, 255).astype(np.uint8) for size, parts in out.items()}
    return Footage(f"film {seed}", times_ns, frames, truth)


def _shot(
    random: np.random.Generator, singles: list[Footage], last: str | None, count: int, fps: float
) -> tuple[dict[tuple[int, int], np.ndarray], str]:
    """A piece of a single shot at the film's frame rate, mirrored or not, from another file than the one before."""
    while True:
        source = singles[random.integers(len(singles))]
        length_s = (source.times_ns[-1] - source.times_ns[0]) / 1e9
        if source.name != last and length_s > count / fps + 0.1:
            break
        count = round(count * 0.95)
    at_ns = source.times_ns[0] + (random.uniform(0, length_s - count / fps) + np.arange(count) / fps) * 1e9
    picked = np.searchsorted(source.times_ns, at_ns, side="right") - 1
    mirror = -1 if random.random() < 0.5 else 1
    return {size: frames[picked][:, :, ::mirror] for size, frames in source.frames.items()}, source.name


def _join(parts: list[np.ndarray], shot: np.ndarray, kind: str, ramp: int, hold: int) -> None:
    """Appends a shot; the last part of `parts` is always the clean rest of the newest shot."""
    if kind in ("first", "cut"):
        parts.append(shot)
        return
    share = (np.arange(1, ramp + 1, dtype=np.float32) / (ramp + 1))[:, None, None, None]
    tail = parts[-1][len(parts[-1]) - ramp :]
    parts[-1] = parts[-1][: len(parts[-1]) - ramp]
    if kind == "dissolve":
        parts += [(1 - share) * tail + share * shot[:ramp], shot[ramp:]]
        return
    level = 0.0 if kind == "black" else 255.0
    flat = np.full((hold + 1, *shot.shape[1:]), level, np.float32)
    parts += [(1 - share) * tail + share * level, flat, share * shot[:ramp] + (1 - share) * level, shot[ramp:]]


def judged(opened: Callable[[], ShotDetector], footage: list[Footage]) -> Tally:
    tally = Tally()
    opened()
    for film in footage:
        detector = opened()
        frames = film.frames[detector.size]
        begun_s = time.process_time()
        found = [one for at, frame in zip(film.times_ns.tolist(), frames, strict=True) for one in detector.push(at, frame)]
        found += detector.finish(int(film.times_ns[-1]) + 40_000_000)
        tally.cpu_s += time.process_time() - begun_s
        tally.num_frames += len(frames)
        places: Truth = [
            (int(np.searchsorted(film.times_ns, t.start_ns)), int(np.searchsorted(film.times_ns, t.end_ns)), t.kind) for t in found
        ]
        tally.add(film.truth, places)
    return tally


def tables(videos: Path, num_films: int, seed: int, only: list[str]) -> Iterator[str]:
    films = library(videos)
    singles = [film for film in films if not film.truth]
    sets = {
        f"{videos.name}: {len(films)} files as they are": films,
        f"{num_films} composed films": [composed(singles, seed + n) for n in range(num_films)],
    }
    for title, footage in sets.items():
        num_hard = sum(kind == "cut" for film in footage for *_, kind in film.truth)
        num_gradual = sum(len(film.truth) for film in footage) - num_hard
        yield f"\n{title}: {sum(len(f.times_ns) for f in footage)} frames, {num_hard} hard cuts, {num_gradual} gradual\n"
        yield "| detector | P | R | F1 | hard P | R | F1 | gradual P | R | F1 | left | ms |"
        yield "|---" * 12 + "|"
        for name, opened in contestants().items():
            if not only or name in only:
                yield f"| {name} | " + " | ".join(judged(opened, footage).row()) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos with CUTS.json")
    parser.add_argument("--films", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help=f"some of: {', '.join(contestants())}")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for line in tables(options.videos, options.films, options.seed, options.only):
        print(line, flush=True)


if __name__ == "__main__":
    main()
