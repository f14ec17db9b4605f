"""The films of a half: what each is encoded as, written, decoded again, and kept as the tiny frames that detectors see.

In the folder of work, for each film: the video, `NAME.json` (truth and how it was made) and `NAME.npz` (64x36 and 48x27 BGR of every
frame, its times). Frames and times are those that the pass decodes from the video; that every frame is the one composed is checked.
"""

import json
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from curate.clip import Fault
from curate.media.decode import PyAVReader
from cuts.compose import Film, Marked, Truth, planned
from cuts.footage import Piece

RECIPE = 2
"""Raised when films come out otherwise; those of another recipe are made again."""
HALVES = {"tuning": 30, "test": 40}
DENSITIES = {100: 1500, 300: 3000}
"""Mean frames between transitions, and the length of such a film."""
SIZES = ((320, 180), (426, 240), (480, 270), (640, 360))
RATES = (Fraction(12), Fraction(15), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(50), Fraction(60))
CODECS = ("h264", "h264", "hevc", "h264", "vp9", "h264", "mpeg4", "h264", "mpeg2video", "h264")
TINY = {"tiny": (64, 36), "tinier": (48, 27)}
CLOCK = 90_000
MAX_OFF = 40.0
"""Largest mean difference (8-bit levels, 64x36) between a composed frame and what comes back from the encoder."""
MOVED = 20.0
"""Where neighbours differ by more than this, each must have come back nearer to itself."""


@dataclass(frozen=True)
class Recipe:
    """How one film is made."""

    name: str
    seed: list[int]
    density: int
    fps: Fraction
    size: tuple[int, int]
    codec: str
    quality: int
    keyint: int
    num_bframes: int
    has_open_gop: bool
    is_uneven: bool

    @property
    def suffix(self) -> str:
        return ".mkv" if self.codec == "mpeg2video" else ".mp4"


@dataclass(eq=False)
class Footage:
    """A film as detectors see it."""

    name: str
    density: int
    truth: list[Truth]
    negatives: list[Marked]
    times_ns: np.ndarray
    end_ns: int
    decode_cpu_s: float
    tiny: dict[tuple[int, int], np.ndarray]

    @property
    def duration_s(self) -> float:
        return (self.end_ns - int(self.times_ns[0])) / 1e9


def recipes(half: str, seed: int) -> list[Recipe]:
    """One in five of uneven times; every codec, rate and size in both densities."""
    found = []
    for n in range(HALVES[half]):
        key = [seed, list(HALVES).index(half), n]
        random = np.random.default_rng(key)
        codec = CODECS[n // 2 % len(CODECS)]
        fps = RATES[(n // 2 * 3 + n) % len(RATES)]
        if codec == "mpeg2video" and fps < 24:
            fps = Fraction(25)  # its standard has no lower rate
        quality = {"h264": (18, 34), "hevc": (22, 36), "vp9": (28, 50), "mpeg4": (2, 12), "mpeg2video": (2, 12)}[codec]
        found.append(
            Recipe(
                name=f"{half}_{n:02d}",
                seed=key,
                density=list(DENSITIES)[n % 2],
                fps=fps,
                size=SIZES[int(random.choice(len(SIZES), p=[0.3, 0.3, 0.25, 0.15]))],
                codec=codec,
                quality=int(random.integers(quality[0], quality[1] + 1)),
                keyint=int(random.choice([12, 48, 250])),
                num_bframes=0 if codec == "vp9" else int(random.choice([0, 2, 3])),
                has_open_gop=bool(random.random() < 0.3) and codec in ("h264", "hevc"),
                is_uneven=codec in ("h264", "hevc", "vp9") and n % 5 == 3,
            )
        )
    return found


def compose(recipe: Recipe, pieces: list[Piece], work: Path, num_frames: int | None = None) -> None:
    """Makes one film unless it is there already."""
    if is_made(recipe, work):
        return
    begun_s = time.process_time()
    random = np.random.default_rng([*recipe.seed, 1])
    film = planned(random, pieces, recipe.size, float(recipe.fps), recipe.density, num_frames or DENSITIES[recipe.density])
    kept, ticks = _clock(random, film.num_frames, recipe)
    path = work / f"{recipe.name}{recipe.suffix}"
    composed = _encode(film, kept, ticks, recipe, path)
    seen = decoded(path)
    _check(recipe.name, composed, seen)
    np.savez(work / f"{recipe.name}.npz", times_ns=seen.times_ns, **{key: seen.tiny[size] for key, size in TINY.items()})
    described = {
        "recipe": _recipe_note(recipe),
        "num_frames": len(kept),
        "end_ns": seen.end_ns,
        "decode_cpu_s": round(seen.decode_cpu_s, 3),
        "compose_cpu_s": round(time.process_time() - begun_s, 1),
        "transitions": [_with_times(asdict(_kept_truth(one, kept)), seen) for one in film.truth()],
        "negatives": [asdict(_kept_marked(one, kept)) for one in film.marked()],
        "shots": film.described(),
    }
    _note(recipe, work).write_text(json.dumps(described, indent=1))


def is_made(recipe: Recipe, work: Path) -> bool:
    note = _note(recipe, work)
    return note.exists() and json.loads(note.read_text())["recipe"] == _recipe_note(recipe)


def _note(recipe: Recipe, work: Path) -> Path:
    return work / f"{recipe.name}.json"


def _recipe_note(recipe: Recipe) -> dict:
    return json.loads(json.dumps({"version": RECIPE, **asdict(recipe), "fps": str(recipe.fps)}))


def _clock(random: np.random.Generator, count: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Which frames of the plan are shown, and when, in ticks. Uneven films lose a fifth of their frames and jitter by 15 %."""
    if not recipe.is_uneven:
        return np.arange(count), np.arange(count)
    keep = random.random(count) > 0.2
    keep[0] = True
    # At most two missing in a row, as telephones and screen recorders drop them.
    for n in range(2, count):
        keep[n] |= not (keep[n - 1] or keep[n - 2])
    kept = np.flatnonzero(keep)
    at = kept + np.where(kept > 0, random.uniform(-0.15, 0.15, len(kept)), 0)
    return kept, np.round(at * CLOCK / float(recipe.fps)).astype(np.int64)


def _kept_truth(one: Truth, kept: np.ndarray) -> Truth:
    first, clean, seen, unseen = (int(np.searchsorted(kept, n)) for n in (one.first, one.clean, one.visible_first, one.visible_clean))
    return Truth(first, clean, one.kind, seen, unseen)


def _kept_marked(one: Marked, kept: np.ndarray) -> Marked:
    return Marked(int(np.searchsorted(kept, one.first)), int(np.searchsorted(kept, one.end)), one.kind)


def _with_times(row: dict, seen: Footage) -> dict:
    return {**row, "first_ns": int(seen.times_ns[row["first"]]), "clean_ns": int(seen.times_ns[row["clean"]])}


def _options(recipe: Recipe) -> tuple[str, dict[str, str]]:
    quality, keyint, num_b = str(recipe.quality), str(recipe.keyint), str(recipe.num_bframes)
    gop = int(recipe.has_open_gop)
    if recipe.codec == "h264":
        x264 = f"keyint={keyint}:bframes={num_b}:open-gop={gop}"
        return "libx264", {"crf": quality, "preset": "ultrafast" if recipe.keyint == 12 else "veryfast", "x264-params": x264}
    if recipe.codec == "hevc":
        params = f"log-level=none:pools=none:frame-threads=1:keyint={keyint}:bframes={num_b}:open-gop={gop}"
        return "libx265", {"crf": quality, "preset": "ultrafast", "x265-params": params}
    if recipe.codec == "vp9":
        return "libvpx-vp9", {"crf": quality, "b": "0", "deadline": "realtime", "cpu-used": "8", "g": keyint}
    return recipe.codec, {"flags": "+qscale", "global_quality": str(118 * recipe.quality), "g": str(min(recipe.keyint, 48)), "bf": num_b}


def _encode(film: Film, kept: np.ndarray, ticks: np.ndarray, recipe: Recipe, path: Path) -> np.ndarray:
    """Writes the kept frames; returns them at 64x36, uint8 (N, 36, 64, 3)."""
    name, options = _options(recipe)
    wanted = set(kept.tolist())
    pts = iter(ticks.tolist())
    tiny = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream(name, rate=recipe.fps, options=options)
        stream.width, stream.height = recipe.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        time_base = Fraction(1, CLOCK) if recipe.is_uneven else 1 / recipe.fps
        stream.codec_context.time_base = time_base
        for k, image in enumerate(film.frames()):
            if k not in wanted:
                continue
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = next(pts), time_base
            container.mux(stream.encode(frame))
            tiny.append(cv2.resize(image, TINY["tiny"], interpolation=cv2.INTER_LINEAR))
        container.mux(stream.encode(None))
    return np.stack(tiny)


def decoded(path: Path) -> Footage:
    """Every frame as the pass sees it. Raises `ValueError` where one cannot be decoded."""
    reader = PyAVReader(str(path), path.name)
    times_ns: list[int] = []
    tiny: dict[tuple[int, int], list[np.ndarray]] = {size: [] for size in TINY.values()}
    cpu_s = 0.0
    begun_s = time.process_time()
    for item in reader.frames():
        if isinstance(item, Fault):
            raise ValueError(f"{path.name}: {item.message}")
        times_ns.append(item.time_ns)
        tiny[TINY["tiny"]].append(item.picture.tiny_bgr(*TINY["tiny"]))
        cpu_s += time.process_time() - begun_s
        tiny[TINY["tinier"]].append(item.picture.tiny_bgr(*TINY["tinier"]))
        begun_s = time.process_time()
    end_ns = reader.end_ns
    reader.close()
    assert end_ns is not None
    stacked = {size: np.stack(frames) for size, frames in tiny.items()}
    return Footage(path.stem, 0, [], [], np.asarray(times_ns, np.int64), end_ns, cpu_s, stacked)


def _check(name: str, composed: np.ndarray, seen: Footage) -> None:
    """Raises `ValueError` unless every frame came back in its place."""
    back = seen.tiny[TINY["tiny"]]
    if len(back) != len(composed):
        raise ValueError(f"{name}: {len(composed)} frames were encoded, {len(back)} came back")
    own = _apart(composed, back)
    if own.max() > MAX_OFF:
        raise ValueError(f"{name}: frame {int(own.argmax())} came back {own.max():.1f} levels off")
    for neighbour, here in ((composed[:-1], slice(1, None)), (composed[1:], slice(None, -1))):
        wrong = (_apart(neighbour, composed[here]) > MOVED) & (_apart(neighbour, back[here]) < own[here])
        if wrong.any():
            raise ValueError(f"{name}: beside frame {int(wrong.argmax())} the frames came back in another order")


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each pair of frames, 8-bit levels."""
    return np.array([cv2.norm(a, b, cv2.NORM_L1) / a.size for a, b in zip(one, other, strict=True)])


def load(work: Path, made: list[Recipe]) -> list[Footage]:
    return [_loaded(_note(one, work)) for one in made]


def _loaded(note: Path) -> Footage:
    said = json.loads(note.read_text())
    truth = [Truth(**{key: row[key] for key in Truth.__dataclass_fields__}) for row in said["transitions"]]
    negatives = [Marked(**row) for row in said["negatives"]]
    with np.load(note.with_suffix(".npz")) as arrays:
        tiny = {size: arrays[key] for key, size in TINY.items()}
        times_ns = arrays["times_ns"]
    return Footage(note.stem, said["recipe"]["density"], truth, negatives, times_ns, said["end_ns"], said["decode_cpu_s"], tiny)
