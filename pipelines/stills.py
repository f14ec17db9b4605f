"""Pictures from files, as people mean them: turned upright, in sRGB, transparent parts white, at the size of a clip.

A picture is never stretched: it is cropped to the aspect ratio around its centre, or put between black bars.
"""

import contextlib
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from curate.clip import Box
from curate.errors import SourceError
from curate.framing import cover

Fit = Literal["crop", "letterbox"]
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2"})


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A picture as displayed: uint8 (H, W, 3) sRGB, its file and the file's checksum."""

    path: Path
    rgb_HWC: np.ndarray
    sha256: str

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.rgb_HWC.shape[1], self.rgb_HWC.shape[0]


def find_stills(path: str | Path) -> list[Path]:
    """The file itself, or the pictures in a folder by name. Raises `SourceError` where there are none."""
    place = Path(path).expanduser()
    if place.is_dir():
        found = sorted(one for one in place.iterdir() if one.suffix.lower() in SUFFIXES and one.is_file() and not one.name.startswith("."))
        if not found:
            raise SourceError(f"{place} holds no pictures; looked for {', '.join(sorted(SUFFIXES))}")
        return found
    if not place.is_file():
        raise SourceError(f"{place}: there is no such picture")
    return [place]


def read_still(path: Path) -> Still:
    """The picture of a file, the first of an animation. Raises `SourceError` with the reason where it cannot be read."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            rgb = _over_white(_in_srgb(_eight_bits(upright)))
    except UnidentifiedImageError as error:
        raise SourceError(f"{path} is no picture that Pillow reads; save it as JPEG or PNG") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError(f"{path} cannot be read as a picture: {error}") from error
    return Still(path, np.ascontiguousarray(rgb), hashlib.sha256(data).hexdigest())


def fitted(still: Still, width: int, height: int, fit: Fit) -> np.ndarray:
    """uint8 (height, width, 3): its largest centred part of that aspect ratio, or all of it in the middle of a black frame."""
    image = Image.fromarray(still.rgb_HWC)
    if fit == "crop":
        box = cover(Box(0, 0, *still.size), width, height).box
        edges = (box.x, box.y, box.x + box.width, box.y + box.height)
        return np.array(image.resize((width, height), Image.Resampling.LANCZOS, box=edges))
    inner = shown(still, width, height, fit)
    frame = Image.new("RGB", (width, height))
    frame.paste(image.resize((inner.width, inner.height), Image.Resampling.LANCZOS), (inner.x, inner.y))
    return np.array(frame)


def shown(still: Still, width: int, height: int, fit: Fit) -> Box:
    """The part of a frame of `fitted` that the picture fills."""
    if fit == "crop":
        return Box(0, 0, width, height)
    scale = min(width / still.size[0], height / still.size[1])
    inner = min(width, max(1, round(still.size[0] * scale))), min(height, max(1, round(still.size[1] * scale)))
    return Box((width - inner[0]) // 2, (height - inner[1]) // 2, *inner)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey: Pillow's own conversion clips it to white."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray((values / 257).round().clip(0, 255).astype(np.uint8))


def _in_srgb(image: Image.Image) -> Image.Image:
    """Colours by the file's own profile (phones write Display P3); a profile that cannot be used is left out."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        return image
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    plain = image.convert("RGB") if image.mode == "RGBA" else image
    with contextlib.suppress(ImageCms.PyCMSError, OSError):
        converted = ImageCms.profileToProfile(
            plain, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        if converted is not None:
            plain = converted
    if alpha is not None:
        plain.putalpha(alpha)
    return plain


def _over_white(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3): alpha blended over white."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))
