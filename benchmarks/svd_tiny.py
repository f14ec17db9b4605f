"""Does training learn, and is the motion bucket used? The tiny model of configs/svd_tiny.yaml, made, trained and measured on the CPU.

    make demo && python benchmarks/svd_tiny.py [--out runs] [--threads 2] [--no-twin] [key=value ...]

Held-out windows meet fixed noise and sigmas; then once more with the bucket of another window, all else the same ("more with another
bucket"). The twin is the same training, from the same weights, over the same windows, noise and sigmas, but that each window has the
bucket of another one: what its loss on held-out windows is more than the model's is what knowing the motion is worth. Differences are
averaged over the windows of a source; intervals are a bootstrap over sources (2,000 draws, 2.5 to 97.5 %). The demo's films are cut from
two real ones, so a held-out source shows scenes that are trained on, in another crop, mirrored or re-encoded. The last row is of training
sources in windows of epochs that are never trained on; they overlap with those that are.

Writes into OUT: svd_tiny_curve.png, svd_tiny_frames.png, svd_tiny.json.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from curate.batches import BucketBatches
from curate.dataset import CuratedClips, Draw
from curate.motion_bucket import MotionBuckets
from curate.pipelines.finetune import BUCKETS, MODEL, finetune
from curate.pipelines.finetune_data import Data, read_data
from curate.svd.checkpoint import Model, find_model, load_model
from curate.svd.data import Batches, Examples, encode, fixed_examples, generator_of
from curate.svd.denoiser import Denoiser
from curate.svd.image_to_video import ImageToVideo
from curate.svd.knobs import Knobs
from curate.svd.log import TrainLog, read_rows
from curate.svd.sample import decode
from curate.svd.settings import Finetune, load_finetune
from curate.svd.tiny import load_tiny, make_tiny
from curate.svd.train import Run, make_state, train, validation_losses

WRONG_BUCKETS = 4  # for each window
ASKED = (5, 100, 170, 240)  # buckets of generated clips
SHOWN = (0, 2, 4)  # held-out clips in the picture
DRAWS = 2000
RANDOM, MAIN, TWIN = "held-out sources, before training", "held-out sources, trained", "held-out sources, the twin"


def examples_of(clips: CuratedClips, model: Model, epochs: Sequence[int]) -> tuple[list[Examples], list[str]]:
    """Single windows with their latents, and the source of each; the same window is taken once."""
    found, sources, seen = [], [], set()
    for epoch in epochs:
        for item in range(len(clips)):
            window = clips[Draw(item, epoch)]
            name = (window["clip_id"], int(window["times_ns"][0]))
            if name not in seen:
                seen.add(name)
                found.append(encode([{**window, "key": None}], model.encoders, None, "cpu"))
                sources.append(window["source_key"])
    return found, sources


def losses_of(model: Model, chosen: Sequence[Examples], settings: Finetune) -> np.ndarray:
    """float64 [N]: each window's loss, averaged over sigmas."""
    found = validation_losses(
        Denoiser(model.unet),
        chosen,
        model.encoders,
        settings.noise,
        num_sigmas=settings.validation.sigmas,
        seed=settings.seed,
        device=torch.device("cpu"),
    )
    return found.double().mean(dim=1).numpy()


def with_other_buckets(model: Model, examples: Sequence[Examples], settings: Finetune) -> np.ndarray:
    """float64 [N]: each window's loss with the buckets of others, a mean over `WRONG_BUCKETS` of them."""
    rng = np.random.default_rng(0)
    buckets = [example.motion_bucket_B for example in examples]
    found = []
    for _ in range(WRONG_BUCKETS):
        other = (np.arange(len(examples)) + rng.integers(1, len(examples), len(examples))) % len(examples)
        found.append(losses_of(model, [replace(one, motion_bucket_B=buckets[j]) for one, j in zip(examples, other, strict=True)], settings))
    mean: np.ndarray = np.mean(found, axis=0)
    return mean


def over_sources(differences: np.ndarray, sources: Sequence[str]) -> dict[str, float]:
    """Mean over sources of a number of each window, its interval, and the share of windows where it is above zero."""
    names = np.array(sources)
    of_source = np.array([differences[names == name].mean() for name in sorted(set(sources))])
    drawn = of_source[np.random.default_rng(0).integers(0, len(of_source), (DRAWS, len(of_source)))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"mean": float(of_source.mean()), "low": float(low), "high": float(high), "share_of_windows": float((differences > 0).mean())}


class OtherBuckets:
    """Batches in which every window has the bucket of another one, a new one each time; all else is as it was."""

    def __init__(self, batches: Batches, buckets: Sequence[int], seed: int) -> None:
        self._batches, self._buckets, self._seed = batches, buckets, seed
        self.state_dict, self.load_state_dict = batches.state_dict, batches.load_state_dict

    def __iter__(self) -> Iterator[Examples]:
        for examples in self._batches:
            windows = zip(examples.clip_ids, examples.start_ns_B, strict=True)
            generators = [generator_of("other bucket", self._seed, examples.epoch, *window) for window in windows]
            chosen = [int(torch.randint(len(self._buckets), (1,), generator=generator)) for generator in generators]
            yield replace(examples, motion_bucket_B=tuple(self._buckets[i] for i in chosen))


def report(cases: Sequence[tuple[str, tuple[list[Examples], list[str]], Model]], settings: Finetune) -> dict[str, Any]:
    """Prints a row for each (name, windows with their sources, weights); returns the figures by name."""
    facts: dict[str, Any] = {}
    true: dict[str, np.ndarray] = {}
    print("| windows and weights | windows | sources | loss, true bucket | more with another bucket | windows with more |")
    print("|---|---|---|---|---|---|")
    for name, (examples, sources), model in cases:
        true[name] = losses_of(model, examples, settings)
        more = over_sources(with_other_buckets(model, examples, settings) - true[name], sources)
        facts[name] = {"windows": len(examples), "sources": len(set(sources)), "loss": float(true[name].mean()), "more": more}
        counts = f"{len(examples)} | {len(set(sources))} | {true[name].mean():.4f}"
        print(f"| {name} | {counts} | {shown(more)} | {more['share_of_windows']:.0%} |", flush=True)
    if TWIN in true:
        sources = next(sources for name, (_, sources), _ in cases if name == TWIN)
        facts["twin less model"] = more = over_sources(true[TWIN] - true[MAIN], sources)
        print(f"\nThe twin's loss is more than the model's by {shown(more)}, in {more['share_of_windows']:.0%} of the windows\n")
    return facts


def shown(row: dict[str, float]) -> str:
    return f"{row['mean']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"


def train_twin(settings: Finetune, data: Data, out: Path) -> Model:
    """The same training, from the same weights over the same windows, noise and sigmas, but with buckets of other windows."""
    assert data.validation is not None
    model, windows = load_model(settings.model), data.train
    encoders = model.encoders
    buckets = [
        windows[Draw(item, epoch)]["motion_bucket_id"] for epoch in range(settings.windows.epochs or 4) for item in range(len(windows))
    ]
    model.unet.requires_grad_(True)
    state = make_state(dict(model.unet.named_parameters()), settings.optimizer)
    clips: Any = windows.clips
    order = BucketBatches(clips, settings.batch_size, seed=settings.seed)
    feed = OtherBuckets(Batches(windows, order, encoders, "cpu"), buckets, settings.seed)
    held = fixed_examples(data.validation, encoders, settings.validation.max_clips, settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    with TrainLog(out, 0) as log:
        train(Run(settings, model.unet, model.unet, state, feed, encoders, torch.device("cpu"), validation=held, log=log))
    if state.ema is not None:
        for name, parameter in state.parameters.items():
            parameter.data.copy_(state.ema.average[name])
    model.unet.eval().requires_grad_(False)
    return model


def generated(model: Model, firsts: np.ndarray, num_frames: int) -> dict[int, np.ndarray]:
    """Bucket asked for -> uint8 (B, T, H, W, 3); the same noise for every bucket."""
    maker = ImageToVideo(model)
    height, width = firsts.shape[1:3]
    knobs = Knobs(num_frames=num_frames, steps=25, size=f"{width}x{height}", max_guidance=1.0, noise_aug=0.02)
    return {bucket: maker(firsts, knobs.model_copy(update={"motion_bucket": bucket})) for bucket in ASKED}


def through_vae(model: Model, frames_BTHWC: np.ndarray) -> np.ndarray:
    """What the decoder makes of the frames: as near as a clip can come to them."""
    signed = torch.from_numpy(frames_BTHWC).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    return decode(model.encoders.latents(signed), model.vae)


def change(frames_BTHWC: np.ndarray) -> np.ndarray:
    """Mean absolute difference of frames to the one before, of each clip, in levels of 255."""
    return np.abs(np.diff(frames_BTHWC.astype(np.float32), axis=1)).mean(axis=(1, 2, 3, 4))


def draw_frames(path: Path, rows: dict[str, np.ndarray]) -> None:
    """A row for each name; clips, uint8 (B, T, H, W, 3), lie side by side with every other frame of each."""
    image = []
    for name, clips in rows.items():
        row = np.concatenate(
            [np.pad(np.concatenate(list(clip[::2]), axis=1), ((1, 1), (0, 6), (0, 0)), constant_values=255) for clip in clips], 1
        )
        label = Image.new("RGB", (72, row.shape[0]), "white")
        ImageDraw.Draw(label).text((4, row.shape[0] // 2 - 6), name, fill="black")
        image.append(np.concatenate([np.asarray(label), row], axis=1))
    # A palette of 192 colours is a third of the size.
    Image.fromarray(np.concatenate(image)).quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)


def draw_curve(path: Path, run: Path, twin: Path | None) -> None:
    """Training loss (means of 25 steps) and validation loss over steps; on the right its end, enlarged."""
    train = np.array([(float(row["step"]), float(row["loss"])) for row in read_rows(run / "train.csv")])
    means = train[: len(train) // 25 * 25].reshape(-1, 25, 2).mean(axis=1)
    curves = [(means, "#999999", "training"), (held_out(run), "#c03020", "held-out sources")]
    if twin is not None:
        curves.append((held_out(twin), "#2060b0", "held-out sources, trained with shuffled buckets"))
    whole = panel(curves, (0, train[-1, 0]), 0.2, 520)
    end = panel(curves[1:], (train[-1, 0] * 0.4, train[-1, 0]), 0.02, 360)
    image = Image.new("RGB", (whole.width + end.width, whole.height + 24), "white")
    image.paste(whole, (0, 24))
    image.paste(end, (whole.width, 24))
    pen = ImageDraw.Draw(image)
    x = 48
    for _, colour, name in curves:
        pen.text((x, 8), name, fill=colour)
        x += int(pen.textlength(name)) + 24
    image.save(path, optimize=True)


def held_out(run: Path) -> np.ndarray:
    """(N, 2): step and validation loss of the averaged weights."""
    return np.array([(float(row["step"]), float(row["loss_ema"] or row["loss"])) for row in read_rows(run / "validation.csv")])


def panel(curves: Sequence[tuple[np.ndarray, str, str]], steps: tuple[float, float], grid: float, width: int) -> Image.Image:
    """One set of axes over a range of steps; the losses there fill it."""
    height, left, below, right = 340, 48, 28, 16
    shown = [(points[points[:, 0] >= steps[0]], colour) for points, colour, _ in curves]
    low = np.floor(min(points[:, 1].min() for points, _ in shown) / grid) * grid if steps[0] else 0.0
    top = np.ceil(max(points[:, 1].max() for points, _ in shown) / grid) * grid
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)

    def place(step: float, loss: float) -> tuple[float, float]:
        x = left + (step - steps[0]) / (steps[1] - steps[0]) * (width - left - right)
        return x, height - below - (loss - low) / (top - low) * (height - below - 8)

    for loss in np.arange(low, top + grid / 2, grid):
        pen.line([place(steps[0], loss), place(steps[1], loss)], fill="#dddddd")
        pen.text((10, place(steps[0], loss)[1] - 6), f"{loss:.2f}", fill="black")
    for step in range(int(np.ceil(steps[0] / 100)) * 100, int(steps[1]) + 1, 100):
        pen.text((place(step, low)[0] - 8, height - below + 6), str(step), fill="black")
    for points, colour in shown:
        pen.line([place(*point) for point in points.tolist()], fill=colour, width=2)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--config", type=Path, default=Path("configs/svd_tiny.yaml"))
    parser.add_argument("--threads", type=int, default=2, help="of the CPU; 1 where other programs are busy")
    parser.add_argument("--no-twin", dest="twin", action="store_false", help="leaves out the second training")
    parser.add_argument("words", nargs="*", metavar="key=value", help="changes the configuration")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    places = [f"model={args.out}/svd_tiny_model", f"out={args.out}/svd_tiny", f"windows.cache={args.out}/svd_tiny_cache"]
    settings = load_finetune(args.config, [*places, *args.words])
    facts: dict[str, Any] = {"threads": args.threads}
    start = time.perf_counter()
    if not Path(settings.model).exists():
        make_tiny(load_tiny(settings.model, [f"data={settings.data}"]))
        facts["make_s"] = time.perf_counter() - start
    start, cpu_start = time.perf_counter(), time.process_time()
    result = finetune(settings)
    facts |= {"train_s": time.perf_counter() - start, "train_cpu_s": time.process_time() - cpu_start}
    facts |= {"first_validation": result.first_validation, "last_validation": result.last_validation}
    run = Path(settings.out)
    files = find_model(settings.model).fingerprints()
    data = read_data(settings, MotionBuckets.load(run / BUCKETS), files["vae"])
    assert data.validation is not None and isinstance(data.train.clips, CuratedClips) and isinstance(data.validation.clips, CuratedClips)
    twin_out = args.out / "svd_tiny_twin" if args.twin else None
    models = {RANDOM: load_model(settings.model), MAIN: load_model(str(run / MODEL))}
    if twin_out is not None:
        start = time.perf_counter()
        models[TWIN] = train_twin(settings, data, twin_out)
        facts["twin_s"] = time.perf_counter() - start
    draw_curve(args.out / "svd_tiny_curve.png", run, twin_out)

    model, epochs = models[MAIN], settings.windows.epochs or 0
    held = examples_of(data.validation.clips, model, range(6))
    again = examples_of(data.train.clips, model, range(epochs, epochs + 3))
    cases = [(name, held, weights) for name, weights in models.items()]
    facts |= report([*cases, ("training sources, new draws, trained", again, model)], settings)

    windows = [data.validation.clips[Draw(item, 0)] for item in range(len(data.validation.clips))]
    real = np.stack([window["frames"].permute(0, 2, 3, 1).numpy() for window in windows])
    made = generated(model, real[:, 0], settings.windows.num_frames)
    decoded = through_vae(model, real)
    rows = {"real": real, "decoded": decoded, **{f"bucket {bucket}": frames for bucket, frames in made.items()}}
    draw_frames(args.out / "svd_tiny_frames.png", {name: frames[list(SHOWN)] for name, frames in rows.items()})
    facts["change_by_bucket"] = {bucket: [float(x) for x in change(frames)] for bucket, frames in made.items()}
    for bucket, frames in made.items():
        print(f"bucket {bucket}: generated clips change by {change(frames).mean():.2f} levels a frame ({len(frames)} clips)")
    print(f"real windows: {change(real).mean():.2f}, through the VAE {change(decoded).mean():.2f}")
    (args.out / "svd_tiny.json").write_text(json.dumps(facts, indent=1))
    print(json.dumps({key: value for key, value in facts.items() if not isinstance(value, dict)}))


if __name__ == "__main__":
    main()
