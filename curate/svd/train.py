"""The training loop of Stable Video Diffusion, and the loss on held-out clips.

    each step:  batches of windows -> latents and clean first frames            curate.svd.data
                own noise augmentation, drops, sigma, noise for each window     curate.svd.data, conditioning
                |F(c_in x, c_noise; cond) - v|^2                                curate.svd.loss, denoiser
                backward, accumulated; gradients averaged over processes, clipped; AdamW; running average
                a line in the log; now and then validation, samples, a checkpoint

A loss or a gradient that is not finite stops the run before the optimizer's step: the weights stay what they were, and the message names
the clips. The state after step n and the configuration decide step n + 1 to the bit (deterministic algorithms, same device and number of
processes), so a run that was killed and continued is the run that was not.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import distributed

from curate.errors import ConfigError
from curate.svd.conditioning import draw_noise_aug
from curate.svd.data import Examples, TrainInput, drawn, generator_of
from curate.svd.denoiser import Denoiser
from curate.svd.encode import Encoders
from curate.svd.log import TrainLog
from curate.svd.loss import default_p_mean, loss_per_clip
from curate.svd.settings import Finetune, Noise, Optimizer
from curate.svd.state import Ema, TrainingError, TrainState, write_checkpoint


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together; one alone where torch.distributed has not been set up."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def here(cls) -> "Ranks":
        return cls(distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else cls()

    def gathered(self, own: list[Any]) -> list[Any]:
        """The lists of all processes, one after the other; every process must call it."""
        if self.world_size == 1:
            return own
        found: list[Any] = [None] * self.world_size
        distributed.all_gather_object(found, own)
        return [one for part in found for one in part]

    def any(self, flag: torch.Tensor) -> bool:
        """Whether the flag (bool, on the training device) is set in any process; every process must call it."""
        if self.world_size > 1:
            count = flag.to(torch.int32)
            distributed.all_reduce(count)
            return bool(count.item())
        return bool(flag.item())

    def mean(self, value: torch.Tensor) -> float:
        """Mean of a scalar over processes; every process must call it."""
        if self.world_size > 1:
            value = value.clone()
            distributed.all_reduce(value)
            value = value / self.world_size
        return float(value.item())


class Feed(Protocol):
    """Endless batches, and where to go on; `curate.svd.data.Batches` is one."""

    def __iter__(self) -> Iterator[Examples]: ...

    def state_dict(self, after: Examples | None) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(slots=True)
class Run:
    """What the loop works with. `network` is what is called: the UNet, or DistributedDataParallel around it (never taken off again).

    `unet` is the bare module; `state.parameters` are its trained weights. `validation` holds the same windows in every process. `on_sample`
    is called by rank 0 alone with the averaged weights in place. `log` and `checkpoints` are rank 0's.
    """

    settings: Finetune
    unet: Any
    network: Any
    state: TrainState
    batches: Feed
    encoders: Encoders
    device: torch.device
    ranks: Ranks = Ranks()
    validation: Sequence[Examples] = ()
    log: TrainLog | None = None
    checkpoints: Path | None = None
    on_sample: Callable[[int], None] | None = None
    on_step: Callable[[dict[str, Any]], None] | None = None


def train(run: Run) -> None:
    """Trains from `run.state` to `settings.steps`. Raises `TrainingError` before the step of a loss or gradient that is not finite."""
    settings, state, ranks = run.settings, run.state, run.ranks
    denoiser, parameters = Denoiser(run.network), list(state.parameters.values())
    if state.position is not None:
        run.batches.load_state_dict(state.position)
    stream = iter(run.batches)
    run.network.train()
    if run.validation and state.step == 0:
        _validate(run, denoiser)
    while state.step < settings.steps:
        start = time.monotonic()
        lr = learning_rate(state.step, settings.steps, settings.optimizer)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        inputs: list[TrainInput] = []
        losses: list[torch.Tensor] = []
        for i in range(settings.accumulate):
            examples = next(stream)
            one = drawn(examples, run.encoders, settings.noise, settings.seed)
            # Whatever asks torch itself for random numbers (dropout) gets those of this batch, before and after a restart. Not earlier:
            # a loader that begins an epoch asks too.
            torch.manual_seed(generator_of("step", settings.seed, state.step, i, ranks.rank).initial_seed())
            with _averaging(run.network, is_last=i == settings.accumulate - 1):
                with autocast(run.device, settings.precision):
                    per_clip = loss_per_clip(denoiser, one.clean_BTCHW, one.noise_BTCHW, one.sigma_B, one.cond)
                _stop_unless_finite(per_clip, one, state.step, ranks)
                (per_clip.mean() / settings.accumulate).backward()
            inputs.append(one)
            losses.append(per_clip.detach())
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, settings.optimizer.clip_grad_norm or math.inf)
        if not bool(torch.isfinite(grad_norm)):
            _stop_for_gradient(float(grad_norm), inputs, state, ranks)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.ema is not None:
            state.ema.update(state.parameters)
        state.step += 1
        state.position = run.batches.state_dict(after=examples)
        loss = ranks.mean(torch.cat(losses).mean())
        num_windows = sum(map(len, losses)) * ranks.world_size
        _report(run, start, epoch=examples.epoch, loss=loss, grad_norm=float(grad_norm), lr=lr, num_windows=num_windows)
        is_end = state.step == settings.steps
        if run.validation and (is_end or state.step % settings.validation.every == 0):
            _validate(run, denoiser)
        if settings.samples.every is not None and (is_end or state.step % settings.samples.every == 0):
            _sample(run)
        if run.checkpoints is not None and ranks.rank == 0 and (is_end or state.step % settings.checkpoints.every == 0):
            write_checkpoint(run.checkpoints, state, settings.checkpoints.keep)


def wrapped(unet: Any, device: torch.device, ranks: Ranks) -> Any:
    """What is called in training: the UNet, with gradients averaged over the processes where there are several."""
    if ranks.world_size == 1:
        return unet
    ids = [device.index] if device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(unet, device_ids=ids, gradient_as_bucket_view=True)


def make_state(parameters: dict[str, torch.nn.Parameter], settings: Optimizer) -> TrainState:
    """AdamW over float32 parameters, and their average. Raises `ConfigError` where the 8-bit optimizer is not installed."""
    kind: Any = torch.optim.AdamW
    if settings.kind == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise ConfigError("optimizer.kind=adamw8bit needs the package bitsandbytes: pip install bitsandbytes, or use adamw") from error
        kind = AdamW8bit
    optimizer = kind(list(parameters.values()), lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)
    return TrainState(parameters, optimizer, None if settings.ema is None else Ema(parameters, settings.ema))


def learning_rate(step: int, num_steps: int, settings: Optimizer) -> float:
    """Of the step that follows `step` finished ones: linear from lr / warmup_steps to lr, then a cosine to final_lr * lr."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, num_steps - 1 - settings.warmup_steps)
    return settings.lr * (settings.final_lr + (1 - settings.final_lr) * (1 + math.cos(math.pi * min(1.0, share))) / 2)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 for matrix products and convolutions; weights, their gradients and the loss stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@torch.no_grad()
def validation_losses(
    denoiser: Denoiser,
    examples: Sequence[Examples],
    encoders: Encoders,
    noise: Noise,
    *,
    num_sigmas: int,
    seed: int,
    device: torch.device,
    precision: str = "fp32",
) -> torch.Tensor:
    """float32 (N, num_sigmas) on the CPU: losses of N single windows at even quantiles of the training distribution of sigma.

    Noise, strength of augmentation and sigmas follow from seed and window alone, so that differences between two calls are due to the
    weights, or to what was changed in the examples' conditions. Nothing is dropped.
    """
    rows = []
    for example in examples:
        one = example.to(device)
        generator = generator_of("validation", seed, one.clip_ids[0], one.start_ns_B[0])
        strength_B = draw_noise_aug(1, generator)
        pixel_noise = torch.randn(one.first_BCHW.shape, generator=generator)
        cond = encoders.conditioning(one.first_BCHW, one.fps_B, one.motion_bucket_B, strength_B, pixel_noise).to(device)
        p_mean = default_p_mean(*one.size) if noise.p_mean is None else noise.p_mean
        losses = []
        for quantile in (torch.arange(num_sigmas, dtype=torch.float64) + 0.5) / num_sigmas:
            sigma_B = torch.exp(p_mean + noise.p_std * torch.special.ndtri(quantile)).float()[None].to(device)
            latent_noise = torch.randn(one.latents_BTCHW.shape, generator=generator).to(device)
            with autocast(device, precision):
                losses.append(loss_per_clip(denoiser, one.latents_BTCHW, latent_noise, sigma_B, cond))
        rows.append(torch.cat(losses).cpu())
    return torch.stack(rows) if rows else torch.empty(0, num_sigmas)


def _averaging(network: Any, is_last: bool) -> AbstractContextManager[Any]:
    """Gradients are averaged over processes once a step, with the last of its batches."""
    holds_back = not is_last and isinstance(network, torch.nn.parallel.DistributedDataParallel)
    found: AbstractContextManager[Any] = network.no_sync() if holds_back else nullcontext()
    return found


def _stop_unless_finite(per_clip: torch.Tensor, one: TrainInput, step: int, ranks: Ranks) -> None:
    bad = ~torch.isfinite(per_clip.detach())
    if not ranks.any(bad.any()):
        return
    own = [_described(one, i) for i in torch.nonzero(bad).flatten().tolist()]
    raise TrainingError(
        f"step {step + 1}: the loss is not finite for {'; '.join(ranks.gathered(own))}. The weights are those of step {step}; look at "
        "these clips (`curate show`), lower optimizer.lr, or train with precision=fp32"
    )


def _stop_for_gradient(grad_norm: float, inputs: Sequence[TrainInput], state: TrainState, ranks: Ranks) -> None:
    state.optimizer.zero_grad(set_to_none=True)
    own = [_described(one, i) for one in inputs for i in range(len(one.clip_ids))]
    raise TrainingError(
        f"step {state.step + 1}: the gradient is not finite (norm {grad_norm}) though every loss was. The weights are those of step "
        f"{state.step}; the step's clips: {'; '.join(ranks.gathered(own))}. Lower optimizer.lr, or train with precision=fp32"
    )


def _described(one: TrainInput, i: int) -> str:
    return f"clip {one.clip_ids[i]} (sigma {float(one.sigma_B[i]):.4g}, noise_aug_strength {float(one.noise_aug_B[i]):.4g})"


def _report(run: Run, start: float, num_windows: int, **facts: Any) -> None:
    seconds = time.monotonic() - start
    peak = torch.cuda.max_memory_allocated(run.device) / 2**30 if run.device.type == "cuda" else None
    row = {"step": run.state.step, **facts, "num_windows": num_windows, "seconds": seconds, "windows_per_s": num_windows / seconds}
    if run.log is not None:
        run.log.train({**row, "peak_gib": peak})
    if run.on_step is not None:
        run.on_step(row)


def _validate(run: Run, denoiser: Denoiser) -> None:
    """The held-out windows are shared out among the processes; the log gets their mean, with the weights as they are and averaged."""
    start = time.monotonic()
    # The bare module: forward passes of one process alone must not wait for others.
    bare = Denoiser(run.unet)
    run.unet.eval()
    loss = _mean_validation_loss(run, bare)
    loss_ema = None
    if run.state.ema is not None:
        with run.state.ema.applied(run.state.parameters):
            loss_ema = _mean_validation_loss(run, bare)
    denoiser.unet.train()
    row = {"step": run.state.step, "loss": loss, "loss_ema": loss_ema, "num_windows": len(run.validation)}
    if run.log is not None:
        run.log.validation({**row, "seconds": time.monotonic() - start})


def _mean_validation_loss(run: Run, bare: Denoiser) -> float:
    settings = run.settings
    own = validation_losses(
        bare,
        run.validation[run.ranks.rank :: run.ranks.world_size],
        run.encoders,
        settings.noise,
        num_sigmas=settings.validation.sigmas,
        seed=settings.seed,
        device=run.device,
        precision=settings.precision,
    )
    # Summed in double precision over values sorted by size, so that the number of processes does not change the mean.
    losses = sorted(run.ranks.gathered(own.flatten().tolist()))
    return math.fsum(losses) / len(losses)


def _sample(run: Run) -> None:
    """Rank 0 makes clips with the averaged weights while the others wait."""
    if run.on_sample is not None and run.ranks.rank == 0:
        run.unet.eval()
        with run.state.ema.applied(run.state.parameters) if run.state.ema is not None else nullcontext():
            run.on_sample(run.state.step)
        run.network.train()
    if run.ranks.world_size > 1:
        distributed.barrier()
