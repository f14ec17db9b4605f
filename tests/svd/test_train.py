"""The loop: it learns, averages over processes, stops before a bad step, and does what its schedule says."""

import itertools
import math
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from svd_builders import tiny_unet
from svd_training import NUM_FRAMES, clips_of, encoders, films_manifest, run_of, settings_of

from curate.batches import BucketBatches
from curate.dataset import CuratedClips
from curate.errors import ConfigError
from curate.svd.data import Batches, Examples, Windows, fixed_examples
from curate.svd.denoiser import Denoiser
from curate.svd.encode import Encoders
from curate.svd.log import TrainLog, read_rows
from curate.svd.loss import default_p_mean
from curate.svd.settings import Noise, Optimizer, load_finetune
from curate.svd.state import TrainingError
from curate.svd.train import Ranks, Run, learning_rate, make_state, train, validation_losses, wrapped

CPU = torch.device("cpu")
SMALL = (32, 32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> CuratedClips:
    return clips_of(films_manifest(tmp_path_factory), settings_of())


@pytest.fixture(scope="module")
def both() -> Encoders:
    return encoders()


class Repeated:
    """A feed of given latents, another epoch each time so that the draws are new."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __iter__(self) -> Iterator[Examples]:
        return (replace(self.examples, epoch=epoch) for epoch in itertools.count())

    def state_dict(self, after: Examples | None) -> dict[str, Any]:
        return {"epoch": 0 if after is None else after.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise AssertionError("nothing is resumed here")


def given(num: int = 2) -> Examples:
    """A smooth picture that moves by one latent a frame, unit variance, `num` times."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.nn.functional.interpolate(torch.randn(1, 4, 3, 3, generator=generator), (8, 8), mode="bicubic")[0]
    latents = torch.stack([picture.roll(t, -1) for t in range(NUM_FRAMES)])
    first = torch.rand(3, 64, 64, generator=generator) * 2 - 1
    repeated = ((latents / latents.std()).expand(num, -1, -1, -1, -1), first.expand(num, -1, -1, -1))
    return Examples(*repeated, (7,) * num, (100,) * num, tuple(f"clip{i}" for i in range(num)), (0,) * num, 0, 0)


def run_on(examples: Examples, both: Encoders, **more: Any) -> tuple[Run, list[dict[str, Any]]]:
    """A run over the same examples for ever, and the rows that it reports."""
    rows: list[dict[str, Any]] = []
    settings = settings_of(**more)
    unet = tiny_unet(NUM_FRAMES, channels=SMALL)
    state = make_state(dict(unet.named_parameters()), settings.optimizer)
    return Run(settings, unet, unet, state, Repeated(examples), both, CPU, on_step=rows.append), rows


@pytest.mark.slow
def test_one_clip_is_learned_by_heart(both: Encoders) -> None:
    noise = {"p_mean": 1.5, "p_std": 0.5, "drop_embed": 0}
    optimizer = {"lr": 4e-3, "warmup_steps": 5, "final_lr": 0.02, "ema": 0.95}
    run, rows = run_on(given(), both, steps=80, noise=noise, optimizer=optimizer)
    held = [given(1)]

    def loss() -> float:
        own = validation_losses(Denoiser(run.unet), held, both, run.settings.noise, num_sigmas=4, seed=0, device=CPU)
        return float(own.mean())

    before = loss()
    train(run)
    assert 0.9 < before < 1.5, "the loss of a network that knows nothing is about the variance of v"
    assert rows[-1]["step"] == 80
    assert loss() < 0.05 * before
    assert run.state.ema is not None
    with run.state.ema.applied(run.state.parameters):
        assert loss() < 0.05 * before


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_clip(both: Encoders) -> None:
    examples = given(3)
    latents = examples.latents_BTCHW.clone()
    latents[1, 2, 0, 3, 3] = float("nan")
    run, rows = run_on(replace(examples, latents_BTCHW=latents), both)
    before = {name: value.clone() for name, value in run.unet.state_dict().items()}
    with pytest.raises(TrainingError, match=r"step 1: the loss is not finite for clip clip1 \(sigma [\d.]+") as stopped:
        train(run)
    assert "clip0" not in str(stopped.value) and "clip2" not in str(stopped.value)
    assert all(torch.equal(value, before[name]) for name, value in run.unet.state_dict().items())
    assert run.state.step == 0 and not run.state.optimizer.state and not rows


def test_a_gradient_that_is_not_finite_stops_before_the_step_and_names_the_clips(both: Encoders) -> None:
    run, rows = run_on(given(2), both, steps=3, optimizer={"ema": 0.9})
    parameter = run.unet.conv_out.weight
    # As a low precision overflows: the loss is finite, its gradient is not; from the second step on.
    parameter.register_hook(lambda grad: grad * (math.inf if rows else 1.0))
    with pytest.raises(TrainingError, match=r"step 2: the gradient is not finite .*clip clip0 .*clip clip1 "):
        train(run)
    assert run.state.step == 1 and len(rows) == 1
    assert all(bool(torch.isfinite(value).all()) for value in run.unet.state_dict().values())
    assert run.state.ema is not None and run.state.ema.num_updates == 1


def test_accumulated_batches_are_one_large_batch(clips: CuratedClips, both: Encoders) -> None:
    ends = []
    for batch_size, accumulate in ((2, 1), (1, 2)):
        settings = settings_of(steps=1, batch_size=batch_size, accumulate=accumulate)
        run = run_of(clips, settings, tiny_unet(NUM_FRAMES, channels=SMALL), encoders=both, shuffle=False)
        grads: dict[str, torch.Tensor] = {}
        run.state.optimizer.register_step_pre_hook(_keep_grads(run, grads))
        train(run)
        ends.append(grads)
    _assert_close(ends[0], ends[1])


def _keep_grads(run: Run, grads: dict[str, torch.Tensor]) -> Any:
    def keep(*_: Any) -> None:
        grads.update({name: parameter.grad.clone() for name, parameter in run.state.parameters.items()})

    return keep


def _assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    """Equal but for the order of float32 sums: 1e-4 of the largest gradient of the network."""
    assert a.keys() == b.keys() and a
    largest = max(float(grad.abs().max()) for grad in a.values())
    for name in a:
        assert float((a[name] - b[name]).abs().max()) < 1e-4 * largest, name


def _train_in_pair(rank: int, clips: CuratedClips, file: str, out: Path) -> None:
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    settings = settings_of(steps=2, batch_size=1, validation={"every": 2, "sigmas": 2})
    unet, ranks, both = tiny_unet(NUM_FRAMES, channels=SMALL), Ranks.here(), encoders()
    run = run_of(clips, settings, unet, encoders=both, shuffle=False, ranks=ranks, network=wrapped(unet, CPU, ranks))
    run.validation = fixed_examples(Windows(clips, takes_all=False), both, 3, 0)
    grads: dict[str, torch.Tensor] = {}
    run.state.optimizer.register_step_pre_hook(_keep_grads(run, grads))
    with TrainLog(out / str(rank), 0) as run.log:
        train(run)
    torch.save({"grads": grads, "weights": unet.state_dict()}, out / str(rank) / "end.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_average_their_gradients_as_one_with_the_double_batch(clips: CuratedClips, both: Encoders, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for name in ("0", "1", "one"):
        (tmp_path / name).mkdir()
    pair = [fork.Process(target=_train_in_pair, args=(rank, clips, str(tmp_path / "meet"), tmp_path)) for rank in (0, 1)]
    for process in pair:
        process.start()
    settings = settings_of(steps=2, batch_size=2, validation={"every": 2, "sigmas": 2})
    run = run_of(clips, settings, tiny_unet(NUM_FRAMES, channels=SMALL), encoders=both, shuffle=False)
    run.validation = fixed_examples(Windows(clips, takes_all=False), both, 3, 0)
    grads: dict[str, torch.Tensor] = {}
    run.state.optimizer.register_step_pre_hook(_keep_grads(run, grads))
    with TrainLog(tmp_path / "one", 0) as run.log:
        train(run)
    for process in pair:
        process.join(60)
        assert process.exitcode == 0
    ends = [torch.load(tmp_path / str(rank) / "end.pt") for rank in (0, 1)]
    for part in ("grads", "weights"):
        assert all(torch.equal(ends[0][part][name], ends[1][part][name]) for name in ends[0][part]), "both have the same, to the bit"
    _assert_close(ends[0]["grads"], grads)
    rows = {name: read_rows(tmp_path / name / "train.csv") for name in ("0", "1", "one")}
    losses = {name: [float(row["loss"]) for row in found] for name, found in rows.items()}
    assert losses["0"] == losses["1"] == pytest.approx(losses["one"], rel=1e-4)
    assert [row["num_windows"] for row in rows["0"]] == ["2", "2"]
    validated = [float(read_rows(tmp_path / name / "validation.csv")[0]["loss"]) for name in ("0", "1", "one")]
    assert validated[0] == validated[1] == pytest.approx(validated[2], rel=1e-4)


def test_checkpointed_gradients_are_the_same_gradients(both: Encoders) -> None:
    found = []
    for is_checkpointed in (False, True):
        run, _ = run_on(given(1), both, steps=1)
        if is_checkpointed:
            run.unet.enable_gradient_checkpointing()
        grads: dict[str, torch.Tensor] = {}
        run.state.optimizer.register_step_pre_hook(_keep_grads(run, grads))
        train(run)
        found.append(grads)
    _assert_close(found[0], found[1])
    assert all(float(grad.abs().sum()) > 0 for name, grad in found[1].items() if "temporal" in name and name.endswith("weight"))


def test_autocast_keeps_weights_and_gradients_in_float32(both: Encoders) -> None:
    run, rows = run_on(given(1), both, steps=1, precision="bf16")
    seen: dict[str, torch.Tensor] = {}
    run.state.optimizer.register_step_pre_hook(_keep_grads(run, seen))
    plain, plain_rows = run_on(given(1), both, steps=1)
    train(run)
    train(plain)
    assert {grad.dtype for grad in seen.values()} == {parameter.dtype for parameter in run.unet.parameters()} == {torch.float32}
    assert rows[0]["loss"] != plain_rows[0]["loss"]
    assert rows[0]["loss"] == pytest.approx(plain_rows[0]["loss"], rel=0.03)  # bfloat16 has 8 bits


def test_validation_is_the_same_number_until_weights_or_conditions_change(clips: CuratedClips, both: Encoders) -> None:
    held = fixed_examples(Windows(clips, takes_all=False), both, 2, seed=5)
    assert len(held) == 2 and held[0].clip_ids != held[1].clip_ids
    denoiser, options = Denoiser(tiny_unet(NUM_FRAMES, channels=SMALL)), {"num_sigmas": 3, "seed": 1, "device": CPU}
    first, again = (validation_losses(denoiser, held, both, Noise(), **options) for _ in range(2))
    assert first.shape == (2, 3) and torch.equal(first, again)
    other = [replace(one, motion_bucket_B=(one.motion_bucket_B[0] // 2,)) for one in held]
    changed = validation_losses(denoiser, other, both, Noise(), **options)
    assert not torch.equal(first, changed) and float((first - changed).abs().max()) < 0.2, "the same noise, another bucket"


def test_worker_processes_give_the_same_batches(clips: CuratedClips, both: Encoders) -> None:
    found = []
    for num_workers in (0, 1):
        batches = Batches(Windows(clips, takes_all=False), BucketBatches(clips, 1, seed=3), both, "cpu", num_workers)
        found.append(list(itertools.islice(iter(batches), 5)))
    for one, other in zip(*found, strict=True):
        assert (one.clip_ids, one.start_ns_B, one.epoch, one.step) == (other.clip_ids, other.start_ns_B, other.epoch, other.step)
        assert torch.equal(one.latents_BTCHW, other.latents_BTCHW)
    assert found[0][0].epoch == 0 and found[0][-1].epoch == 1
    seen = {(one.clip_ids, one.start_ns_B) for one in found[0]}
    assert len(seen) > 3, "a clip's window is another one in the next epoch"


def test_the_learning_rate_warms_up_and_ends_where_it_should() -> None:
    settings = Optimizer(lr=0.2, warmup_steps=4, final_lr=0.1)
    rates = [learning_rate(step, 11, settings) for step in range(11)]
    assert rates[:5] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2])
    assert rates[7] == pytest.approx((0.2 + 0.02) / 2), "half way of the cosine"
    assert rates[10] == pytest.approx(0.02)
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))


def test_a_configuration_says_everything_that_is_wrong_with_it() -> None:
    words = ["model=m", "data=d", "out=o", "windows.sizes=[1000x576]", "lr=1", "optimizer.ema=1", "mode=half"]
    with pytest.raises(ConfigError) as wrong:
        load_finetune(None, words)
    text = str(wrong.value)
    assert "4 problems" in text
    for part in ("the nearest is 1024x576", "Nearest: optimizer.lr", "optimizer.ema = 1", "one of full, temporal, lora"):
        assert part in text
    with pytest.raises(ConfigError, match="model and out must be given"):
        load_finetune(None, ["data=d"])
    with pytest.raises(ConfigError, match=r"set windows\.epochs"):
        load_finetune(None, [*words[:3], "windows.cache=c"])


def test_the_8_bit_optimizer_says_what_it_needs() -> None:
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        make_state({"a": torch.nn.Parameter(torch.zeros(2))}, Optimizer(kind="adamw8bit"))


@pytest.mark.parametrize("name", ["svd_lora", "svd_full", "svd_stage2", "svd_stage3"])
def test_the_configurations_load_with_data_and_out_and_keep_to_the_paper(name: str) -> None:
    folder = Path(__file__).resolve().parents[2] / "configs"
    settings = load_finetune(folder / f"{name}.yaml", ["data=manifest", "out=run"])
    p_means = {settings.noise.p_mean or default_p_mean(*size) for size in settings.windows.pixels}
    assert p_means == {0.7 if name == "svd_stage2" else 1.0} and settings.noise.p_std == 1.6
    if name != "svd_lora":
        assert settings.batch_size * settings.accumulate * 8 == 768
        assert (settings.optimizer.lr, settings.optimizer.ema, settings.steps) == (3e-5, 0.9999, 50_000)
    assert settings.noise.drop == "joint" and settings.noise.drop_embed > 0
