"""The commands themselves at full size on GPUs: `curate svd finetune` and `generate` with a random model of the published sizes.

    python benchmarks/svd_gpu_loop.py --data MANIFEST [--work /tmp/svd] [--only lora,temporal,full8,resume,generate] [--json FILE]
    python benchmarks/svd_gpu_loop.py --data MANIFEST --only ddp --gpus 2

Everything is the project's own path: clips are decoded, encoded, trained on, weights written and read back. Windows per second are the
median of the steps after the first five, as `train.csv` has them; memory is the allocator's peak. `resume` trains twice in deterministic
mode, once killed with SIGKILL in the middle, and compares the losses of all steps bit for bit. `ddp` trains on several GPUs through
torchrun and compares the mean gradient's loss curve with one GPU that takes the same windows by accumulation.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from svd_gpu import full_image_encoder, full_unet, full_vae

from curate.svd.checkpoint import Model, ModelFiles, save_diffusers
from curate.svd.log import read_rows

COMMON = (
    *("device=cuda", "windows.sizes=[1024x576]", "windows.max_enlarge=4", "validation.max_clips=2", "validation.every=1000"),
    *("checkpoints.every=1000", "windows.workers=4", "samples.every=null"),
)
WARM_STEPS = 5


def make_model(folder: Path, num_frames: int) -> None:
    """A whole pipeline of random weights, 9 GB in float32."""
    if folder.exists():
        return
    torch.manual_seed(0)
    parts = [full_unet(num_frames, torch.float32), full_vae(), full_image_encoder(torch.float32)]
    unet, vae, image_encoder = (part.cpu() for part in parts)
    save_diffusers(folder, Model(unet, vae, image_encoder, folder.name, ModelFiles(None, {})))
    del parts, unet, vae, image_encoder
    torch.cuda.empty_cache()


def command(*words: str, gpus: int = 1) -> list[str]:
    launcher = [sys.executable] if gpus == 1 else [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(gpus)]
    return [*launcher, "-m", "curate", "svd", *words]


def finetune(args: argparse.Namespace, name: str, words: Sequence[str], gpus: int = 1, kill_after: int | None = None) -> dict[str, Any]:
    """One run, from the command line to the written weights; with `kill_after`, killed once that many steps stand in its log."""
    out = args.work / name
    call = ["finetune", "configs/svd_lora.yaml", f"model={args.work / 'model'}", f"data={args.data}", f"out={out}", *COMMON, *words]
    start = time.perf_counter()
    process = subprocess.Popen(
        command(*call, gpus=gpus), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    if kill_after is not None:
        while process.poll() is None and len(read_rows(out / "train.csv")) < kill_after:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode != 0 and kill_after is None:
        print(said[-4000:], flush=True)
        raise SystemExit(f"{name} failed with {process.returncode}")
    rows = read_rows(out / "train.csv")
    timed = [float(row["seconds"]) / int(row["num_windows"]) for row in rows[WARM_STEPS:]]
    return {
        "run": name,
        "steps": len(rows),
        "s_per_window": statistics.median(timed) if timed else None,
        "low": min(timed, default=None),
        "high": max(timed, default=None),
        "peak_gib": max((float(row["peak_gib"]) for row in rows if row["peak_gib"]), default=None),
        "wall_s": seconds,
        "losses": [row["loss"] for row in rows],
        "tensorboard_bytes": sum(file.stat().st_size for file in (out / "tensorboard").glob("*")) if (out / "tensorboard").is_dir() else 0,
        "written": sorted(entry.name for entry in out.iterdir() if not entry.name.startswith(".")),
    }


def lora(args: argparse.Namespace) -> list[dict[str, Any]]:
    return [finetune(args, "lora", ["steps=25", "accumulate=1", "mode=lora", "samples.every=25", "samples.count=1", "samples.steps=4"])]


def temporal(args: argparse.Namespace) -> list[dict[str, Any]]:
    return [finetune(args, "temporal", ["steps=15", "accumulate=1", "mode=temporal"])]


def full8(args: argparse.Namespace) -> list[dict[str, Any]]:
    return [finetune(args, "full8", ["steps=15", "accumulate=1", "mode=full", "optimizer.kind=adamw8bit", "optimizer.ema=null"])]


def full(args: argparse.Namespace) -> list[dict[str, Any]]:
    return [finetune(args, "full", ["steps=15", "accumulate=1", "mode=full", "optimizer.ema=0.99"])]


def resume(args: argparse.Namespace) -> list[dict[str, Any]]:
    words = ["steps=8", "accumulate=1", "deterministic=true", "checkpoints.every=2", "checkpoints.keep=1", "windows.sizes=[576x320]"]
    whole = finetune(args, "whole", words)
    killed = finetune(args, "killed", words, kill_after=5)
    again = finetune(args, "killed", words)
    print(f"killed at step {killed['steps']}; losses after going on equal the uninterrupted ones: {again['losses'] == whole['losses']}")
    return [whole, {**again, "equal": again["losses"] == whole["losses"]}]


def ddp(args: argparse.Namespace) -> list[dict[str, Any]]:
    words = ["steps=12", "deterministic=true"]
    many = finetune(args, "ddp", [*words, "accumulate=1"], gpus=args.gpus)
    return [many, finetune(args, "ddp_single", [*words, "accumulate=1"])]


def generate(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The three memory modes, with the adapter that `lora` wrote."""
    picture, rows = args.work / "picture.png", []
    if not picture.exists():
        from PIL import Image

        Image.effect_mandelbrot((1280, 720), (-2, -1, 1, 1), 60).convert("RGB").save(picture)
    for mode in ("fast", "balanced", "low"):
        out = args.work / f"generated_{mode}"
        words = [
            str(picture),
            f"model={args.work / 'model'}",
            f"out={out}",
            "device=cuda",
            "dtype=bfloat16",
            "decode_dtype=float32",
            "steps=10",
        ]
        if (args.work / "lora" / "lora.safetensors").exists():
            words.append(f"lora={args.work / 'lora' / 'lora.safetensors'}")
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        done = subprocess.run(command("generate", *words, f"memory={mode}"), capture_output=True, text=True)
        wall_s = time.perf_counter() - start
        if done.returncode:
            print((done.stdout + done.stderr)[-3000:], flush=True)
            rows.append({"run": f"generate {mode}", "failed": done.returncode})
            continue
        import pyarrow.parquet as pq

        row = pq.read_table(out / "runs.parquet").to_pylist()[0]
        peak = row["peak_device_bytes"] / 2**30
        rows.append({"run": f"generate {mode}", "seconds": row["seconds"], "peak_gib": peak, "wall_s": wall_s})
    return rows


WORKS = {"lora": lora, "temporal": temporal, "full8": full8, "full": full, "resume": resume, "generate": generate, "ddp": ddp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of a manifest or of an export")
    parser.add_argument("--work", type=Path, default=Path("/tmp/svd"))
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--only", default="lora,temporal,full8,resume,generate", help=f"of {', '.join(WORKS)}")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no CUDA device: this measures a GPU")
    start = time.perf_counter()
    args.work.mkdir(parents=True, exist_ok=True)
    make_model(args.work / "model", args.frames)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; model made in {time.perf_counter() - start:.0f} s", flush=True)
    found: list[dict[str, Any]] = []
    for name in args.only.split(","):
        try:
            rows = WORKS[name](args)
        except SystemExit as error:
            print(error, flush=True)
            continue
        for row in rows:
            print(json.dumps({key: value for key, value in row.items() if key != "losses"}), flush=True)
        found += rows
        if args.json:
            args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
