"""Generated clips read back from where `curate svd generate` put them: an MP4, or a folder of PNG frames."""

from pathlib import Path

import numpy as np
from PIL import Image

from curate.clip import Fault
from curate.config import Decode
from curate.errors import SourceError
from curate.media.open import open_reader


def read_clip(path: Path) -> np.ndarray:
    """uint8 (T, H, W, 3) RGB. Raises `SourceError` for a clip that is damaged."""
    frames = _png(path) if path.is_dir() else _mp4(path)
    if not frames:
        raise SourceError(f"{path} holds no frames; delete it, and the same command makes it again")
    return np.stack(frames)


def _png(folder: Path) -> list[np.ndarray]:
    try:
        return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    except OSError as error:
        raise SourceError(f"{folder}: a frame cannot be read: {error}; delete it, and the same command makes it again") from error


def _mp4(path: Path) -> list[np.ndarray]:
    reader = open_reader(str(path), Decode())
    frames = []
    try:
        for item in reader.frames():
            if isinstance(item, Fault):
                raise SourceError(f"{path}: {item.message}; delete it, and the same command makes it again")
            frames.append(item.picture.rgb())
    finally:
        reader.close()
    return frames
