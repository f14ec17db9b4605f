"""Pictures in, clips out: the whole of image-to-video with a loaded model.

    picture -> conditioning (encoders) -> sampling (UNet) -> frames (decoder)

Each clip draws from a generator of its own, seeded by its seed, on the CPU: first the noise of the conditioning picture, then that of the
frames. So a clip does not depend on what else is in the batch, nor its noise on the device; in float32 it is what diffusers' pipeline
makes with the same generators.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from curate.svd.conditioning import Conditioning
from curate.svd.denoiser import Denoiser
from curate.svd.encode import Encoders
from curate.svd.knobs import MULTIPLE, Knobs
from curate.svd.memory import DECODE_CHUNK, Memory, MemoryMode
from curate.svd.overlap import Windows
from curate.svd.sample import decode, guidance, karras_sigmas, sample

LOOP_WRAP = 4  # frames from the other end that the decoder sees beside a loop's ends
StepCallback = Callable[[int, int], None]


class Networks(Protocol):
    """The three networks of a model, in eval mode; the UNet's dtype is what sampling computes in."""

    unet: Any
    vae: Any
    image_encoder: Any


class ImageToVideo:
    """Makes clips with one model.

    decode_dtype  of the VAE's decoder; None: the UNet's, but float16 in place of bfloat16, which is too coarse for pictures. The encoder
    runs
                  in float32 where the VAE's configuration says `force_upcast`, as SVD's does. Both are cast in place
    """

    def __init__(
        self, model: Networks, *, device: torch.device | str = "cpu", memory: MemoryMode = "fast", decode_dtype: torch.dtype | None = None
    ) -> None:
        self._unet, self._vae, self._image_encoder = model.unet, model.vae, model.image_encoder
        self.memory = Memory(memory, torch.device(device))
        dtype = next(model.unet.parameters()).dtype
        encode_dtype = torch.float32 if model.vae.config.get("force_upcast", True) else dtype
        # Each half once and for all: casting to and fro would round the weights, and a second clip would differ from the first.
        for half in self._encoder_half():
            half.to(encode_dtype)
        self.decode_dtype = decode_dtype or (torch.float16 if dtype == torch.bfloat16 else dtype)
        model.vae.decoder.to(self.decode_dtype)

    def __call__(
        self, pictures_BHWC: np.ndarray, knobs: Knobs, *, seeds: Sequence[int] | None = None, callback: StepCallback | None = None
    ) -> np.ndarray:
        """Frames, uint8 (B, T, H, W, 3), of clips that begin with the pictures, uint8 (B, H, W, 3) RGB with sides in multiples of 64 px.

        T is `knobs.num_total`. `knobs.size` and `knobs.motion` have no meaning here: the pictures have the size, and `motion_bucket` is
        taken. `seeds` has one for each picture; None: `knobs.seed` and those that follow. `callback(step, num_steps)` is called after
        each step of each part. Raises `ValueError`, `DeviceMemoryError` and `NotFiniteError`.
        """
        _check(pictures_BHWC)
        seeds = range(knobs.seed, knobs.seed + len(pictures_BHWC)) if seeds is None else seeds
        if len(seeds) != len(pictures_BHWC):
            raise ValueError(f"{len(seeds)} seeds for {len(pictures_BHWC)} pictures; give one each")
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        if knobs.longer == "windows" or knobs.num_total <= knobs.num_frames:
            return self._part(pictures_BHWC, knobs, knobs.num_total, generators, callback)
        frames = self._part(pictures_BHWC, knobs, knobs.num_frames, generators, callback)
        while frames.shape[1] < knobs.num_total:
            following = self._part(frames[:, -1], knobs, knobs.num_frames, generators, callback)
            frames = np.concatenate([frames, following[:, 1:]], axis=1)  # its first frame is the picture that it began from
        return frames[:, : knobs.num_total]

    def chunk(self, knobs: Knobs) -> int:
        """Frames that the decoder sees at a time."""
        return knobs.decode_chunk or DECODE_CHUNK[self.memory.mode] or knobs.num_frames

    def conditioning(self, pictures_BHWC: np.ndarray, knobs: Knobs, generators: Sequence[torch.Generator]) -> Conditioning:
        """What the network is told of the pictures, on the device; draws the noise on them from the generators."""
        memory, count = self.memory, len(pictures_BHWC)
        first_BCHW = torch.from_numpy(pictures_BHWC).permute(0, 3, 1, 2).float() / 255 * 2 - 1
        noise_BCHW = torch.stack([torch.randn(first_BCHW.shape[1:], generator=generator) for generator in generators])
        strength_B = torch.full((count,), knobs.noise_aug)
        with memory.explained("encoding the picture"), memory.holding(self._image_encoder, *self._encoder_half()):
            encoders = Encoders(self._vae, self._image_encoder)
            cond = encoders.conditioning(first_BCHW, [knobs.fps] * count, [knobs.motion_bucket] * count, strength_B, noise_BCHW)
        return cond.to(memory.device)

    def _encoder_half(self) -> tuple[Any, ...]:
        return self._vae.encoder, self._vae.quant_conv

    def _part(
        self, pictures_BHWC: np.ndarray, knobs: Knobs, num_frames: int, generators: Sequence[torch.Generator], callback: StepCallback | None
    ) -> np.ndarray:
        memory = self.memory
        cond = self.conditioning(pictures_BHWC, knobs, generators)
        windows = None
        if knobs.loop or num_frames > knobs.num_frames:
            windows = Windows.over(num_frames, knobs.num_frames, knobs.num_overlap, knobs.loop)
        with memory.explained("sampling"), memory.holding_unet(self._unet):
            latents = sample(
                Denoiser(self._unet),
                cond,
                sigmas=karras_sigmas(knobs.steps),
                guidance_T=guidance(num_frames, knobs.min_guidance, knobs.max_guidance, knobs.guidance_shape),
                generator=generators,
                windows=windows,
                is_split=memory.mode == "low",
                callback=None if callback is None else lambda step, _: callback(step, knobs.steps),
            )
        with memory.explained("decoding"), memory.holding(self._vae.decoder):
            return decode(latents, self._vae, self.chunk(knobs), wrap=min(LOOP_WRAP, num_frames) if knobs.loop else 0)


def _check(pictures_BHWC: np.ndarray) -> None:
    if pictures_BHWC.dtype != np.uint8 or pictures_BHWC.ndim != 4 or pictures_BHWC.shape[3] != 3 or not len(pictures_BHWC):
        raise ValueError(f"pictures must be uint8 (B, H, W, 3) with B at least 1, got {pictures_BHWC.dtype} {pictures_BHWC.shape}")
    height, width = pictures_BHWC.shape[1:3]
    if height % MULTIPLE or width % MULTIPLE:
        raise ValueError(f"pictures are {width}x{height}; both sides must be multiples of {MULTIPLE} px")
