"""Linear layers in whole numbers: how near they are to float32, what decides their bits, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from curate.errors import ConfigError
from curate.models import Models, ModelSpec, load_model
from curate.models.clip import image_forward, image_spec
from curate.models.int8 import Int8Attention, Int8Linear, check_exact, quantised
from curate.scorers.aesthetic import Scorer


def layer_and_rows(outlier: float = 1.0) -> tuple[nn.Linear, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    layer = nn.Linear(256, 96)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(96, 256, generator=generator) / 16)
        layer.bias.copy_(torch.randn(96, generator=generator))
    rows = torch.randn(50, 256, generator=generator)
    rows[:, 7] *= outlier
    return layer, rows


@pytest.mark.parametrize("outlier", [1.0, 300.0])
def test_products_are_right_but_for_the_rounding_of_the_weights_even_beside_an_outlier(outlier: float) -> None:
    """Reference in float64 with the weights as rounded; one 8-bit term for the activations would be off by 1 % and 100 % of the rest."""
    layer, rows = layer_and_rows(outlier)
    quick = Int8Linear(layer.weight, layer.bias)
    held = quick.weight.double().t() * quick.scale.double()[:, None]
    assert (held - layer.weight.double()).abs().max() <= quick.scale.max() / 2 * 1.001
    with torch.inference_mode():
        found, exact = quick(rows).double(), rows.double() @ held.t() + layer.bias.double()
    step = rows.abs().amax(1, keepdim=True) / 127 / 254
    assert ((found - exact).abs() <= step / 2 * held.abs().sum(1) + 1e-4 * outlier).all()
    assert (found - exact).abs().max() < 1e-3 * exact.abs().max()


def test_rows_of_zeros_give_the_bias_and_shapes_stay() -> None:
    layer, rows = layer_and_rows()
    quick = Int8Linear(layer.weight, layer.bias)
    with torch.inference_mode():
        assert torch.equal(quick(torch.zeros(2, 3, 256)), layer.bias.expand(2, 3, 96))
        batch = quick(rows)
        assert all(torch.equal(quick(row[None])[0], expected) for row, expected in zip(rows, batch, strict=True))


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(2)
    reference = nn.MultiheadAttention(64, 4, batch_first=True).eval()
    quick = Int8Attention(reference)
    with torch.no_grad():  # the weights as they were rounded: what is left is the rounding of activations, 1/64,516 of a row's largest
        reference.in_proj_weight.copy_(quick.inward.weight.t().float() * quick.inward.scale[:, None])
        reference.out_proj.weight.copy_(quick.outward.weight.t().float() * quick.outward.scale[:, None])
    x, mask = torch.randn(2, 9, 64), torch.full((9, 9), -torch.inf).triu(1)
    with torch.inference_mode():
        for attn_mask in (None, mask):
            expected, _ = reference(x, x, x, need_weights=False, attn_mask=attn_mask)
            found, weights = quick(x, x, x, need_weights=False, attn_mask=attn_mask)
            assert weights is None
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_tower_at_int8_is_near_float32_and_repeats_its_bytes(tiny_clip: Path) -> None:
    model, path = f"local-dir:{tiny_clip}", tiny_clip / "open_clip_model.safetensors"
    rng = np.random.default_rng(5)
    pictures = [rng.integers(0, 256, (70, 90, 3), np.uint8) for _ in range(4)]
    exact = image_forward(image_spec(model, "", path))(pictures)
    found = image_forward(image_spec(model, "", path, "int8"))(pictures)
    assert not np.array_equal(found, exact)
    assert (1 - (found * exact).sum(axis=1)).max() < 1e-4
    alone = np.concatenate([image_forward(image_spec(model, "", path, "int8"))([picture]) for picture in pictures])
    assert alone.tobytes() == found.tobytes()


def test_other_towers_gpus_and_inexact_processors_are_refused(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="use precision float32"):
        quantised(nn.Sequential(nn.Linear(4, 4)), "RN50")
    spec = image_spec(f"local-dir:{tiny_clip}", "", tiny_clip / "open_clip_model.safetensors", "int8")
    with pytest.raises(ConfigError, match="device=cpu"):
        image_forward(ModelSpec(spec.kind, spec.paths, spec.parameters, device="cuda"))
    check_exact()
    exact = torch._int_mm
    # Pairs of products saturate at 16 bits where 8-bit multiplication has no instruction of its own.
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: exact(a, b).clamp(-(2**15), 2**15 - 1))
    with pytest.raises(ConfigError, match="not exact on this processor"):
        check_exact()


@pytest.mark.slow
@pytest.mark.shared
def test_real_scores_are_within_a_hundredth_of_a_point(shared_data: Path, real_weights: Path) -> None:
    import av

    from curate.models import locate

    scorer = Scorer(model="ViT-B-16")
    models = Models({weight: locate(weight, (real_weights,)) for weight in scorer.weights()}, loader=load_model)
    pictures = []
    for name in ("ai_cogvideo_1", "cockatoo", "sam2_01_dog", "ui_widgets_animated_container", "car_detection"):
        with av.open(str(shared_data / "videos" / f"{name}.mp4")) as container:
            pictures.append(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    embed, grade = scorer.networks(models)
    quick, _ = Scorer(model="ViT-B-16", precision="int8").networks(models)
    exact, found = embed(pictures), quick(pictures)
    assert (1 - (exact * found).sum(axis=1)).max() < 1e-5
    assert np.abs(grade(exact) - grade(found)).max() < 0.01
