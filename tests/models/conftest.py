"""Fixtures of the model tests: a tiny CLIP of the real layout on disk, and the real weights that a package index can give."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
}


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an open_clip model with both towers, random but fixed weights, 32 numbers an embedding."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny_clip")
    (folder / "open_clip_config.json").write_text(json.dumps(TINY))
    torch.manual_seed(3)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def real_weights(shared_data: Path) -> Path:
    """Weights folder with CLIP ViT-B/16 (image tower), the LAION heads and CRAFT, fetched once and kept in the user's cache."""
    folder = Path.home() / ".cache" / "curate" / "test-weights"
    wanted = ["open_clip/ViT-B-16-quickgelu_openai_visual.safetensors", "laion/sa_0_4_vit_b_16_linear.pth", "easyocr/craft_mlt_25k.pth"]
    if all((folder / name).is_file() for name in wanted):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    # The script converts an ONNX file; onnx goes into a folder of its own, since nothing else here needs it.
    library = folder / "onnx-library"
    commands = [
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(library), "onnx", "ml_dtypes", "protobuf"],
        [sys.executable, str(shared_data / "fetch_weights.py"), str(folder)],
    ]
    for command in commands:
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": str(library)}, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"real weights cannot be fetched: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return folder
