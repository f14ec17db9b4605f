"""Writes `docs/svd.md` from the settings themselves: `python -m curate.svd_docs docs/svd.md`."""

import sys
from pathlib import Path

from curate.config_problems import inlined, key_table
from curate.svd.generate_config import generate_schema
from curate.svd.settings import Finetune

_HEAD = """\
# Stable Video Diffusion

Written by `python -m curate.svd_docs docs/svd.md` from the code; a test holds the two together. Needs the extra `svd`.

    curate svd finetune configs/svd_lora.yaml data=/manifests/my-set out=runs/lora
    torchrun --nproc-per-node 8 -m curate svd finetune configs/svd_stage2.yaml data=/manifests/my-set out=runs/stage2
    curate svd generate photo.jpg model=stabilityai/stable-video-diffusion-img2vid lora=runs/lora/lora.safetensors motion_bucket=60,75,90

Network classes come from diffusers and transformers, LoRA from peft. What the network is told, its preconditioning and the loss stand
once, in `curate/svd/conditioning.py`, `denoiser.py` and `loss.py`, and both training and sampling use them; tests hold them against
`diffusers.StableVideoDiffusionPipeline` at tiny size.

* Each window is trained on with its own rate (a whole-number stride over distinct pictures; the id is fps - 1), its own motion bucket,
  measured on its frames, and its own noise augmentation. Conditions are the VAE's mean, unscaled, and the clean frame's embedding.
* A model is a folder in the layout of diffusers, a hub id, or one `.safetensors` file in Stability's naming; it is saved in either. A
  key too many, too few or of another shape is an error before long work starts; nothing is filled with random numbers.
* Stopped at any point and started again, a fine-tune goes on from the last checkpoint. A loss or a gradient that is not finite stops it
  before the step, with the names of the clips.
* The real weights (1.5 billion) have not been run here: everything is tested with the real classes at tiny size, and keys and counts at
  full size without memory.

## Keys of `curate svd finetune`

"""


def render() -> str:
    """The page."""
    parts = [
        _HEAD,
        key_table(inlined(Finetune.model_json_schema())),
        "\n\n## Keys of `curate svd generate`\n\n",
        key_table(generate_schema()),
    ]
    return "".join([*parts, "\n"])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
