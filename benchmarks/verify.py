"""False alarms of the verifier: good clips of every file that is named, which it should let pass.

    python benchmarks/verify.py FILE_OR_FOLDER ... [--clips 2] [--frames 24] [--crf 18,28,40] [--no-copy]

Clips begin at places spread over each file. Each is cut exactly at every quality, with its sound, and (the first of a file whose codec
MP4 holds) once more with a part of the picture at another size and rate. Spans between keyframes are copied. A refusal of the verifier is
printed; sources that cannot be read, and clips that cannot be cut for other reasons, are counted apart. Faults that it has to find are
planted in tests/media/test_verify.py.
"""

import argparse
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

from curate.clip import Box, Span
from curate.errors import ExportError, SourceError
from curate.media.cut import Encoding, Take, write_exact
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.picks import VideoFile
from curate.media.remux import write_copy
from curate.media.verify import Expected, verify

MAX_FRAMES = 600  # read of each file


def files_of(names: list[str]) -> Iterator[Path]:
    for name in names:
        path = Path(name)
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def read(path: Path) -> tuple[PyAVReader, np.ndarray, int, tuple[int, int]]:
    """Frame times up to the first fault, the end of the last one, and the displayed size."""
    reader = PyAVReader(str(path), path.name)
    times: list[int] = []
    end_ns = 0
    for item in reader.frames():
        if not isinstance(item, DecodedFrame) or len(times) > MAX_FRAMES:
            break
        times.append(item.time_ns)
        end_ns = reader.end_ns or 0
    return reader, np.array(times, np.int64), end_ns, reader.probe.geometry.displayed


def takes_of(path: Path, times: np.ndarray, end_ns: int, size: tuple[int, int], clips: int, frames: int) -> Iterator[tuple[str, Take]]:
    width, height = size[0] // 2 * 2, size[1] // 2 * 2
    for place in sorted({round(share * max(0, len(times) - frames)) for share in np.linspace(0, 1, clips)}):
        last = min(len(times), place + frames)
        end = int(times[last]) if last < len(times) else end_ns
        take = Take(str(path), times[place:last], end, Box(0, 0, width, height), width, height)
        yield "exact", take
        box = Box(width // 20, height // 15, int(width * 0.83), int(height * 0.77))
        if place == 0 and min(box.width, box.height) >= 32:
            small = replace(take, box=box, width=int(box.width * 0.7) // 2 * 2, height=int(box.height * 0.7) // 2 * 2)
            yield "framed", replace(small, picks_ns=take.picks_ns[::2], fps=Fraction(10))


def written(path: Path, args: argparse.Namespace, target: Path) -> Iterator[tuple[str, Expected]]:
    """Kinds of clips, each written to `target`, and what they should hold."""
    reader, times, end_ns, size = read(path)
    if len(times) < 2 or min(size) < 16:
        return
    for kind, take in takes_of(path, times, end_ns, size, args.clips, args.frames):
        for crf in map(int, args.crf.split(",")):
            yield f"{kind} {crf}", write_exact(take, Encoding(crf=crf, audio=True), target)
    marks = [*sorted(t for t in reader.packets.keyframes_ns if t <= times[-1]), end_ns]
    for start, end in list(itertools.pairwise(marks))[: 0 if args.no_copy else args.clips]:
        inside = times[(times >= start) & (times < end)]
        if len(inside):
            with VideoFile(str(path)) as video:
                expected = write_copy(video, Span(start, end), inside, target, audio=True)
            yield "copy", expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--crf", default="18,28,40")
    parser.add_argument("--no-copy", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    passed: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "clip.mp4"
        for path in files_of(args.sources):
            before = sum(passed.values()) + sum(refused.values())
            try:
                for kind, expected in written(path, args, target):
                    try:
                        verify(target, expected)
                        passed[kind] += 1
                    except ExportError as error:
                        refused[kind] += 1
                        print(f"refused, {kind}: {error}", flush=True)
            except SourceError:
                sources["unreadable"] += 1
                continue
            except Exception as error:  # noqa: BLE001  the export would say so, and nothing was to be verified
                print(f"not cut: {path.name}: {type(error).__name__}: {error}", flush=True)
            sources["with clips" if sum(passed.values()) + sum(refused.values()) > before else "without clips"] += 1
    print("\n| kind of clip | passed | refused |\n|---|---|---|")
    for kind in sorted(passed | refused):
        print(f"| {kind} | {passed[kind]} | {refused[kind]} |")
    print(f"| all | {sum(passed.values())} | {sum(refused.values())} |\n\nsources: {dict(sources)}")


if __name__ == "__main__":
    main()
