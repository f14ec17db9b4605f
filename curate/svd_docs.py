"""Writes `docs/svd.md` from the settings themselves: `python -m curate.svd_docs docs/svd.md`."""

import sys
from pathlib import Path

from curate.config_problems import inlined, key_table
from curate.svd.evaluate_config import evaluate_schema
from curate.svd.generate_config import generate_schema
from curate.svd.settings import Finetune
from curate.svd.tiny import Tiny

_HEAD = """\
# Stable Video Diffusion

Written by `python -m curate.svd_docs docs/svd.md` from the code; a test holds the two together. Needs the extra `svd`.

    curate svd finetune configs/svd_lora.yaml data=/manifests/my-set out=runs/lora
    torchrun --nproc-per-node 8 -m curate svd finetune configs/svd_stage2.yaml data=/manifests/my-set out=runs/stage2
    curate svd finetune configs/svd_stage2.yaml data=/manifests/my-set out=/shared/stage2 engine=ray ray_address=auto workers=8
    curate svd generate photo.jpg model=stabilityai/stable-video-diffusion-img2vid lora=runs/lora/lora.safetensors motion_bucket=60,75,90
    curate svd evaluate configs/svd_evaluate.yaml model=runs/svd/model before=stabilityai/... data=/manifests/my-set out=evaluation
    curate svd tiny runs/svd_tiny_model data=demo/manifest       a few layers with random weights, which configs/svd_tiny.yaml trains

Network classes come from diffusers and transformers, LoRA from peft. What the network is told, its preconditioning and the loss stand
once, in `curate/svd/conditioning.py`, `denoiser.py` and `loss.py`, and both training and sampling use them; tests hold them against
`diffusers.StableVideoDiffusionPipeline` at tiny size.

* Each window is trained on with its own rate (a whole-number stride over distinct pictures; the id is fps - 1), its own motion bucket,
  measured on its frames, and its own noise augmentation. Conditions are the VAE's mean, unscaled, and the clean frame's embedding.
* A model is a folder in the layout of diffusers, a hub id, or one `.safetensors` file in Stability's naming; it is saved in either. A
  key too many, too few or of another shape is an error before long work starts; nothing is filled with random numbers.
* Stopped at any point and started again, a fine-tune goes on from the last checkpoint. A loss or a gradient that is not finite stops it
  before the step, with the names of the clips.
* One GPU; several under `torchrun`; or `engine=ray`: Ray Train starts `workers` processes, here or on the cluster at `ray_address`, and
  the weights are those of as many processes under torchrun, to the bit on a CPU. A worker that dies costs the steps since the last
  checkpoint: its group begins again there, `max_restarts` times before it gives up, counted anew with every checkpoint. What the user has
  to mend is not tried again. `data`, `model` and `out` must lie where every machine sees them; that `out` does is checked.
* The real weights (1.5 billion) have not been run here: everything is tested with the real classes at tiny size, and keys and counts at
  full size without memory.

## What an evaluation says

`curate svd evaluate` makes every picture with every motion bucket and every seed, by one model or by two from the same noise, scores each
clip with the project's own scorers (motion in the manifest's unit), and writes `evaluation.html`, `evaluation.json`, the clips and their
table `runs.parquet`. It is a folder of `curate svd generate`; clips that are there (same weights, settings, picture and program) are not
made again.

* Motion follows the bucket: the rank correlation (Spearman) of bucket and measured motion within each picture and seed, averaged, and the
  share of curves that rise at every step.
* Two models: differences of the same picture, bucket and seed, averaged within each picture. "Better" or "worse" stands only where the
  interval of that difference (95 % unless `confidence` says otherwise, bootstrap over pictures) lies on one side of 0, else "no clear
  difference". Fewer than 5 pictures give no interval and no verdict. Sharpness is better the nearer the last third's is to the first's.
  More or less motion is neither better nor worse, and flicker, sharpness and likeness to the picture change with motion alone.
* With `data`, its own windows are scored beside the clips; with `fvd`, the Fréchet video distance to them, with its number of clips: of few
  clips it is far too large, and comparable only between equal counts.
* A fitted map, `motion_buckets-NAME.json`, is written for each model whose correlation is above 0 by its whole interval: `curate svd
  generate photo.jpg model=... motion=3.5 motion_buckets=evaluation/motion_buckets-NAME.json` then asks for 3.5 % of the diagonal/s. Copied
  into the model's folder as `motion_buckets.json` it is found without being named. It holds for the frames, rate, size and guidance that it
  was measured with (`made_from`), and on average over pictures. Motion beyond what was measured gets the outermost bucket that was, and a
  note says so.

## Keys of `curate svd finetune`

"""


def render() -> str:
    """The page."""
    parts = [
        _HEAD,
        key_table(inlined(Finetune.model_json_schema())),
        "\n\n## Keys of `curate svd generate`\n\n",
        key_table(generate_schema()),
        "\n\n## Keys of `curate svd evaluate`\n\n",
        key_table(evaluate_schema()),
        "\n\n## Keys of `curate svd tiny`\n\n",
        key_table(inlined(Tiny.model_json_schema())),
    ]
    return "".join([*parts, "\n"])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
