"""Layout `finetrainers`, read by finetrainers' own data code where it is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import decord
import numpy as np
import pytest
from trainer_exports import listed, plain, run

from curate.export import load

FINETRAINERS = """
import importlib.machinery, importlib.util, json, os, pathlib, sys, types
import torchcodec.decoders, torchvision

def package(name, **has):
    sys.modules[name] = module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(has)
    return module

# The wheel of 0.2.0 lacks a subpackage, so that `import finetrainers` fails; its data code stands by itself but for these. Its reader of
# videos has left torchvision: torchcodec, which datasets uses now, takes its place.
package("finetrainers", __path__=[str(pathlib.Path(importlib.util.find_spec("finetrainers").origin).parent)])
package("finetrainers.data", __path__=[sys.modules["finetrainers"].__path__[0] + "/data"])
package("finetrainers.utils", __path__=[sys.modules["finetrainers"].__path__[0] + "/utils"])
torchvision.io.video_reader = package("torchvision.io.video_reader", VideoReader=torchcodec.decoders.VideoDecoder)
from finetrainers.utils.file import find_files
sys.modules["finetrainers.utils"].find_files = find_files
from finetrainers.data import dataset
dataset._preprocess_video = lambda video: video[:].float() / 127.5 - 1.0

for folder in sys.argv[1:]:
    os.chdir(folder)
    (config,) = json.loads(pathlib.Path("training.json").read_text())["datasets"]
    root, kind = config.pop("data_root"), config.pop("dataset_type")
    raw = dataset.initialize_dataset(root, kind, streaming=True, infinite=False)
    train = []
    for sample in dataset.wrap_iterable_dataset_for_preprocessing(raw, kind, config):
        video = sample["video"]
        original = [sample["_original_" + name] for name in ("num_frames", "height", "width")]
        green = (video[:, 1].mean(dim=(1, 2)) * 127.5 + 127.5).tolist()
        train.append({"caption": sample["caption"], "shape": [len(video), *video.shape[2:]], "original": original, "green": green})
    validation = [dict(one) for one in dataset.ValidationDataset("validation.json")]
    print(json.dumps({"class": type(raw).__name__, "train": train, "validation": validation}))
"""


@pytest.mark.slow
def test_finetrainers_own_data_code_reads_every_video_unchanged(manifest: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("finetrainers") is None:
        pytest.skip("finetrainers is not installed: make readers")
    probe = subprocess.run([sys.executable, "-c", "import torchcodec.decoders"], capture_output=True, check=False, timeout=60)
    if probe.returncode:
        pytest.skip("torchcodec cannot be loaded (it needs ffmpeg's shared libraries)")
    outs = {"VideoFileCaptionFileListDataset": tmp_path / "lists", "VideoFolderDataset": tmp_path / "metadata"}
    for out in outs.values():
        run(manifest, "finetrainers", out, listing=out.name)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", FINETRAINERS, *map(str, outs.values())]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for (kind, out), line in zip(outs.items(), done.stdout.splitlines()[-2:], strict=True):
        read = json.loads(line)
        assert read["class"] == kind
        rows = listed(out, "train")
        assert len(read["train"]) == len(rows) == 2
        if kind == "VideoFolderDataset":  # in the order in which the disk lists them; the two differ in length
            read["train"].sort(key=lambda sample: sample["original"])
            rows = dict(sorted(rows.items(), key=lambda item: item[1]["num_frames_out"]))
        for sample, (name, row) in zip(read["train"], rows.items(), strict=True):
            assert sample["caption"] == plain(row["caption"])
            assert sample["shape"] == sample["original"] == [row["num_frames_out"], row["height_out"], row["width_out"]]
            frames = decord.VideoReader(str(out / name)).get_batch(range(row["num_frames_out"])).asnumpy()
            assert np.abs(np.array(sample["green"]) - frames[..., 1].mean(axis=(1, 2))).max() < 1.5
        ((row,), (validation,)) = listed(out, "val").values(), read["validation"]
        assert validation["prompt"] == validation["caption"] == plain(row["caption"])
        assert [validation[name] for name in ("num_frames", "height", "width")] == [
            row[f"{name}_out"] for name in ("num_frames", "height", "width")
        ]
        assert validation["frame_rate"] == validation["export_fps"] == 16


def test_finetrainers_never_takes_the_folder_for_a_repository_of_the_hub(manifest: Path, tmp_path: Path) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id("set/train")
    for root, wanted in {"": "./train", "set": "./set/train", "/data/set/": "/data/set/train", "../set": "../set/train"}.items():
        layout = load("finetrainers")(root=root)  # type: ignore[call-arg]
        assert layout._data_root("train") == wanted  # type: ignore[attr-defined]
        with pytest.raises(HFValidationError):
            validate_repo_id(wanted)
