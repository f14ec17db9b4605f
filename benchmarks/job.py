"""The whole job with models on Ray: clips per second, and where the processor time goes, as one stacked bar.

    python benchmarks/job.py [--input FOLDER] [--models FOLDER] [--workers 2] [--svg docs/images/job.svg] [SET=VALUE ...]

Without --input it takes the films of `make demo`. The configuration is that of the quickstart with CLIP ViT-B/16 added where its weights
are found; words such as `scorers.aesthetic.precision=int8` or `skip_models_when=[still,black]` change it. Every stage is processor time
of the worker's thread, and of its child's, nested ones left out; nothing of it goes into the manifest. "not computing" is the rest of
the clock, for all workers: Ray's start, waiting for shards, the decision, and other programs on the machine. The bar leaves it out.
"""

import argparse
import json
import os
import pickle
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from curate.manifest import Manifest
from curate.pipelines.curation_worker import CurationWork, CurationWorker

ROOT = Path(__file__).resolve().parent.parent
# Scorer -> stage; what is no scorer is named where it is patched.
STAGES = {"motion": "motion", "quality": "quality, synthetic", "synthetic": "quality, synthetic", "text": "text", "aesthetic": "CLIP"}
MODEL_STAGES = {"ppocr": "text", "craft": "text"}
COLORS = {
    "decoding": "#4c72b0",
    "shots": "#55a868",
    "frames kept": "#8fbc8f",
    "motion": "#c9a227",
    "quality, synthetic": "#e0cf84",
    "text": "#c44e52",
    "CLIP": "#8172b2",
    "loading models": "#b8a9d9",
    "writing": "#64b5cd",
    "the rest": "#8c8c8c",
}
IDLE = "not computing"
TIMES = "CURATE_BENCHMARK_TIMES"  # folder where each worker leaves its stages


class Stages:
    """Seconds of the thread's processor time in each stage; time in an inner stage does not count for the outer one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[str] = ["the rest"]
        self._since = time.thread_time()

    def switch(self, opens: str | None) -> None:
        """Enters a stage, or leaves the innermost one (None)."""
        now = time.thread_time()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now
        if opens is None:
            self._open.pop()
        else:
            self._open.append(opens)

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.switch(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(None)

        return wrapped

    def timed_steps(self, stage: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The same for a generator: only what it does between being asked and answering."""

        def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
            steps = function(*args, **kwargs)
            step = self.timed(stage, lambda: next(steps, wrapped))
            while (item := step()) is not wrapped:
                yield item

        return wrapped


@dataclass(frozen=True, slots=True)
class TimedWork(CurationWork):
    """The job's work with a clock on every stage, in the worker and in its child."""

    def open(self) -> Any:
        from curate.pipelines.worker.decoder import Decoder

        stages, folder = Stages(), os.environ[TIMES]
        _write_after(CurationWorker, "run", stages, folder)
        Manifest.write_shard = stages.timed("writing", Manifest.write_shard)  # type: ignore[method-assign]
        answer = Decoder._answer

        def timed_answer(self: Any, child: Any, message: Any) -> None:
            stage = "loading models" if message.kind == "load" else MODEL_STAGES.get(message.head["spec"]["kind"], "CLIP")
            stages.timed(stage, answer)(self, child, message)

        Decoder._answer = timed_answer  # type: ignore[method-assign]
        worker = CurationWork.open(self)
        worker._decoder._setup = pickle.dumps(_TimedSetup(worker._decoder._setup, folder))
        return worker


@dataclass(frozen=True, slots=True)
class _TimedSetup:
    """A pickle that starts the clock where it is loaded: in the child, which knows nothing of the benchmark otherwise."""

    setup: bytes
    folder: str

    def __reduce__(self) -> Any:
        return _timed_in_child, (self.setup, self.folder)


def _timed_in_child(setup: bytes, folder: str) -> Any:
    """Puts the clock around the functions that do a stage, in this process."""
    from curate import scan
    from curate.media.decode import PyAVReader
    from curate.media.picture import Picture
    from curate.pipelines import clip_rows
    from curate.pipelines.worker.child import Scanner
    from curate.shots import content

    stages = Stages()
    PyAVReader.frames = stages.timed_steps("decoding", PyAVReader.frames)  # type: ignore[method-assign]
    for owner, name, stage in (
        (PyAVReader, "__init__", "decoding"),
        (Picture, "tiny_bgr", "shots"),
        (content.CascadeDetector, "push", "shots"),
        (content.CascadeDetector, "finish", "shots"),
        (scan._OnePass, "_take", "frames kept"),
        (scan._OnePass, "_samples", "frames kept"),
        (clip_rows.ClipRows, "tables", "writing"),
    ):
        setattr(owner, name, stages.timed(stage, getattr(owner, name)))
    batch = Scanner._batch

    def timed_batch(self: Any, name: str) -> Any:
        known = name in self._scores
        found = batch(self, name)
        if not known:
            found._score = self._scores[name] = stages.timed(STAGES[name], self._scores[name])
        return found

    Scanner._batch = timed_batch  # type: ignore[method-assign]
    _write_after(Scanner, "run", stages, folder)
    return pickle.loads(setup)


def _write_after(owner: type, name: str, stages: Stages, folder: str) -> None:
    """Leaves the seconds in a file of this process after each call."""
    run = getattr(owner, name)

    def timed_run(*args: Any) -> Any:
        try:
            return run(*args)
        finally:
            stages.switch("the rest")
            stages.switch(None)
            (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(stages.seconds))

    setattr(owner, name, timed_run)


def measure(config: Any, workers: int) -> tuple[Any, dict[str, float]]:
    """The run's result, and seconds by stage over all workers; together they are `workers` times the clock."""
    import job

    from curate.pipelines import curation

    curation.CurationWork = job.TimedWork  # type: ignore[misc, assignment]
    with tempfile.TemporaryDirectory() as times:
        os.environ[TIMES] = times
        result = curation.run(config)
        found: Counter[str] = Counter()
        for path in Path(times).glob("*.json"):
            found.update(json.loads(path.read_text()))
    idle = max(0.0, workers * result.seconds - sum(found.values()))
    return result, {name: found[name] for name in COLORS if found[name]} | {IDLE: idle}


def bar(stages: dict[str, float], title: str) -> str:
    """One stacked bar as SVG, with its legend."""
    width, left, total = 900.0, 10.0, sum(stages.values())
    parts, x, legend = [], left, []
    for index, (name, seconds) in enumerate(stages.items()):
        color, wide = COLORS[name], seconds / total * (width - 2 * left)
        parts.append(f'<rect x="{x:.1f}" y="40" width="{wide:.1f}" height="46" fill="{color}" stroke="#fff"/>')
        if wide > 36:
            parts.append(f'<text x="{x + wide / 2:.1f}" y="68" text-anchor="middle">{seconds / total:.0%}</text>')
        row, column = divmod(index, 4)
        at_x, at_y = left + column * 220, 112 + row * 24
        legend.append(f'<rect x="{at_x:.0f}" y="{at_y - 11}" width="13" height="13" fill="{color}"/>')
        legend.append(f'<text x="{at_x + 20:.0f}" y="{at_y}">{name} {seconds:.1f} s</text>')
        x += wide
    height = 130 + 24 * ((len(stages) - 1) // 4)
    view = f'viewBox="0 0 {width:.0f} {height}" font-family="sans-serif" font-size="14" fill="#222"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {view}>'
    back = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, back, f'<text x="{left}" y="26" font-weight="bold">{title}</text>', *parts, *legend, "</svg>\n"])


def configuration(folder: Path, args: argparse.Namespace) -> Any:
    from curate.config import load_config
    from curate.pipelines.demo_media import build

    source = args.input
    if source is None:
        source = folder / "in"
        build(source)
    content = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    content |= {"engine": "ray", "shard_sources": 2, "max_failed_fraction": 1.0}
    content["scorers"]["aesthetic"] = {"model": "ViT-B-16", "optional": True}
    (folder / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    words = [f"input={source}", f"output={folder / 'out'}", f"workers={args.workers}", *args.words]
    return load_config(folder / "config.yaml", words + ([f"models={args.models}"] if args.models else []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("words", nargs="*", metavar="SET=VALUE")
    args = parser.parse_args()
    # Ray's workers import this file by its name.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(ROOT), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as name:
        result, stages = measure(configuration(Path(name), args), args.workers)
    summary, busy = result.summary, sum(stages.values()) - stages[IDLE]
    title = f"{summary.num_sources} files, {summary.num_scored} clips scored by {args.workers} workers in {busy:.0f} s of processor time"
    print(f"{title}: {summary.num_scored / busy:.2f} clips/s a core")
    clock = f"{result.seconds:.1f} s by the clock, {summary.num_scored / result.seconds:.2f} clips/s"
    print(f"{summary.decoded_s:.0f} s of video in {clock}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("| stage | s | of the computing | ms a scored clip |\n|---|---|---|---|")
    for stage, seconds in stages.items():
        print(f"| {stage} | {seconds:.1f} | {seconds / busy:.0%} | {1000 * seconds / max(1, summary.num_scored):.0f} |")
    if args.svg:
        del stages[IDLE]
        args.svg.parent.mkdir(parents=True, exist_ok=True)
        args.svg.write_text(bar(stages, title), encoding="utf-8")


if __name__ == "__main__":
    main()
