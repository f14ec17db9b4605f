"""Low-rank adapters: what they add, that saving, loading, stacking and merging keep the output, and that another base is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from svd_builders import tiny_unet

from curate.errors import ConfigError
from curate.models import WrongWeightsError

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("peft")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from curate.svd import keys, lora  # noqa: E402
from curate.svd.checkpoint import Model, ModelFiles, save_diffusers  # noqa: E402
from curate.svd.lora import add_lora, load_lora, lora_state, merge_lora, save_lora, trainable  # noqa: E402

FULL_SIZE, TEMPORAL = 1_524_623_082, 656_076_838


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def full_size() -> Any:
    with torch.device("meta"):
        return diffusers.UNetSpatioTemporalConditionModel()


def count(parameters: Any) -> int:
    return sum(parameter.numel() for _, parameter in parameters)


def output(unet: Any, dtype: Any = None) -> Any:
    generator = torch.Generator().manual_seed(5)
    dtype = dtype or unet.dtype
    noisy, embed = torch.randn(2, 4, 8, 16, 16, generator=generator), torch.randn(2, 1, 32, generator=generator)
    ids = torch.tensor([[6.0, 127.0, 0.02], [5.0, 60.0, 0.05]])
    with torch.no_grad():
        return unet(noisy.to(dtype), torch.tensor([0.3, -0.2]), embed.to(dtype), ids, return_dict=False)[0]


def trained(seed: int = 0, **arguments: Any) -> Any:
    """A tiny UNet with an adapter that does something: B is no longer zero."""
    unet = tiny_unet()
    add_lora(unet, **{"rank": 4, "alpha": 8.0, **arguments})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.3, generator=generator)
    return unet


# ---- what learns


def test_full_and_temporal_have_the_published_numbers_of_parameters(full_size: Any) -> None:
    assert count(trainable(full_size, "full")) == FULL_SIZE
    assert count(trainable(full_size, "temporal")) == TEMPORAL
    assert sum(parameter.numel() for parameter in full_size.parameters() if parameter.requires_grad) == TEMPORAL


def test_temporal_is_all_that_an_image_model_of_the_same_size_lacks() -> None:
    unet = tiny_unet()
    named = {name for name, _ in trainable(unet, "temporal")}
    with torch.device("meta"):
        image = diffusers.UNet2DConditionModel(
            in_channels=8,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(32, 64),
            attention_head_dim=(2, 4),
            layers_per_block=1,
            cross_attention_dim=32,
            use_linear_projection=True,
        )
    spatial = {name.replace(".spatial_res_block", "") for name, _ in unet.named_parameters() if name not in named}
    assert {name for name in spatial if not name.startswith("add_embedding.")} == {name for name, _ in image.named_parameters()}


@pytest.mark.parametrize(("targets", "layers", "parameters"), [("temporal_attention", 128, 3_319_808), ("attention", 256, 6_639_616)])
def test_rank_16_at_full_size_has_3_3_million_parameters(full_size: Any, targets: str, layers: int, parameters: int) -> None:
    assert len(add_lora(full_size, rank=16, targets=targets)) == layers
    assert count(trainable(full_size, "lora")) == parameters
    assert {parameter.dtype for _, parameter in trainable(full_size, "lora")} == {torch.float32}


def test_a_new_adapter_changes_no_bit_of_the_output_and_freezes_the_rest() -> None:
    unet = tiny_unet()
    before = output(unet)
    layers = add_lora(unet, rank=4)
    assert torch.equal(output(unet), before)
    learning = {name for name, parameter in unet.named_parameters() if parameter.requires_grad}
    assert len(learning) == 2 * len(layers) and all(".lora_" in name for name in learning)
    assert all("temporal_transformer_blocks" in name for name in learning)


def test_the_first_step_trains_b_and_leaves_the_base_without_gradients() -> None:
    unet = tiny_unet()
    add_lora(unet, rank=4)
    noisy = torch.randn(1, 4, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    unet(noisy, torch.tensor(0.3), torch.randn(1, 1, 32), torch.zeros(1, 3), return_dict=False)[0].square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in unet.named_parameters() if parameter.grad is not None}
    assert gradients and all(".lora_" in name for name in gradients)
    assert any(gradient.abs().max() > 0 for name, gradient in gradients.items() if ".lora_B." in name)


def test_a_seed_decides_the_start_and_the_global_generator_is_left_alone() -> None:
    states = []
    for seed in (1, 1, 2):
        unet = tiny_unet()
        torch.manual_seed(99)
        add_lora(unet, rank=4, generator=torch.Generator().manual_seed(seed))
        states.append(lora_state(unet))
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(99)))
    same, other = (all(torch.equal(states[0][name], state[name]) for name in states[0] if "lora_A" in name) for state in states[1:])
    assert same and not other


def test_patterns_choose_layers_convolutions_too() -> None:
    chosen = add_lora(tiny_unet(), rank=2, targets=[r"temporal_res_block\.conv1$", r"mid_block.*attn1\.to_q$"])
    assert any(name.endswith("temporal_res_block.conv1") for name in chosen)
    assert {name for name in chosen if "attn1" in name} == {
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
        "mid_block.attentions.0.temporal_transformer_blocks.0.attn1.to_q",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": ["to_q", "to_nothing"]}, "'to_nothing' finds no layer; temporal_attention, attention, or a part of names such as"),
        ({"targets": "temporal_attn"}, "'temporal_attn' finds no layer"),
        ({"targets": ["to_q("]}, "is no regular expression"),
        ({"rank": 0}, "rank=0 must be at least 1"),
    ],
)
def test_bad_settings_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        add_lora(tiny_unet(), **arguments)


def test_learning_a_lora_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match="add_lora comes first"):
        trainable(tiny_unet(), "lora")
    with pytest.raises(ConfigError, match="it is full, temporal or lora"):
        trainable(tiny_unet(), "spatial")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has a LoRA 'default' already"):
        add_lora(trained())


# ---- files


@pytest.mark.parametrize("layout", ["peft", "original"])
@pytest.mark.parametrize("targets", ["temporal_attention", ["temporal_res_block.conv", "attn1.to_q$", "spatial_res_block.conv1"]])
def test_a_saved_adapter_gives_the_same_output_again(tmp_path: Path, layout: Any, targets: Any) -> None:
    unet = trained(targets=targets)
    path = save_lora(tmp_path / "lora.safetensors", unet, base="tiny", targets=targets, layout=layout)
    other = tiny_unet()
    info = load_lora(other, path)
    assert torch.equal(output(other), output(unet))
    assert not torch.allclose(output(other), output(tiny_unet()), atol=1e-3)
    assert (info.rank, info.alpha, info.base) == (4, 8.0, "tiny")
    assert not any(parameter.requires_grad for parameter in other.parameters())


@pytest.mark.parametrize("targets", ["attention", [r"temporal_res_block\.conv", r"spatial_res_block\.conv1$"]])
def test_merging_keeps_the_output_and_leaves_a_plain_unet(targets: Any) -> None:
    unet = trained(targets=targets)
    before = output(unet)
    merged = merge_lora(unet)
    # One sum of two products becomes a product of a sum: float32 rounding.
    torch.testing.assert_close(output(merged), before, atol=2e-5, rtol=1e-4)
    assert not hasattr(merged, "peft_config")
    assert merged.state_dict().keys() == tiny_unet().state_dict().keys()
    again = tiny_unet()
    again.load_state_dict(merged.state_dict())
    assert torch.equal(output(again), output(merged))
    with pytest.raises(ValueError, match="no LoRA to merge"):
        merge_lora(merged)


def test_the_merged_weight_is_base_plus_scale_alpha_over_rank_b_a(tmp_path: Path) -> None:
    path = save_lora(tmp_path / "lora.safetensors", trained())
    state, base, unet = load_file(path), tiny_unet().state_dict(), tiny_unet()
    load_lora(unet, path, scale=0.5)
    merged = merge_lora(unet).state_dict()
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    layers = {name.removesuffix(".lora_A.weight") for name in state if name.endswith(".lora_A.weight")}
    assert changed == {f"{layer}.weight" for layer in layers}
    for layer in layers:
        product = state[f"{layer}.lora_B.weight"] @ state[f"{layer}.lora_A.weight"]
        torch.testing.assert_close(merged[f"{layer}.weight"] - base[f"{layer}.weight"], 0.5 * 8 / 4 * product, atol=1e-6, rtol=1e-4)


def test_scale_zero_is_the_base(tmp_path: Path) -> None:
    path, unet = save_lora(tmp_path / "lora.safetensors", trained()), tiny_unet()
    load_lora(unet, path, scale=0.0)
    assert torch.equal(output(unet), output(tiny_unet()))


def test_two_adapters_add_up(tmp_path: Path) -> None:
    one = save_lora(tmp_path / "one.safetensors", trained(seed=1))
    two = save_lora(tmp_path / "two.safetensors", trained(seed=2, targets="attention", rank=2))
    unet, merged = tiny_unet(), tiny_unet()
    load_lora(unet, one, scale=0.7)
    load_lora(unet, two, scale=0.3)
    load_lora(merged, two, scale=0.3)
    merge_lora(merged)
    load_lora(merged, one, scale=0.7, any_base=True)
    merge_lora(merged)
    torch.testing.assert_close(output(unet), output(merged), atol=2e-5, rtol=1e-4)
    assert lora.adapters(unet) == ["default", "lora_1"]
    with pytest.raises(ValueError, match="has a LoRA 'default' already"):
        load_lora(unet, one, adapter="default")


def test_an_average_of_the_weights_can_be_saved_in_their_place(tmp_path: Path) -> None:
    unet = trained()
    average = {name: tensor * 0.5 for name, tensor in lora_state(unet).items()}
    path = save_lora(tmp_path / "ema.safetensors", unet, state=average)
    assert all(torch.equal(tensor, average[name]) for name, tensor in load_file(path).items())


def test_the_same_adapter_is_the_same_file(tmp_path: Path) -> None:
    files = [save_lora(tmp_path / name, trained(), targets="temporal_attention").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    with safe_open(tmp_path / "a", framework="pt") as file:
        said = json.loads(file.metadata()["svd_lora"])
    assert (said["rank"], said["alpha"], said["targets"]) == (4, 8.0, ["temporal_attention"])


def test_the_original_layout_has_the_names_of_the_single_file(tmp_path: Path) -> None:
    """As ComfyUI looks them up: a weight's name in the checkpoint without `.weight`, and `.lora_A.weight`, `.lora_B.weight`, `.alpha`."""
    unet = tiny_unet()
    originals = {entry.original for entry in keys.entries("unet", unet.state_dict(), dict(unet.config))}
    state = load_file(save_lora(tmp_path / "lora.safetensors", trained(), layout="original"))
    assert "diffusion_model.input_blocks.1.1.time_stack.0.attn1.to_q.lora_A.weight" in state
    layers = {name.rpartition(".lora_")[0] for name in state if ".lora_" in name}
    assert {f"model.{layer}.weight" for layer in layers} <= originals
    assert {name: float(tensor) for name, tensor in state.items() if ".lora_" not in name} == {f"{layer}.alpha": 8.0 for layer in layers}


def test_files_of_other_tools_load_by_their_shapes(tmp_path: Path) -> None:
    unet = trained(alpha=4.0)
    save_file({f"unet.{name}": tensor for name, tensor in lora_state(unet).items()}, tmp_path / "foreign.safetensors")
    other = tiny_unet()
    info = load_lora(other, tmp_path / "foreign.safetensors")
    assert (info.rank, info.alpha, info.probe) == (4, 4.0, None)
    assert torch.equal(output(other), output(unet))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_base_is_recognised_in_half_precision(tmp_path: Path, dtype: Any) -> None:
    path = save_lora(tmp_path / "lora.safetensors", trained())
    half = tiny_unet().to(dtype)
    load_lora(half, path)
    assert output(half).dtype == dtype
    other = tiny_unet().to(dtype)
    add_lora(other, rank=2)
    load_lora(tiny_unet(), save_lora(tmp_path / "half.safetensors", other))


def test_another_base_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = save_lora(tmp_path / "lora.safetensors", trained(), base="svd-xt")
    other = tiny_unet(seed=1)
    before = output(other)
    with pytest.raises(WrongWeightsError, match=r"trained on other weights \(its base: svd-xt\): 100% of the values compared differ"):
        load_lora(other, path)
    assert torch.equal(output(other), before) and lora.adapters(other) == []
    load_lora(other, path, any_base=True)
    assert not torch.equal(output(other), before)


def test_a_fine_tune_of_a_single_layer_is_another_base(tmp_path: Path) -> None:
    path = save_lora(tmp_path / "lora.safetensors", trained())
    other = tiny_unet()
    with torch.no_grad():
        other.mid_block.resnets[0].temporal_res_block.conv1.weight.mul_(1.03)
    with pytest.raises(WrongWeightsError, match="of the values compared differ"):
        load_lora(other, path)


def test_another_network_is_named_by_layer_and_shape(tmp_path: Path) -> None:
    path = save_lora(tmp_path / "lora.safetensors", trained())
    with pytest.raises(WrongWeightsError, match=r"has another shape for \S+lora_A.weight \(4, 64\), expected \(4, 96\)"):
        load_lora(tiny_unet(channels=(32, 96), heads=(2, 4)), path)
    state = load_file(path)
    state["down_blocks.7.attn1.to_q.lora_A.weight"] = torch.zeros(4, 32)
    del state[next(name for name in state if "lora_B" in name)]
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(WrongWeightsError, match=r"(?s)lacks \S+lora_B.weight \(32, 4\).*no part takes: down_blocks.7.attn1.to_q"):
        load_lora(tiny_unet(), tmp_path / "odd.safetensors")


def test_files_that_are_no_lora_are_told(tmp_path: Path) -> None:
    with pytest.raises(WrongWeightsError, match="there is no LoRA"):
        load_lora(tiny_unet(), tmp_path / "none.safetensors")
    save_file({"conv_in.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(WrongWeightsError, match=r"is no LoRA of .* it has conv_in\.weight"):
        load_lora(tiny_unet(), tmp_path / "model.safetensors")
    (tmp_path / "page.safetensors").write_text("<html>")
    with pytest.raises(WrongWeightsError, match=r"is no whole \.safetensors file"):
        load_lora(tiny_unet(), tmp_path / "page.safetensors")


def test_a_unet_with_an_adapter_is_not_saved_as_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"merge_lora\(unet\) puts it into the weights"):
        save_diffusers(tmp_path / "model", Model(trained(), None, None, "tiny", ModelFiles(None, {})))
    assert not (tmp_path / "model").exists()
