"""Real video as luma pictures, and luma pictures as video in memory, for tests of what streams by."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np


def decode(file: str | io.BytesIO, start: int = 0, stop: int | None = None, short_side: int = 10_000) -> list[np.ndarray]:
    """Luma of frames [start, stop), reduced to a short side, sizes even."""
    lumas = []
    with av.open(file) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if stop is not None and i >= stop:
                break
            if i >= start:
                luma = frame.reformat(format="gray").to_ndarray()
                scale = min(1.0, short_side / min(luma.shape))
                size = tuple(round(n * scale) // 2 * 2 for n in luma.shape[::-1])
                lumas.append(cv2.resize(luma, size, interpolation=cv2.INTER_AREA))
    return lumas


def encode(lumas: Sequence[np.ndarray], codec: str = "libx264", scale: float = 1, **options: str) -> io.BytesIO:
    file = io.BytesIO()
    height, width = (int(n * scale) // 2 * 2 for n in lumas[0].shape)
    gray = np.full((height // 2, width), 128, np.uint8)
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options, stream.thread_count = {key.replace("_", "-"): value for key, value in options.items()}, 1
        for i, luma in enumerate(lumas):
            small = luma if luma.shape == (height, width) else cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(np.concatenate([small, gray]), format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    file.seek(0)
    return file
