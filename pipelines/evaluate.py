"""The job behind `curate svd evaluate`: is motion what was asked for, did a fine-tune help or hurt, and which bucket gives how much motion.

    pictures x buckets x seeds x models -> clips (`pipelines.generate`, what is there is not made again) -> their scores
        -> numbers (`evaluate_stats`) -> map of each model, evaluation.json, evaluation.html

The folder is one of `curate svd generate`: the same files, the same table of runs. Both models start from the same noise, of a generator
on the CPU seeded by the clip's seed, and are asked with the same knobs: those given, else those of the measured model's published one.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from curate.config import Config, weights_folders
from curate.errors import ConfigError, ExportError
from curate.manifest import files
from curate.models import sha256_file
from curate.motion_bucket import MotionBuckets, fit_checkpoint
from curate.pipelines.clip_scores import SCORE_FIELDS, ClipScores, open_scores
from curate.pipelines.evaluate_data import Picture, Pictures, read_pictures
from curate.pipelines.evaluate_fvd import FvdResult, check_fvd, measure_fvd
from curate.pipelines.evaluate_stats import (
    MIN_PICTURES,
    MOTION,
    SCORES,
    Bootstrap,
    Control,
    Cube,
    Difference,
    Estimate,
    compared,
    control,
    map_points,
    summed_up,
)
from curate.pipelines.generate import CREATOR, check_device, dtype_of, generate, read_runs
from curate.svd.evaluate_config import Evaluate, Network
from curate.svd.generate_config import MAX_CLIPS, Asked, Generate, Subject
from curate.svd.knobs import Knobs, guess_checkpoint, resolve

NUMBERS, PAGE = "evaluation.json", "evaluation.html"
SAME = (  # columns of the table of runs that make one clip the same as another, beside weights, adapter and picture
    *("width", "height", "num_frames", "steps", "fps", "motion_bucket", "noise_aug", "min_guidance", "max_guidance", "guidance_shape"),
    *("seed", "length", "longer", "overlap", "loop", "decode_chunk", "fit", "device", "dtype", "decode_dtype", "program"),
    *("image_sha256", "weights_sha256", "lora_sha256", "lora_scale"),
)
MAP_HOLDS_AT = ("num_frames", "length", "steps", "noise_aug", "min_guidance", "max_guidance", "guidance_shape", "loop")
NEEDED = ("fidelity_first", "sharpness_first")
Key = tuple[str, int, int]  # sha256 of the picture, seed, bucket


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One clip of the evaluation: how it is asked for, and the values of `SAME` that its row has."""

    key: Key
    asked: Asked
    same: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What one model did. `buckets` is its map, or `no_map` says why there is none."""

    network: Network
    name: str
    weights_sha256: str
    lora_sha256: str | None
    rows: Mapping[Key, Mapping[str, Any]]
    cube: Cube
    control: Control
    scores: Mapping[str, Estimate | None]
    buckets: MotionBuckets | None
    no_map: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything that was found. `models` has the measured one first, then the one before; `real` are scores of the data's own windows."""

    out: Path
    settings: Evaluate
    knobs: Knobs
    pictures: tuple[Picture, ...]
    models: tuple[Measured, ...]
    real: Mapping[str, Estimate | None] | None
    fvd: FvdResult | None
    comparison: Mapping[str, Difference] | None
    num_made: int
    notes: tuple[str, ...]

    @property
    def page(self) -> Path:
        return self.out / PAGE

    def map_file(self, model: Measured) -> Path:
        return self.out / f"motion_buckets-{re.sub(r'[^A-Za-z0-9_.+-]', '_', model.name)}.json"


def evaluate(settings: Evaluate, stream: TextIO | None = None) -> Evaluation:
    """Makes the clips that are not there yet, measures and writes. Raises `CurateError`s, those of the request before the first clip."""
    stream = stream or sys.stderr
    out = Path(settings.job.out).expanduser()
    prints, num_frames, notes = _looked_up(settings)
    pictures = read_pictures(settings, num_frames, out)
    knobs = _knobs(settings, num_frames)
    clips = [list(_clips(settings, network, one, pictures, knobs)) for network, one in zip(settings.question.networks, prints, strict=True)]
    count = sum(map(len, clips))
    if count > MAX_CLIPS:
        raise ConfigError(f"{len(pictures.all)} pictures make {count:,} clips, more than {MAX_CLIPS:,}; take fewer of something")
    scores, lacking = open_scores(settings.job)
    assert scores is not None, "an evaluation's job has scores on"
    needed = NEEDED if scores.networks is None else (*NEEDED, "aesthetic_mean")
    num_made, more_notes = _make(settings, out, [clip for each in clips for clip in each], needed, stream)
    found = _rows(out, needed)
    bootstrap = Bootstrap(settings.question.confidence, settings.question.resamples)
    models = []
    for network, one, name, own in zip(settings.question.networks, prints, _names(settings), clips, strict=True):
        rows = {clip.key: found[clip.same] for clip in own}
        models.append(_measured(network, name, one, rows, knobs, bootstrap, len(pictures.all)))
    evaluation = Evaluation(
        out,
        settings,
        knobs,
        pictures.all,
        tuple(models),
        _real(scores, pictures, bootstrap),
        measure_fvd(settings, out, pictures.all, [(model.name, model.rows) for model in models], num_frames, bootstrap),
        compared(models[0].cube, models[1].cube, bootstrap) if len(models) == 2 else None,
        num_made,
        tuple(dict.fromkeys([*notes, *pictures.notes, *lacking, *more_notes])),
    )
    publish(evaluation)
    return evaluation


def publish(evaluation: Evaluation) -> None:
    """Writes the maps, the numbers and the page. A map of an earlier evaluation under the same name goes where there is none any more."""
    from curate.pipelines.evaluate_page import write_page

    for model in evaluation.models:
        if model.buckets is not None:
            model.buckets.save(evaluation.map_file(model))
        else:
            files.remove_file(evaluation.map_file(model))
    text = json.dumps(numbers(evaluation), indent=1, allow_nan=False, ensure_ascii=False)
    files.write_file((evaluation.out / NUMBERS).absolute(), (text + "\n").encode())
    write_page(evaluation)


def _looked_up(settings: Evaluate) -> tuple[list[tuple[str, str | None]], int, list[str]]:
    """(checksum of weights, of adapter) of each model, frames of a clip's part, notes. What can be missing is found here."""
    from curate.svd.checkpoint import find_model
    from curate.svd.lora import read_lora

    check_device(settings.job)
    search = weights_folders(Config(models=settings.job.models))
    found, prints = [], []
    for network in settings.question.networks:
        found.append(find_model(network.model, search=search, allow_download=True))
        lora = None if network.lora is None else Path(network.lora).expanduser()
        if lora is not None:
            read_lora(lora)
        prints.append((found[-1].weights_sha256, None if lora is None else sha256_file(lora)))
    same = [(*one, network.lora_scale if network.lora else None) for one, network in zip(prints, settings.question.networks, strict=True)]
    if len(set(same)) < len(same):
        names = f"model={settings.question.model} and before={settings.question.before}"
        raise ConfigError(f"{names} hold the same weights: nothing to compare")
    counts = [one.num_frames for one in found]
    given = "num_frames" in settings.knobs.model_fields_set
    num_frames = settings.knobs.num_frames if given else counts[0]
    notes = []
    if len(set(counts)) > 1:
        what = " and ".join(f"{network.model} {count}" for network, count in zip(settings.question.networks, counts, strict=True))
        notes.append(f"frames that the models were trained on: {what}; both are asked for {num_frames}")
    check_fvd(settings, num_frames)
    return prints, num_frames, notes


def _names(settings: Evaluate) -> list[str]:
    names = [network.name for network in settings.question.networks]
    return [names[0], f"{names[0]}-before"] if names[1:] == names[:1] else names


def _knobs(settings: Evaluate, num_frames: int) -> Knobs:
    """All knobs with their values, for both models."""
    model, named = settings.question.model, settings.job.checkpoint
    checkpoint = guess_checkpoint(model, num_frames) if named == "auto" else named
    return resolve(settings.knobs, checkpoint, num_frames=num_frames)


def _clips(settings: Evaluate, network: Network, prints: tuple[str, str | None], pictures: Pictures, knobs: Knobs) -> Iterator[Clip]:
    """Every clip of one model."""
    from curate.svd.memory import DECODE_CHUNK

    job = settings.job
    dtype, decode_dtype = dtype_of(job)
    shared: dict[str, Any] = {"fit": job.fit, "device": job.device, "dtype": dtype, "decode_dtype": decode_dtype, "program": CREATOR}
    shared |= {"weights_sha256": prints[0], "lora_sha256": prints[1], "lora_scale": network.lora_scale if network.lora else None}
    for picture in pictures.all:
        subject = Subject(model=network.model, image=str(picture.path), lora=network.lora, lora_scale=network.lora_scale)
        for seed in settings.question.seed:
            for bucket in settings.question.motion_bucket:
                own = knobs.model_dump(exclude={"motion"}) | {"seed": seed, "motion_bucket": bucket}
                own["fps"] = picture.window.told_fps if picture.window else knobs.fps
                asked = Knobs.model_validate(own)
                width, height = asked.width_height(*picture.size)
                row = {**shared, **own, "width": width, "height": height, "image_sha256": picture.sha256}
                row["decode_chunk"] = knobs.decode_chunk or DECODE_CHUNK[job.memory] or knobs.num_frames
                swept = {"model": network.name, "motion_bucket": bucket}
                yield Clip((picture.sha256, seed, bucket), Asked(subject, asked, swept), tuple(row[name] for name in SAME))


def _make(settings: Evaluate, out: Path, clips: Sequence[Clip], needed: Sequence[str], stream: TextIO) -> tuple[int, tuple[str, ...]]:
    """Makes those that the folder does not have: how many, and what is to be said of them."""
    there = _rows(out, needed)
    missing = [clip for clip in clips if clip.same not in there]
    if len(missing) < len(clips):
        stream.write(f"{len(clips) - len(missing):,} of {len(clips):,} clips are there already\n")
    if not missing:
        return 0, ()
    return len(missing), generate(Generate(settings.job, tuple(clip.asked for clip in missing)), stream, with_sheet=False).notes


def _rows(out: Path, needed: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Values of `SAME` -> the last run that has them, of those whose file is there and that have the scores which any clip has."""
    found = {}
    for row in read_runs(out).to_pylist():
        if all(row.get(name) is not None for name in needed) and (out / row["file"]).exists():
            found[tuple(row.get(name) for name in SAME)] = row
    return found


def _measured(
    network: Network,
    name: str,
    prints: tuple[str, str | None],
    rows: Mapping[Key, Mapping[str, Any]],
    knobs: Knobs,
    bootstrap: Bootstrap,
    num_pictures: int,
) -> Measured:
    cube = Cube.of(rows, [score.column for score in SCORES])
    found = control(cube, bootstrap)
    asked = knobs.model_dump(mode="json", include=set(MAP_HOLDS_AT))
    asked["fps"] = sorted({row["fps"] for row in rows.values()})
    asked["size"] = sorted({f"{row['width']}x{row['height']}" for row in rows.values()})
    made_from = {"model": network.model, "weights_sha256": prints[0], "asked_with": asked, "num_pictures": num_pictures, "program": CREATOR}
    if network.lora is not None:
        made_from |= {"lora": network.lora, "lora_sha256": prints[1], "lora_scale": network.lora_scale}
    fitted = fitted_map(cube, found, made_from)
    buckets, no_map = (fitted, None) if isinstance(fitted, MotionBuckets) else (None, fitted)
    return Measured(network, name, *prints, rows, cube, found, summed_up(cube, bootstrap), buckets, no_map)


def fitted_map(cube: Cube, found: Control, made_from: Mapping[str, Any]) -> MotionBuckets | str:
    """The map from motion to bucket, or why there is none."""
    correlation = found.correlation
    if correlation is None:
        return f"no motion could be measured in {found.num_clips} clips: it needs frames 250 ms apart at most, 4 frames/s and more"
    if correlation.low is None or correlation.high is None:
        return f"{correlation.num_pictures} pictures are too few to tell whether motion follows the bucket; take {MIN_PICTURES} or more"
    if correlation.low <= 0:
        between = f"{correlation.value:.2f} ({correlation.low:.2f} to {correlation.high:.2f})"
        return f"motion does not clearly rise with the bucket: rank correlation {between}"
    asked, motions = map_points(cube)
    try:
        return fit_checkpoint(asked, motions, MOTION, made_from)
    except ExportError as error:
        return str(error)


def _real(scores: ClipScores, pictures: Pictures, bootstrap: Bootstrap) -> dict[str, Estimate | None] | None:
    """The scores of the data's own windows. Their first frame is the picture, so that its fidelity says nothing."""
    windows = [picture.window for picture in pictures.all if picture.window is not None]
    if not windows:
        return None
    rows = [scores.score_clip(window.frames_THWC, window.frames_THWC[0], window.fps) for window in windows]
    columns = [one.name for one in SCORE_FIELDS]
    values = {name: np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64) for name in columns}
    values["fidelity_first"][:] = np.nan
    return {score.column: bootstrap.mean(values[score.column]) for score in SCORES}


def numbers(evaluation: Evaluation) -> dict[str, Any]:
    """What evaluation.json holds."""
    question = evaluation.settings.question
    return {
        "program": CREATOR,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": evaluation.settings.settings(),
        "asked_with": evaluation.knobs.model_dump(mode="json", exclude={"motion", "motion_bucket", "seed"}),
        "pictures": [
            {"file": one.name, "sha256": one.sha256, "clip_id": one.window.clip_id if one.window else None} for one in evaluation.pictures
        ],
        "models": [_numbers_of(evaluation, model) for model in evaluation.models],
        "real": None if evaluation.real is None else _estimates(evaluation.real),
        "fvd": None if evaluation.fvd is None else evaluation.fvd.numbers(),
        "comparison": None if evaluation.comparison is None else {name: asdict(one) for name, one in evaluation.comparison.items()},
        "rule": rule(question.confidence),
        "units": {score.column: score.unit for score in SCORES},
        "notes": list(evaluation.notes),
    }


def _numbers_of(evaluation: Evaluation, model: Measured) -> dict[str, Any]:
    found = model.control
    curve = [{"motion_bucket": bucket, MOTION: None if one is None else asdict(one)} for bucket, one in found.curve]
    runs = [{"picture": key[0], "seed": key[1], "motion_bucket": key[2], "run": row["run"]} for key, row in model.rows.items()]
    return {
        "name": model.name,
        **model.network.model_dump(mode="json"),
        "weights_sha256": model.weights_sha256,
        "lora_sha256": model.lora_sha256,
        "rank_correlation": None if found.correlation is None else asdict(found.correlation),
        "share_monotone": None if found.monotone is None else asdict(found.monotone),
        "num_clips": found.num_clips,
        "num_motion_measured": found.num_measured,
        "curve": curve,
        "scores": _estimates(model.scores),
        "map": None if model.buckets is None else {"file": evaluation.map_file(model).name, "sha256": model.buckets.sha256},
        "no_map": model.no_map,
        "runs": runs,
    }


def _estimates(scores: Mapping[str, Estimate | None]) -> dict[str, Any]:
    return {name: None if one is None else asdict(one) for name, one in scores.items()}


def rule(confidence: float) -> str:
    """How verdicts are made."""
    return (
        f"better or worse: the {100 * confidence:g} % interval of the paired differences (same picture, bucket and seed; bootstrap over "
        "pictures) lies on one side of 0 (where 1 is best, of the doublings away from it); else no clear difference"
    )
