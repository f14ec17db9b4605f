"""A fine-tune on Ray Train is the fine-tune of the same number of processes, whatever happens to them on the way."""

import contextlib
import io
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from svd_builders import tiny_model
from svd_training import DEFAULTS, films_manifest

from curate.errors import ConfigError
from curate.manifest.lock import LOCK_NAME, locked
from curate.pipelines.engine import ray_train
from curate.pipelines.finetune import finetune
from curate.svd.checkpoint import load_model
from curate.svd.log import read_rows
from curate.svd.settings import Finetune, parse_finetune
from curate.svd.state import TrainingError

VALIDATION = {"fraction": 0.4, "every": 4, "max_clips": 2, "sigmas": 2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a Ray cluster that runs beside the tests."""
    from ray.cluster_utils import Cluster

    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield running.address
    running.shutdown()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    own = {"batch_size": 1, "validation": VALIDATION, "deterministic": True, "checkpoints": {"every": 2}, "steps": 6}
    model = tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    return {**DEFAULTS, **own, "model": str(model), "data": str(films_manifest(tmp_path_factory))}


def train_in_pair(rank: int, settings: Finetune, meet: str) -> None:
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    finetune(settings)
    distributed.destroy_process_group()


def writer_of(path: Path) -> int | None:
    """The process that has a file open."""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(os.readlink(link) == str(path) for link in folder.iterdir()):
                return int(folder.parent.name)
    return None


def kill_once(log: Path, step: int) -> None:
    while len(read_rows(log)) < step or (writer := writer_of(log)) is None:
        time.sleep(0.01)
    os.kill(writer, signal.SIGKILL)


def losses(out: Path) -> list[tuple[str, ...]]:
    found = [*read_rows(out / "train.csv"), *read_rows(out / "validation.csv")]
    return [(row["step"], row["loss"], row.get("grad_norm", "")) for row in found]


@pytest.mark.slow
def test_a_killed_worker_costs_no_bit_of_what_two_processes_train(base: dict[str, Any], cluster: str, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    plain = parse_finetune({**base, "out": str(tmp_path / "pair")})
    pair = [fork.Process(target=train_in_pair, args=(rank, plain, str(tmp_path / "meet"))) for rank in (0, 1)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(60)
        assert process.exitcode == 0
    out, said = tmp_path / "ray", io.StringIO()
    threading.Thread(target=kill_once, args=(out / "train.csv", 3), daemon=True).start()
    result = finetune(parse_finetune({**base, "out": str(out), "engine": "ray", "workers": 2, "ray_address": cluster}), said)
    assert result.weights == out / "model" and result.steps == 6
    told = said.getvalue()
    # Either process may be heard of first: the one that was killed, or the one that lost it.
    assert "training process" in told and "going on from step 2 (restart 1 of 3)" in told
    assert "2 clips to train on, 1 held out\n" in told and "step 6 of 6  loss" in told, "rank 0's lines arrive here"
    ours, theirs = (load_model(str(folder / "model_last"), parts=("unet",)).unet.state_dict() for folder in (out, tmp_path / "pair"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert losses(out) == losses(tmp_path / "pair")
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_workers_error_arrives_as_it_is_and_is_not_tried_again(base: dict[str, Any], cluster: str, tmp_path: Path) -> None:
    given, said = {**base, "out": str(tmp_path), "engine": "ray", "workers": 1, "ray_address": cluster}, io.StringIO()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"^out=.* is not empty and holds no fine-tune \(notes.txt\); name a new or an empty folder$"):
        finetune(parse_finetune(given), said)
    assert "restart" not in said.getvalue()
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir() if path.name != LOCK_NAME] == ["notes.txt"]


@pytest.mark.slow
def test_more_processes_than_the_cluster_holds_are_refused_at_once(base: dict[str, Any], cluster: str, tmp_path: Path) -> None:
    given = {**base, "out": str(tmp_path), "engine": "ray", "ray_address": cluster}
    with pytest.raises(ConfigError, match="needs 3 CPUs, one for each training process, Ray sees 2 CPUs"):
        finetune(parse_finetune({**given, "workers": 3}))


def test_a_folder_that_a_machine_does_not_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the machine .* does not see what .* wrote there; engine=ray needs a folder that all"):
        ray_train._check_mark(tmp_path / "elsewhere" / "mark", wait_s=0)
    with ray_train._mark(tmp_path) as mark:
        ray_train._check_mark(Path(mark), wait_s=0)
    assert not list(tmp_path.iterdir())


def test_what_cannot_end_otherwise_is_not_tried_again() -> None:
    faults = [TrainingError("the loss is not finite"), RuntimeError("Connection closed by peer"), KeyError("seed")]
    mended, lost, bug = (ray_train._Fault.of(error) for error in faults)
    begun = {0: "a", 1: "b"}
    with pytest.raises(TrainingError, match="not finite"):
        ray_train._raise_unless_worth_another(ray_train._News(begun, faults={0: lost, 1: mended}), None, 2)
    with pytest.raises(RuntimeError, match="KeyError: 'seed'"):
        ray_train._raise_unless_worth_another(ray_train._News(begun, faults={1: bug}), None, 2)
    with pytest.raises(TrainingError, match="could not start 2 training processes: no module named curate"):
        ray_train._raise_unless_worth_another(ray_train._News(), "trace\nno module named curate", 2)
    news = ray_train._News(begun, faults={0: lost})
    ray_train._raise_unless_worth_another(news, "worker group", 2)
    assert ray_train._why(news) == "training process 1 on b died (killed, crashed, or out of memory)"
