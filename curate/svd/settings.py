"""What `curate svd finetune` is told: one typed configuration, read from YAML and `key=value` words and checked as a whole.

Defaults are the paper's where it names a number (arXiv 2311.15127, appendix D: lr 3e-5, EMA 0.9999, P_std 1.6 and P_mean by size, noise
augmentation ln N(-3, 0.5^2)), and say so where they are a choice.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from curate.config import Rule, Section
from curate.config_problems import Checker, inlined
from curate.config_text import apply_overrides, read_yaml
from curate.errors import ConfigError

SIZE_STEP = 64  # px: the VAE divides by 8, the network's three downsamplings by 8 again
_SIZE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


class Windows(Section):
    """Which frames of which clips are trained on."""

    num_frames: int = Field(14, ge=2, le=128, description="frames of a window; SVD has 14, SVD-XT 25")
    fps: float = Field(7.0, gt=0, le=120, description="rate aimed at by a whole-number stride", json_schema_extra={"unit": "frames/s"})
    fps_tolerance: float = Field(
        0.25, ge=0, le=1, description="how far a window's own rate may lie from it", json_schema_extra={"unit": "ratio"}
    )
    sizes: tuple[str, ...] = Field(
        ("1024x576",), min_length=1, description="WIDTHxHEIGHT, multiples of 64; a clip goes to the one that shows most of it"
    )
    max_enlarge: float = Field(1.0, ge=0.1, le=16, description="clips that would have to be enlarged by more are left out")
    take: Literal["one", "all"] = Field("one", description="of a clip in an epoch: one window, drawn anew; or all that share no frame")
    epochs: int | None = Field(
        None,
        ge=1,
        description="the draws of windows repeat after so many epochs, so that a cache holds them all; null: new ones each epoch",
    )
    select: dict[str, Rule] = Field(default_factory=dict, description="name -> rule that kept clips must pass as well")
    motion_buckets: str | None = Field(
        None, description="file of the map from motion to bucket; null: that of `init`, else fitted to the training clips"
    )
    on_error: Literal["raise", "skip"] = Field("skip", description="what becomes of a clip that can no longer be read")
    cache: str | None = Field(None, description="folder for encoded windows: each is decoded and encoded once; null encodes each time")
    cache_dtype: Literal["float16", "float32"] = Field("float16", description="precision of cached latents")
    workers: int = Field(2, ge=0, le=256, description="processes that decode, for each training process; 0 decodes in it")

    @field_validator("sizes", mode="after")
    @classmethod
    def _sizes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            found = _SIZE.fullmatch(text)
            if found is None:
                raise ValueError(f"windows.sizes holds {text!r}: write WIDTHxHEIGHT in px, such as 1024x576")
            width, height = (int(side) for side in found.groups())
            near = tuple(max(SIZE_STEP, round(side / SIZE_STEP) * SIZE_STEP) for side in (width, height))
            if near != (width, height):
                raise ValueError(
                    f"windows.sizes holds {text}: both sides must be multiples of {SIZE_STEP}; the nearest is {near[0]}x{near[1]}"
                )
        return value

    @property
    def pixels(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of each size."""
        pairs = (text.split("x") for text in self.sizes)
        return tuple((int(width), int(height)) for width, height in pairs)


class Noise(Section):
    """What is drawn for each window, each time."""

    p_mean: float | None = Field(None, ge=-5, le=5, description="mean of ln sigma; null: the paper's, 1.0 from 1024x576 on, 0.7 below")
    p_std: float = Field(1.6, gt=0, le=5, description="deviation of ln sigma")
    drop: Literal["joint", "independent"] = Field(
        "joint",
        description="joint: image embedding and first frame are dropped together, the branch that guidance subtracts; independent: "
        "each on its own, so that this branch is trained drop_embed * drop_latents of the time",
    )
    drop_embed: float = Field(0.1, ge=0, le=1, description="share of windows that lose the embedding (joint: both)")
    drop_latents: float = Field(0.1, ge=0, le=1, description="independent: share of windows that lose the first frame")


class Lora(Section):
    """Low-rank adapters; used where mode=lora."""

    rank: int = Field(16, ge=1, le=512, description="rank of each adapter")
    alpha: float = Field(16.0, gt=0, le=4096, description="adapters are scaled by alpha / rank")
    targets: str | tuple[str, ...] = Field(
        "temporal_attention", description="temporal_attention, attention, or a list of patterns of layer names"
    )


class Optimizer(Section):
    """AdamW and its schedule: linear warm-up, then a cosine."""

    kind: Literal["adamw", "adamw8bit"] = Field("adamw", description="adamw8bit needs bitsandbytes and a GPU, and a quarter of the memory")
    lr: float = Field(3e-5, gt=0, le=1, description="learning rate after warm-up")
    warmup_steps: int = Field(500, ge=0, description="steps of linear warm-up")
    final_lr: float = Field(0.1, ge=0, le=1, description="what the cosine ends at, as a share of lr; 1 keeps lr")
    betas: tuple[float, float] = Field((0.9, 0.999), description="decays of the moments")
    weight_decay: float = Field(0.01, ge=0, le=1, description="decoupled weight decay")
    clip_grad_norm: float | None = Field(1.0, gt=0, description="gradients are scaled down to this norm; null only watches it")
    ema: float | None = Field(
        0.9999, ge=0, lt=1, description="decay of the averaged weights, reached by (1 + n) / (10 + n); null keeps none"
    )


class Validation(Section):
    """Loss on clips of held-out sources, with noise and sigmas that never change."""

    fraction: float = Field(
        0.05, ge=0, le=0.5, description="share of the clips that is held out, by whole sources; unused where the export has a val split"
    )
    every: int = Field(500, ge=1, description="steps between validations")
    max_clips: int = Field(64, ge=1, le=4096, description="windows that are looked at, one a clip")
    sigmas: int = Field(4, ge=1, le=64, description="noise levels a window, at even quantiles of the training distribution")


class Checkpoints(Section):
    """What a killed run goes on from."""

    every: int = Field(500, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, le=1000, description="how many of the last ones are kept")


class Samples(Section):
    """Clips generated while training, from first frames of held-out clips."""

    every: int | None = Field(None, ge=1, description="steps between samples; null makes none")
    count: int = Field(2, ge=1, le=16, description="clips each time")
    steps: int = Field(25, ge=1, le=1000, description="sampler steps")


class Finetune(Section):
    """Everything a fine-tune is made from."""

    model: str = Field(min_length=1, description="SVD model: a folder in the layout of diffusers, a single .safetensors file, or a hub id")
    init: str | None = Field(None, description="output folder of an earlier fine-tune whose weights this one begins with")
    data: str = Field(min_length=1, description="folder of a manifest or of an export")
    out: str = Field(min_length=1, description="folder that is written; a run that is there goes on")
    mode: Literal["full", "temporal", "lora"] = Field("lora", description="which weights are trained")
    steps: int = Field(10_000, ge=1, description="optimizer steps")
    batch_size: int = Field(1, ge=1, le=4096, description="windows a process takes at a time")
    accumulate: int = Field(1, ge=1, le=4096, description="batches an optimizer step")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="order of clips, windows, noise, and the held-out sources")
    device: Literal["cpu", "cuda"] = Field("cuda", description="where the networks run")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="bf16: autocast over fp32 master weights")
    gradient_checkpointing: bool = Field(True, description="half the memory for a fifth more time")
    deterministic: bool = Field(False, description="only algorithms that give the same bits each time; slower on a GPU")
    engine: Literal["local", "ray"] = Field(
        "local",
        description="local: this process, or those that torchrun started; ray: Ray Train starts them and begins again after a death; data, "
        "model and out must then lie where every machine of the cluster sees them",
    )
    workers: int = Field(
        0, ge=0, le=100_000, description="ray engine: training processes, with a GPU each on cuda; 0: one a GPU of the cluster, on cpu one"
    )
    ray_address: str | None = Field(None, description="address of a running Ray cluster; null starts Ray on this machine")
    max_restarts: int = Field(
        3, ge=0, le=1000, description="ray engine: how often training begins again after a death with no new checkpoint in between"
    )
    models: str | None = Field(None, description="folder searched for weights after the one that CURATE_MODELS names")
    windows: Windows = Field(default_factory=Windows, description="which frames of which clips")
    noise: Noise = Field(default_factory=Noise, description="what is drawn for each window")
    lora: Lora = Field(default_factory=Lora, description="low-rank adapters")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="AdamW and its schedule")
    validation: Validation = Field(default_factory=Validation, description="loss on held-out sources")
    checkpoints: Checkpoints = Field(default_factory=Checkpoints, description="what a killed run goes on from")
    samples: Samples = Field(default_factory=Samples, description="clips generated while training")

    @model_validator(mode="after")
    def _possible(self) -> "Finetune":
        if self.optimizer.kind == "adamw8bit" and self.device != "cuda":
            raise ValueError("optimizer.kind='adamw8bit' needs device=cuda; use adamw")
        if self.windows.cache and self.windows.take == "one" and self.windows.epochs is None:
            raise ValueError(
                "windows.cache keeps windows that come again, and windows.take='one' draws new ones each epoch; set windows.epochs "
                "(such as 4: four windows of each clip), or windows.take=all"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The keys that decide which weights come out, step for step, as JSON holds them; a run is continued with the same ones only."""
        content = self.model_dump(mode="json")
        for key in PASSING:
            *above, last = key.split(".")
            place = content
            for part in above:
                place = place[part]
            place.pop(last)
        # Where the cache lies changes nothing, but that there is one does: what is stored is rounded.
        content["windows"]["cache"] = self.windows.cache is not None
        return content


PASSING = (  # may change between a run and its continuation
    *("out", "steps", "device", "deterministic", "gradient_checkpointing", "models", "windows.workers"),
    *("engine", "workers", "ray_address", "max_restarts"),
    *("validation.every", "validation.max_clips", "validation.sigmas", "checkpoints", "samples"),
)


def load_finetune(config: str | Path | None, words: Sequence[str] = ()) -> Finetune:
    """From a YAML file (or none) and `key=value` words. Raises one `ConfigError` with all problems."""
    text = read_yaml(config)
    apply_overrides(text, words)
    return parse_finetune(text.content, text.problems, text.place)


def parse_finetune(content: Mapping[str, Any], problems: Sequence[str] = (), place: Any = None) -> Finetune:
    """Checks what was written. `problems` were found before; `place(path)` says where a key stands."""
    lacking = [key for key in ("model", "data", "out") if not content.get(key)]
    if lacking:
        raise ConfigError(f"finetune: {' and '.join(lacking)} must be given, e.g. {' '.join(f'{key}=...' for key in lacking)}")
    found = list(problems)
    settings: Finetune | None = None
    try:
        settings = Finetune.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        found += Checker(content, place, inlined(Finetune.model_json_schema())).explain(error)
    if found or settings is None:
        count = f"{len(found)} problems" if len(found) > 1 else "1 problem"
        raise ConfigError(f"finetune: {count}\n" + "\n".join(f"  {line}" for line in found))
    return settings
