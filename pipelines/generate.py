"""The job behind `curate svd generate`: pictures and a model in; clips, contact sheets and a table of runs out.

    read the pictures -> load each model once -> resolve the knobs -> clip by clip: make, write, score, note -> contact sheet

The folder is a notebook: runs are numbered, nothing in it is ever overwritten, and `runs.parquet` (the same as `runs.csv`) has one row
for each with every setting, the seed, the checksums of weights and picture, the time it took, and the scores of `pipelines.clip_scores`.
"""

import collections
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from curate import __version__
from curate.config import Config, weights_folders
from curate.errors import ConfigError, ManifestError
from curate.manifest import files
from curate.manifest.lock import locked
from curate.models import sha256_file
from curate.motion_bucket import MotionBuckets
from curate.pipelines.clip_scores import SCORE_FIELDS, ClipScores, open_scores
from curate.pipelines.stills import Still, find_stills, fitted, read_still, shown
from curate.svd.generate_config import Asked, Generate, Job, Subject
from curate.svd.knobs import Checkpoint, Knobs, guess_checkpoint, resolve

CREATOR = f"curate {__version__}"
MUCH_ENLARGED = 2.0
TABLE, TABLE_CSV, BUCKETS_FILE = "runs.parquet", "runs.csv", "motion_buckets.json"

RUN_SCHEMA = pa.schema(
    [
        pa.field("run", pa.int64()),
        pa.field("file", pa.string()),
        pa.field("made_at", pa.timestamp("ms", tz="UTC")),
        pa.field("image", pa.string()),
        pa.field("image_sha256", pa.string()),
        pa.field("model", pa.string()),
        pa.field("weights_sha256", pa.string()),
        pa.field("lora", pa.string()),
        pa.field("lora_sha256", pa.string()),
        pa.field("lora_scale", pa.float64()),
        pa.field("checkpoint", pa.string()),
        pa.field("preset", pa.string()),
        pa.field("width", pa.int32(), metadata={"unit": "px"}),
        pa.field("height", pa.int32(), metadata={"unit": "px"}),
        pa.field("num_frames", pa.int32()),
        pa.field("steps", pa.int32()),
        pa.field("fps", pa.float64(), metadata={"unit": "frames/s"}),
        pa.field("motion_bucket", pa.int32()),
        pa.field("motion", pa.float64(), metadata={"unit": "% of the diagonal/s"}),
        pa.field("motion_buckets_sha256", pa.string()),
        pa.field("noise_aug", pa.float64()),
        pa.field("min_guidance", pa.float64()),
        pa.field("max_guidance", pa.float64()),
        pa.field("guidance_shape", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("decode_chunk", pa.int32()),
        pa.field("length", pa.int32()),
        pa.field("longer", pa.string()),
        pa.field("overlap", pa.int32()),
        pa.field("loop", pa.bool_()),
        pa.field("fit", pa.string()),
        pa.field("memory", pa.string()),
        pa.field("device", pa.string()),
        pa.field("dtype", pa.string()),
        pa.field("decode_dtype", pa.string()),
        pa.field("seconds", pa.float64(), metadata={"unit": "s"}),
        pa.field("peak_device_bytes", pa.int64(), metadata={"unit": "bytes"}),
        pa.field("program", pa.string()),
        pa.field("torch", pa.string()),
        *SCORE_FIELDS,
    ]
)


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """What a job made: a row of the table for each clip (`RUN_SCHEMA`), and where things lie. `sheets` are the contact sheets."""

    out: Path
    rows: tuple[dict[str, Any], ...]
    sheets: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The clip, or its folder of frames, of each run."""
        return tuple(self.out / row["file"] for row in self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    """One clip, its picture read and its motion's map loaded."""

    asked: Asked
    still: Still
    buckets: MotionBuckets | None

    @property
    def label(self) -> dict[str, Any]:
        return {"image": self.still.path.name, **{key: value for key, value in self.asked.swept.items() if key != "image"}}

    @property
    def enlarged(self) -> float:
        """How many times as wide or high as the picture the clip is, whichever is more."""
        size = self.asked.knobs.width_height(*self.still.size)
        return max(ours / own for ours, own in zip(size, self.still.size, strict=True))


@dataclass(slots=True)
class _Steps:
    """Says on the terminal which clip and which step it is at."""

    num_clips: int
    stream: TextIO
    clip: int = 0
    started: float = field(default_factory=time.monotonic)

    def step(self, index: int, num_steps: int) -> None:
        if self.stream.isatty():
            self.stream.write(f"\rclip {self.clip} of {self.num_clips}, step {index + 1} of {num_steps}   ")
            self.stream.flush()

    def done(self, text: str) -> None:
        start = "\r" if self.stream.isatty() else ""
        self.stream.write(f"{start}clip {self.clip} of {self.num_clips}: {text}\n")
        self.stream.flush()


def generate(settings: Generate, stream: TextIO | None = None, with_sheet: bool = True) -> GenerateResult:
    """Makes every clip that was asked for. Raises `CurateError`s; pictures are read and models found before the first clip is begun."""
    job, planned = settings.job, _planned(settings)
    scores, lacking = open_scores(job)
    notes = [*_notes(planned), *lacking]
    out = Path(job.out).expanduser()
    files.make_folder(out)
    steps = _Steps(len(planned), stream or sys.stderr)
    rows: list[dict[str, Any]] = []

    def made() -> Iterator[Any]:
        for _, group in itertools.groupby(planned, key=lambda one: one.asked.subject.network):
            for row, sheet_row in _made_by(list(group), job, scores, out, first + len(rows), steps):
                rows.append(row)
                _append(out, row)
                yield sheet_row

    with locked(out):
        first = _next_number(out)
        clips = made()
        written = _sheets(out, first, clips) if with_sheet else ()
        collections.deque(clips, maxlen=0)  # makes them where no sheet asked for them
    return GenerateResult(out, tuple(rows), written, tuple(notes))


def _planned(settings: Generate) -> list[_Planned]:
    """Every clip with its picture, folders taken apart. What can be wrong is found before a weight is read."""
    from curate.svd.checkpoint import find_model
    from curate.svd.lora import read_lora

    stills: dict[Path, Still] = {}
    maps = {name: _buckets(settings.job, name) for name in dict.fromkeys(one.subject.model for one in settings.clips)}
    check_device(settings.job)
    for name in maps:
        find_model(name, search=_search(settings.job), allow_download=True)
    for lora in dict.fromkeys(one.subject.lora for one in settings.clips):
        if lora is not None:
            read_lora(Path(lora).expanduser())
    planned = []
    for asked in settings.clips:
        buckets = maps[asked.subject.model]
        if asked.knobs.motion is not None and buckets is None:
            raise ConfigError(
                f"motion={asked.knobs.motion:g} needs motion_buckets=FILE: {asked.subject.model} has no {BUCKETS_FILE} beside it. "
                "Give the map that the model was trained or measured with, or motion_bucket=0..255"
            )
        for path in find_stills(asked.subject.image):
            if path not in stills:
                stills[path] = read_still(path)
            planned.append(_Planned(asked, stills[path], buckets))
    return planned


def check_device(job: Job) -> None:
    """Raises `ConfigError` where there is no such device."""
    import torch

    if job.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: torch finds no GPU here; use device=cpu, or install torch with CUDA")


def _buckets(job: Job, model: str) -> MotionBuckets | None:
    if job.motion_buckets is not None:
        return MotionBuckets.load(Path(job.motion_buckets).expanduser())
    beside = Path(model).expanduser() / BUCKETS_FILE
    return MotionBuckets.load(beside) if beside.is_file() else None


def _notes(planned: Sequence[_Planned]) -> list[str]:
    """What was asked for beyond what the released checkpoints learned."""
    notes = []
    slow_or_fast = sorted({one.asked.knobs.fps for one in planned if not 5 <= one.asked.knobs.fps <= 30})
    if slow_or_fast:
        notes.append(
            f"fps={', '.join(f'{fps:g}' for fps in slow_or_fast)}: the released checkpoints were trained with about 5 to 30 frames/s"
        )
    small = sorted({f"{one.still.path.name} ({one.still.size[0]}x{one.still.size[1]})" for one in planned if one.enlarged > MUCH_ENLARGED})
    if small:
        notes.append(f"enlarged a lot, so expect blur: {', '.join(small[:5])}{' and others' if len(small) > 5 else ''}")
    notes += dict.fromkeys(note for one in planned if (note := _beyond_map(one)) is not None)
    return notes


def _beyond_map(one: _Planned) -> str | None:
    """Motion that a checkpoint was not seen to make."""
    motion, measured = one.asked.knobs.motion, one.buckets.measured if one.buckets else None
    if motion is None or measured is None or measured[0] <= motion <= measured[1]:
        return None
    return f"motion={motion:g}: the map was measured from {measured[0]:.3g} to {measured[1]:.3g} % of the diagonal/s; the nearest is made"


def _made_by(
    group: Sequence[_Planned], job: Job, scores: ClipScores | None, out: Path, first: int, steps: _Steps
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Loads the model of a group and makes its clips: a row of the table and one of the contact sheet for each."""
    import torch

    from curate.svd.image_to_video import ImageToVideo
    from curate.svd.output import SheetRow, picked

    device = torch.device(job.device)
    dtype_name, _ = dtype_of(job)
    subject = group[0].asked.subject
    model = _loaded(subject, job, dtype_name)
    num_frames = int(model.unet.config.num_frames)
    checkpoint = guess_checkpoint(subject.model, num_frames) if job.checkpoint == "auto" else job.checkpoint
    resolved = [
        resolve(one.asked.knobs, checkpoint, num_frames=num_frames, preset=one.asked.subject.preset, buckets=one.buckets) for one in group
    ]
    maker = ImageToVideo(
        model, device=device, memory=job.memory, decode_dtype=getattr(torch, job.decode_dtype) if job.decode_dtype else None
    )
    for index, (one, knobs) in enumerate(zip(group, resolved, strict=True)):
        steps.clip += 1
        knobs = knobs.model_copy(update={"decode_chunk": maker.chunk(knobs)})
        size = knobs.width_height(*one.still.size)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        started = time.monotonic()
        picture = fitted(one.still, *size, job.fit)
        frames = maker(picture[None], knobs, callback=steps.step)[0]
        seconds = time.monotonic() - started
        row = _row(first + index, one, job, checkpoint, knobs)
        row |= {"width": size[0], "height": size[1], "weights_sha256": model.weights_sha256, "dtype": dtype_name}
        row["decode_dtype"] = str(maker.decode_dtype).removeprefix("torch.")
        row["seconds"] = round(seconds, 3)
        row["peak_device_bytes"] = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        row["file"] = _write(out, row, frames, job)
        if scores is not None:
            row |= scores.score_clip(frames, picture, row["fps"], shown(one.still, *size, job.fit))
        label = "  ".join(f"{key}={value}" for key, value in ({"seed": knobs.seed} | one.label).items())
        label += "" if row["motion_speed"] is None else f"  motion {row['motion_speed']:.1f}"
        steps.done(f"{row['file']}  {seconds:.1f} s  {label}")
        yield row, SheetRow(frames[picked(len(frames))], f"run {row['run']}  {label}")


def dtype_of(job: Job) -> tuple[str, str]:
    """Of the networks, and of the decoder: bfloat16 is too coarse for pictures."""
    dtype = job.dtype or ("float16" if job.device == "cuda" else "float32")
    return dtype, job.decode_dtype or ("float16" if dtype == "bfloat16" else dtype)


def _loaded(subject: Subject, job: Job, dtype_name: str) -> Any:
    """The model in main memory, or on the device where it is to stay, its adapter merged."""
    import torch

    from curate.svd.checkpoint import load_model
    from curate.svd.lora import load_lora, merge_lora

    device = job.device if job.memory == "fast" else "cpu"
    model = load_model(subject.model, device=device, dtype=getattr(torch, dtype_name), search=_search(job), allow_download=True)
    if subject.lora is not None:
        load_lora(model.unet, Path(subject.lora).expanduser(), subject.lora_scale)
        merge_lora(model.unet)
    return model


def _search(job: Job) -> list[Path]:
    return weights_folders(Config(models=job.models))


def _row(number: int, one: _Planned, job: Job, checkpoint: Checkpoint, knobs: Knobs) -> dict[str, Any]:
    """A row of the table but for what the model and the making of the clip tell."""
    import torch

    subject = one.asked.subject
    values = knobs.model_dump(mode="json", exclude={"size"})
    values |= {"run": number, "image": one.still.path.name, "image_sha256": one.still.sha256, "made_at": datetime.now(UTC)}
    values |= {"model": subject.model, "checkpoint": checkpoint, "preset": subject.preset, "program": CREATOR, "torch": torch.__version__}
    values |= {"fit": job.fit, "memory": job.memory, "device": job.device}
    if subject.lora is not None:
        values |= {"lora": subject.lora, "lora_sha256": sha256_file(Path(subject.lora).expanduser()), "lora_scale": subject.lora_scale}
    values["motion_buckets_sha256"] = one.buckets.sha256 if one.buckets and knobs.motion is not None else None
    return {name: values.get(name) for name in RUN_SCHEMA.names}


def _write(out: Path, row: dict[str, Any], frames_THWC: np.ndarray, job: Job) -> str:
    """Writes the clip and returns its name in the folder."""
    from curate.svd.output import write_clip, write_frames

    name = f"{Path(row['image']).stem}-{row['run']:04d}"
    embedded = {key: value for key, value in row.items() if key not in ("file", "made_at") and value is not None}
    if job.format in ("png", "both"):
        write_frames(out / name, frames_THWC, embedded, CREATOR)
    if job.format in ("mp4", "both"):
        write_clip(out / f"{name}.mp4", frames_THWC, row["fps"], embedded, CREATOR, job.crf)
    return name if job.format == "png" else f"{name}.mp4"


def _sheets(out: Path, first: int, sheet_rows: Iterator[Any]) -> tuple[Path, ...]:
    """Writes each contact sheet when it is full, named by the first run on it; no more than one sheet's frames are held."""
    from curate.svd.output import sheets, write_sheet

    written = []
    for rows in sheets(sheet_rows):
        written.append(out / f"sheet-{first:04d}.png")
        write_sheet(written[-1], rows, {"runs": list(range(first, first + len(rows))), "program": CREATOR}, CREATOR)
        first += len(rows)
    return tuple(written)


def read_runs(out: str | Path) -> pa.Table:
    """The table of runs of a folder, empty where there was none. Raises `ManifestError` for a damaged file."""
    path = Path(out) / TABLE
    if not path.is_file():
        return RUN_SCHEMA.empty_table()
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{path} cannot be read: {error}; move it away to begin a new table") from error


def _append(out: Path, row: dict[str, Any]) -> None:
    """Adds a run to both tables; columns that others added stay."""
    table = pa.concat_tables([read_runs(out), pa.Table.from_pylist([row], RUN_SCHEMA)], promote_options="default")
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    files.write_file((out / TABLE).absolute(), sink.getvalue())
    text = pa.BufferOutputStream()
    pa_csv.write_csv(table, text)
    files.write_file((out / TABLE_CSV).absolute(), text.getvalue())


def _next_number(out: Path) -> int:
    """One more than any run in the table or any numbered file: a number is never given twice."""
    noted = read_runs(out).column("run").to_pylist()
    stems = (Path(name).stem.rpartition("-")[2] for name in os.listdir(out))
    return max([0, *noted, *(int(stem) for stem in stems if stem.isdecimal())]) + 1


def describe(result: GenerateResult) -> str:
    """A few lines for the terminal."""
    lines = [f"{len(result.rows)} clips in {result.out}, {sum(row['seconds'] for row in result.rows):.1f} s"]
    lines += [f"contact sheet: {sheet}" for sheet in result.sheets]
    return "\n".join([*lines, f"settings of all runs: {result.out / TABLE} and {TABLE_CSV}"])
