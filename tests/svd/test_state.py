"""Checkpoints are whole whatever moment the writer was killed at; a run that goes on is the run that never stopped."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from svd_builders import tiny_unet
from svd_training import clips_of, films_manifest, run_of, settings_of

from curate.dataset import CuratedClips
from curate.errors import ExportError
from curate.svd.data import LatentCache
from curate.svd.log import TrainLog, read_rows
from curate.svd.state import Ema, TrainingError, TrainState, checkpoints, read_checkpoint, write_checkpoint
from curate.svd.train import train


def small_state(fill: float, size: int = 8) -> TrainState:
    parameters = {"a": torch.nn.Parameter(torch.full((size,), float(fill))), "b": torch.nn.Parameter(torch.full((2, size), -float(fill)))}
    optimizer = torch.optim.AdamW(list(parameters.values()))
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, fill)
    optimizer.step()
    return TrainState(parameters, optimizer, Ema(parameters, 0.9), step=int(fill), position={"epoch": 1, "num_done": int(fill)})


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    state = small_state(5)
    path = write_checkpoint(tmp_path, state, keep=2)
    other = small_state(7)
    assert not same(other.state_dict(), state.state_dict())
    other.load_state_dict(read_checkpoint(path))
    assert same(other.state_dict(), state.state_dict())


def test_the_last_n_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write_checkpoint(tmp_path, small_state(step), keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000003", "step-00000004"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_checkpoint_is_named_with_the_one_before_it(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, small_state(1), keep=2)
    path = write_checkpoint(tmp_path, small_state(2), keep=2)
    data = bytearray((path / "state.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "state.pt").write_bytes(data)
    with pytest.raises(TrainingError, match=r"step-00000002: .*damaged.*go on from step-00000001"):
        read_checkpoint(path)


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, small_state(1), keep=1)
    with pytest.raises(TrainingError, match="2 weights differ, such as a"):
        small_state(1, size=9).load_state_dict(read_checkpoint(path))


def _write_for_ever(folder: Path, first: int) -> None:
    for step in range(first, first + 10_000):
        write_checkpoint(folder, small_state(step, size=200_000), keep=2)


def test_whenever_the_writer_is_killed_every_checkpoint_that_is_there_is_whole(tmp_path: Path) -> None:
    rng = random.Random(1)
    fork = multiprocessing.get_context("fork")
    last, cut_short, num_kills = 0, 0, 0
    while num_kills < 6 or (not cut_short and num_kills < 60):
        num_kills += 1
        before = set(tmp_path.iterdir())
        process = fork.Process(target=_write_for_ever, args=(tmp_path, last + 1))
        process.start()
        # On a busy machine it takes the process a while to begin.
        while not checkpoints(tmp_path) or set(tmp_path.iterdir()) == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        found = checkpoints(tmp_path)
        assert found and len(found) <= 3  # one more than are kept, before the oldest is removed
        for path in found:
            step = read_checkpoint(path)["step"]
            assert path.name == f"step-{step:08d}" and step >= last - 1
        last = read_checkpoint(found[-1])["step"]
        cut_short += any(path.name.startswith(".curate-aside") for path in tmp_path.iterdir())
    assert cut_short, "no write was ever cut short, so the test said nothing"
    write_checkpoint(tmp_path, small_state(last + 1), keep=2)
    assert len(list(tmp_path.iterdir())) == 2, "what the killed ones left is removed"


def test_the_average_ramps_up_and_is_taken_off_again_to_the_bit() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.float32))
    ema, expected = Ema({"p": parameter}, 0.9), 0.0
    for n in range(1, 200):
        with torch.no_grad():
            parameter.copy_(torch.full((3,), 0.1 * n))
        ema.update({"p": parameter})
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * 0.1 * n
    torch.testing.assert_close(ema.average["p"], torch.full((3,), expected))
    before = parameter.detach().clone()
    with ema.applied({"p": parameter}):
        torch.testing.assert_close(parameter.detach(), torch.full((3,), expected))
    assert torch.equal(parameter.detach(), before)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> CuratedClips:
    return clips_of(films_manifest(tmp_path_factory), settings_of())


STEPS = {"steps": 5, "batch_size": 1, "accumulate": 2, "checkpoints": {"every": 1, "keep": 9}, "optimizer": {"warmup_steps": 2, "ema": 0.9}}


def _trained(clips: CuratedClips, folder: Path, **more: object) -> list[dict[str, str]]:
    """Trains, or goes on, as the pipeline does; rows of the log without the times."""
    settings = settings_of(**{**STEPS, **more})
    unet = tiny_unet(4, channels=(32, 32))
    unet.conv_act = torch.nn.Sequential(unet.conv_act, torch.nn.Dropout(0.1))  # asks torch's own generator
    run = run_of(clips, settings, unet, checkpoints=folder / "checkpoints", cache=None)
    found = checkpoints(folder / "checkpoints")
    if found:
        run.state.load_state_dict(read_checkpoint(found[-1]))
    with TrainLog(folder, run.state.step) as run.log:
        train(run)
    return [{key: row[key] for key in ("step", "epoch", "loss", "grad_norm", "lr")} for row in read_rows(folder / "train.csv")]


@pytest.fixture(scope="module")
def unbroken(clips: CuratedClips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    _trained(clips, folder)
    return folder


def _rows(folder: Path) -> list[dict[str, str]]:
    return [{key: row[key] for key in ("step", "epoch", "loss", "grad_norm", "lr")} for row in read_rows(folder / "train.csv")]


def _copy_until(folder: Path, step: int, target: Path) -> None:
    """What a run that was killed after `step` left: its checkpoint, and a log that is already ahead of it."""
    target.mkdir()
    (target / "train.csv").write_bytes((folder / "train.csv").read_bytes() + b"6,2,0.1")
    (target / "checkpoints").mkdir()
    name = f"step-{step:08d}"
    (target / "checkpoints" / name).symlink_to(folder / "checkpoints" / name)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_run_that_goes_on_has_the_same_losses_and_weights_to_the_bit(
    clips: CuratedClips, unbroken: Path, tmp_path: Path, step: int
) -> None:
    assert len({row["epoch"] for row in _rows(unbroken)}) > 1, "the run crosses an epoch"
    _copy_until(unbroken, step, tmp_path / "run")
    rows = _trained(clips, tmp_path / "run")
    assert rows == _rows(unbroken)
    ends = [read_checkpoint(checkpoints(folder / "checkpoints")[-1]) for folder in (unbroken, tmp_path / "run")]
    assert same(*ends)
    assert ends[0]["step"] == 5


def test_the_comparison_sees_another_seed(clips: CuratedClips, unbroken: Path, tmp_path: Path) -> None:
    assert _trained(clips, tmp_path, steps=1, seed=4)[0] != _rows(unbroken)[0]


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(clips: CuratedClips, unbroken: Path, tmp_path: Path) -> None:
    fork, rng, num_kills = multiprocessing.get_context("fork"), random.Random(2), 0
    while num_kills < 3:
        process = fork.Process(target=_trained, args=(clips, tmp_path))
        process.start()
        process.join(rng.uniform(0.5, 1.2))
        if process.exitcode == 0:
            break
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        num_kills += 1
    assert num_kills, "the run ended before it was killed"
    assert _trained(clips, tmp_path) == _rows(unbroken)
    assert same(*(read_checkpoint(checkpoints(folder / "checkpoints")[-1]) for folder in (unbroken, tmp_path)))


def test_a_run_goes_on_only_with_the_same_order_of_batches(clips: CuratedClips, unbroken: Path, tmp_path: Path) -> None:
    _copy_until(unbroken, 2, tmp_path / "run")
    with pytest.raises(ExportError, match="batch_size 1 -> 2"):
        _trained(clips, tmp_path / "run", batch_size=2)


def test_a_window_out_of_the_cache_trains_as_the_one_that_was_put_there(clips: CuratedClips, tmp_path: Path) -> None:
    settings = settings_of(steps=4, windows={"epochs": 1, "cache": "x"})
    losses = []
    for _ in range(2):
        cache = LatentCache(tmp_path / "cache", "these clips")
        run = run_of(clips, settings, tiny_unet(4, channels=(32, 32)), cache=cache, on_step=lambda row: losses.append(row["loss"]))
        train(run)
        assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == len(clips)
    assert losses[:4] == losses[4:]
    path = next((tmp_path / "cache").rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-10])
    train(run_of(clips, settings, tiny_unet(4, channels=(32, 32)), cache=cache, on_step=lambda row: losses.append(row["loss"])))
    assert losses[8:] == losses[:4], "a window that is damaged is made again"


def test_the_log_holds_every_step_once(tmp_path: Path) -> None:
    with TrainLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.train({"step": step, "epoch": 0, "loss": 1 / 3 * step})
            log.validation({"step": step, "loss": 0.5})
    with TrainLog(tmp_path, 1) as log:
        log.train({"step": 2, "loss": 9.0})
    assert [(row["step"], row["loss"]) for row in read_rows(tmp_path / "train.csv")] == [("1", repr(1 / 3)), ("2", "9.0")]
    assert [row["step"] for row in read_rows(tmp_path / "validation.csv")] == ["1"]
    assert json.loads(read_rows(tmp_path / "train.csv")[0]["loss"]) == 1 / 3
