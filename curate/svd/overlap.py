"""More frames than the network takes: overlapping windows whose answers are blended at every step of sampling, and loops, where they wrap.

Each window sees its frames and the same conditioning. Of frame t, the answers of the windows that hold it are averaged with tent weights
w_i = min(i + 1, size - i) of its place i in each: two windows that overlap by o <= size / 2 frames cross-fade linearly, j / (o + 1) to
one and the rest to the other (j = 1..o). It is averaging in the denoised prediction, as MultiDiffusion does in space (arXiv 2302.08113).
In a loop frame T - 1 is followed by frame 0 in a window as any other neighbours are, so that the join is no special place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of `size` frames that begin at `starts`, over `total` frames; where they pass the end they go on at frame 0."""

    starts: tuple[int, ...]
    size: int
    total: int

    @classmethod
    def over(cls, total: int, size: int, overlap: int, is_loop: bool = False) -> "Windows":
        """As few evenly spread windows as overlap by at least `overlap` frames. Raises `ValueError` for what cannot be covered."""
        if size < 1 or total < 1 or not 0 <= overlap < size:
            raise ValueError(f"overlap={overlap} must lie in 0 to {size - 1}, less than the {size} frames of a window")
        stride = size - overlap
        if is_loop:
            size = min(size, total)
            count = max(2, -(-total // stride)) if total > 1 else 1
            return cls(tuple(round(k * total / count) for k in range(count)), size, total)
        if total <= size:
            return cls((0,), total, total)
        steps = -(-(total - size) // stride)
        return cls(tuple(round(k * (total - size) / steps) for k in range(steps + 1)), size, total)

    def frames(self, start: int) -> torch.Tensor:
        """int64 [size]: the frames of the window that begins at `start`."""
        return (torch.arange(self.size) + start) % self.total

    def weights(self) -> torch.Tensor:
        """float32 [len(starts), total]: the share of each window in each frame; they sum to 1 over the windows."""
        place = torch.arange(self.size)
        tent = torch.minimum(place + 1, self.size - place).double()
        raw = torch.zeros(len(self.starts), self.total, dtype=torch.float64)
        for row, start in zip(raw, self.starts, strict=True):
            row[self.frames(start)] = tent
        return (raw / raw.sum(0)).float()

    def blend(
        self, denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x_BTCHW: torch.Tensor, guidance_T: torch.Tensor
    ) -> torch.Tensor:
        """`denoise(frames of a window, their guidance)` of every window, averaged by `weights`."""
        blended = torch.zeros_like(x_BTCHW)
        for start, weights_T in zip(self.starts, self.weights().to(x_BTCHW), strict=True):
            frames = self.frames(start).to(x_BTCHW.device)
            answer = denoise(x_BTCHW[:, frames], guidance_T.to(x_BTCHW.device)[frames])
            blended[:, frames] += weights_T[frames][None, :, None, None, None] * answer
        return blended
