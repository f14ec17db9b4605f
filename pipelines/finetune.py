"""The third job: curated clips in, weights out.

    check settings, weights, clips -> load -> train (curate.svd.train) -> averaged and last weights

    OUT/finetune.json        settings, checksums of weights and data: what a continued run must agree with
    OUT/train.csv, validation.csv, tensorboard/
    OUT/checkpoints/         the last ones; the same command goes on from there
    OUT/samples/step-N/      clips made on the way
    OUT/model/               at the end: the averaged weights, a whole model in diffusers' layout (mode=lora: OUT/lora.safetensors)
    OUT/model_last/          the weights of the last step, where an average was kept (mode=lora: OUT/lora_last.safetensors)
    OUT/motion_buckets.json  the map from motion to bucket that was trained with, needed again at inference

One process; or several under torchrun (`torchrun --nproc-per-node 8 -m curate svd finetune ...`), where a process group that is there is
joined; or `engine: ray` (curate.pipelines.engine.ray_train), which starts them. Whoever started them, the weights are the same.
"""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from curate import __version__
from curate.config import Config, weights_folders
from curate.errors import ConfigError
from curate.manifest import files
from curate.manifest.lock import locked
from curate.motion_bucket import MotionBuckets
from curate.pipelines.finetune_data import Data, read_data
from curate.pipelines.finetune_latents import LatentExport, check_same_vae
from curate.pipelines.finetune_watch import Lines, write_samples
from curate.svd.settings import Finetune

if TYPE_CHECKING:
    import torch

    from curate.svd.checkpoint import Model, ModelFiles
    from curate.svd.data import Examples
    from curate.svd.train import Ranks, Run

HEADER, FINISHED, BUCKETS = "finetune.json", "finished.json", "motion_buckets.json"
MODEL, MODEL_LAST, LORA, LORA_LAST = "model", "model_last", "lora.safetensors", "lora_last.safetensors"


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """How a fine-tune ended, as process `rank` knows it. `weights` is the model's folder, or the LoRA's file; losses are the first and
    last validation's.
    """

    weights: Path
    steps: int
    first_validation: float | None
    last_validation: float | None
    notes: tuple[str, ...]
    seconds: float
    rank: int = 0


def finetune(settings: Finetune, stream: TextIO | None = None) -> FinetuneResult:
    """Trains, or goes on. Raises `CurateError` for what the user can mend, most of it before weights are loaded."""
    if settings.engine == "ray":
        from curate.pipelines.engine import ray_train

        return ray_train.finetune(settings, stream)
    check_device(settings)
    with _group(settings) as (ranks, device), _held(Path(settings.out).expanduser().absolute(), ranks):
        return train_here(settings, ranks, device, stream)


def train_here(settings: Finetune, ranks: "Ranks", device: "torch.device", stream: TextIO | None = None) -> FinetuneResult:
    """This process' part of a fine-tune: in a process group that is there, on a device of its own, in a folder that the caller holds."""
    from curate.svd.checkpoint import find_model

    start = time.monotonic()
    out = Path(settings.out).expanduser().absolute()
    found = find_model(settings.model, search=weights_folders(Config(models=settings.models)), allow_download=True)
    prints = found.fingerprints()
    data = read_data(settings, _buckets(settings), prints.get("vae") or prints["single_file"])
    _check_header(out, settings, found, data, ranks)
    if ranks.rank == 0:
        data.train.clips.motion_buckets.save(out / BUCKETS)
    for note in data.notes:
        _say(stream, ranks, note)
    if _finished_step(out) != settings.steps:
        _train(settings, out, data, ranks, device, stream)
    return replace(_result(settings, out, data, time.monotonic() - start), rank=ranks.rank)


def _train(settings: Finetune, out: Path, data: Data, ranks: "Ranks", device: "torch.device", stream: TextIO | None) -> None:
    import torch

    from curate.svd.log import TrainLog
    from curate.svd.state import TrainingError
    from curate.svd.train import train

    run, model = _run(settings, out, data, ranks, device)
    run.on_step = Lines(stream, settings.steps).line if ranks.rank == 0 else None
    run.on_sample = lambda step: write_samples(run, model.vae, data.train, out / "samples" / f"step-{step:08d}")
    with _algorithms(settings), TrainLog(out, run.state.step) if ranks.rank == 0 else contextlib.nullcontext() as run.log:
        try:
            train(run)
        except torch.OutOfMemoryError as error:
            raise TrainingError(f"out of memory: {_less_memory(settings)}. ({str(error).splitlines()[0]})") from error
    if ranks.rank == 0:
        _write_weights(run, model, settings, out)


def _run(settings: Finetune, out: Path, data: Data, ranks: "Ranks", device: "torch.device") -> "tuple[Run, Model]":
    from curate.batches import BucketBatches
    from curate.svd.data import Batches, fixed_examples
    from curate.svd.state import checkpoints, read_checkpoint
    from curate.svd.train import Run, make_state, wrapped

    model = _model(settings, device)
    encoders, unet = model.encoders, model.unet
    parameters = _trainable(settings, unet)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    state = make_state(parameters, settings.optimizer)
    written = checkpoints(out / "checkpoints")
    if written:
        state.load_state_dict(read_checkpoint(written[-1]))
    if state.step > settings.steps:
        raise ConfigError(f"steps={settings.steps}, but {state.step} are done in {out}; raise it, or remove the later checkpoints")
    if len(steps := set(ranks.gathered([state.step]))) > 1:
        raise ConfigError(
            f"processes see different checkpoints in out={out} (steps {sorted(steps)}); it must be a folder that all machines share"
        )
    clips: Any = data.train.clips  # a `WindowSource` that has sizes as well
    if isinstance(clips, LatentExport):
        check_same_vae(clips, encoders)
    order = BucketBatches(clips, settings.batch_size, seed=settings.seed, rank=ranks.rank, world_size=ranks.world_size)
    network = wrapped(unet, device, ranks)
    validation: list[Examples] = []
    if data.validation is not None:
        validation = fixed_examples(data.validation, encoders, settings.validation.max_clips, settings.seed)
    batches = Batches(data.train, order, encoders, device, settings.windows.workers)
    run = Run(settings, unet, network, state, batches, encoders, device, ranks, validation, checkpoints=out / "checkpoints")
    return run, model


def _model(settings: Finetune, device: "torch.device") -> "Model":
    """The model with the weights of `init` in its UNet, and an adapter where one is trained."""
    import torch

    from curate.svd.checkpoint import load_model
    from curate.svd.lora import add_lora, load_lora, merge_lora, read_lora

    search = weights_folders(Config(models=settings.models))
    model = load_model(settings.model, device=device, search=search, allow_download=True)
    adapter = None
    if settings.init is not None:
        earlier = Path(settings.init).expanduser()
        if (earlier / MODEL).is_dir():
            own = load_model(str(earlier / MODEL), device=device, parts=("unet",))
            model = replace(model, unet=own.unet, name=own.name)
        else:
            adapter = earlier / LORA
            rank = read_lora(adapter)[1].rank
            if settings.mode == "lora" and rank != settings.lora.rank:
                raise ConfigError(
                    f"lora.rank={settings.lora.rank}, but init={settings.init} holds a LoRA of rank {rank}; set lora.rank={rank}"
                )
            load_lora(model.unet, adapter)
            if settings.mode != "lora":
                merge_lora(model.unet)
    if settings.mode == "lora":
        if adapter is None:
            add_lora(model.unet, settings.lora.rank, settings.lora.alpha, settings.lora.targets)
        if settings.precision == "bf16":
            # Autocast would round them at every use; an adapter's file does not hold them.
            for name, parameter in model.unet.named_parameters():
                if ".lora_" not in name:
                    parameter.data = parameter.data.to(torch.bfloat16)
    return model


def _trainable(settings: Finetune, unet: Any) -> "dict[str, torch.nn.Parameter]":
    from curate.svd.lora import trainable

    return dict(trainable(unet, settings.mode))


def _write_weights(run: "Run", model: "Model", settings: Finetune, out: Path) -> None:
    ema = run.state.ema
    run.unet.eval()
    if ema is None:
        _save(model, settings, out, MODEL, LORA)
    else:
        _save(model, settings, out, MODEL_LAST, LORA_LAST)
        with ema.applied(run.state.parameters):
            _save(model, settings, out, MODEL, LORA)
    files.write_file(out / FINISHED, json.dumps({"step": run.state.step, "weights": LORA if settings.mode == "lora" else MODEL}).encode())


def _save(model: "Model", settings: Finetune, out: Path, folder: str, file: str) -> None:
    """Appears whole, in place of what an earlier, shorter training left under the name."""
    from curate.svd.checkpoint import save_diffusers
    from curate.svd.lora import save_lora

    if settings.mode == "lora":
        save_lora(out / file, model.unet, base=model.name, targets=settings.lora.targets)
        return
    aside, old = (out / f"{files.ASIDE_PREFIX}{folder}-{which}" for which in ("new", "old"))
    for path in (aside, old):
        shutil.rmtree(path, ignore_errors=True)
    save_diffusers(aside, model)
    shutil.copyfile(out / BUCKETS, aside / BUCKETS)
    if (out / folder).exists():
        (out / folder).rename(old)
    files.rename_folder(aside, out / folder)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _group(settings: Finetune) -> "Iterator[tuple[Ranks, torch.device]]":
    """This process among those that torchrun, or another launcher, started; and its device."""
    import torch
    from torch import distributed

    from curate.svd.train import Ranks

    owns = distributed.is_available() and distributed.is_torchelastic_launched() and not distributed.is_initialized()
    if owns:
        distributed.init_process_group("nccl" if settings.device == "cuda" else "gloo")
    try:
        ranks, device = Ranks.here(), torch.device("cpu")
        if settings.device == "cuda":
            device = torch.device("cuda", distributed.get_node_local_rank(fallback_rank=0) if ranks.world_size > 1 else 0)
            torch.cuda.set_device(device)
        yield ranks, device
    finally:
        if owns:
            distributed.destroy_process_group()


@contextlib.contextmanager
def _held(out: Path, ranks: "Ranks") -> Iterator[None]:
    """Rank 0 holds the folder against another run."""
    if ranks.rank:
        yield
        return
    files.make_folder(out)
    with locked(out):
        yield


@contextlib.contextmanager
def _algorithms(settings: Finetune) -> Iterator[None]:
    """Deterministic ones where that is asked for; what was set before is set again."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    if settings.deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def check_device(settings: Finetune) -> None:
    """Raises `ConfigError` where there is no such device; to be called before the device is used."""
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device=cuda: there is no CUDA device here; set device=cpu precision=fp32 (for tiny models), or use another machine"
        )
    if settings.device == "cuda" and settings.deterministic:
        # cuBLAS takes its workspace's size when it is first used, and is deterministic with this one only (torch, reproducibility).
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _buckets(settings: Finetune) -> MotionBuckets | None:
    """The map that was named, else that of the fine-tune this one begins with; None fits one to the training clips."""
    if settings.windows.motion_buckets is not None:
        return MotionBuckets.load(Path(settings.windows.motion_buckets).expanduser())
    if settings.init is None:
        return None
    earlier = Path(settings.init).expanduser()
    if not (earlier / FINISHED).is_file():
        state = "has not been trained to its end" if (earlier / HEADER).is_file() else "is no output of `curate svd finetune`"
        raise ConfigError(f"init={settings.init} {state}: there is no {FINISHED}; finish it first, or begin with model= alone")
    return MotionBuckets.load(earlier / BUCKETS)


def _check_header(out: Path, settings: Finetune, found: "ModelFiles", data: Data, ranks: "Ranks") -> None:
    """Writes the header of a new run; of one that goes on, checks that it is the same. Every process waits for rank 0."""
    if ranks.rank == 0:
        now = {
            "settings": settings.identity(),
            "weights": found.fingerprints(),
            "data": data.digest,
            "world_size": ranks.world_size,
            "versions": {"curate": __version__},
        }
        path = out / HEADER
        if path.is_file():
            _compare(out, json.loads(path.read_bytes()), now)
        elif foreign := sorted(entry.name for entry in out.iterdir() if not entry.name.startswith(".")):
            raise ConfigError(f"out={out} is not empty and holds no fine-tune ({', '.join(foreign[:5])}); name a new or an empty folder")
        else:
            files.write_file(path, json.dumps(now, indent=1).encode())
    if ranks.world_size > 1:
        from torch import distributed

        distributed.barrier()


def _compare(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = list(_differences(before["settings"], now["settings"]))
    names = {"weights": "other files of model", "data": "other clips or files in data", "world_size": "another number of processes"}
    changed += [text for key, text in names.items() if before[key] != now[key]]
    if changed:
        raise ConfigError(f"out={out} holds a fine-tune with other settings ({'; '.join(changed)}); name another out=, or set them back")


def _differences(before: Any, now: Any, above: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{above}.{key}" if above else key)
    elif before != now:
        yield f"{above}: {before} -> {now}"


def _finished_step(out: Path) -> int | None:
    path = out / FINISHED
    return int(json.loads(path.read_bytes())["step"]) if path.is_file() else None


def _result(settings: Finetune, out: Path, data: Data, seconds: float) -> FinetuneResult:
    from curate.svd.log import read_rows

    losses = [float(row["loss_ema"] or row["loss"]) for row in read_rows(out / "validation.csv")]
    weights = out / (LORA if settings.mode == "lora" else MODEL)
    return FinetuneResult(weights, settings.steps, losses[0] if losses else None, losses[-1] if losses else None, data.notes, seconds)


def _less_memory(settings: Finetune) -> str:
    """What to change, the cheapest first."""
    ways = []
    if settings.batch_size > 1:
        ways.append(f"batch_size=1 accumulate={settings.accumulate * settings.batch_size}")
    if not settings.gradient_checkpointing:
        ways.append("gradient_checkpointing=true")
    if settings.precision == "fp32":
        ways.append("precision=bf16")
    if settings.mode != "lora":
        ways += ["optimizer.kind=adamw8bit"] if settings.optimizer.kind == "adamw" else []
        ways += ["optimizer.ema=null"] if settings.optimizer.ema is not None else []
        ways.append("mode=lora")
    return f"try {', or '.join([*ways, 'smaller windows.sizes', 'fewer windows.num_frames'])}"


def _say(stream: TextIO | None, ranks: "Ranks", text: str) -> None:
    if ranks.rank == 0:
        (stream or sys.stderr).write(f"{text}\n")
