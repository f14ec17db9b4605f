"""The names of SVD's tensors in its original single file: those of the published files, each to its counterpart; and open_clip's."""

import hashlib
import json
from typing import Any

import pytest
from svd_builders import tiny_unet

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from curate.svd import keys  # noqa: E402
from curate.svd.checkpoint import PARTS  # noqa: E402

# Names in svd.safetensors as public code spells them out: ComfyUI's (detection, VAE, leftovers), Stability's, DiffSynth-Studio's.
PUBLISHED = {
    "model.diffusion_model.time_embed.2.bias": (1280,),
    "model.diffusion_model.label_emb.0.0.weight": (1280, 768),
    "model.diffusion_model.input_blocks.0.0.weight": (320, 8, 3, 3),
    "model.diffusion_model.input_blocks.1.0.emb_layers.1.weight": (320, 1280),
    "model.diffusion_model.input_blocks.1.0.time_stack.in_layers.2.weight": (320, 320, 3, 1, 1),
    "model.diffusion_model.input_blocks.1.0.time_mixer.mix_factor": (1,),
    "model.diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320),
    "model.diffusion_model.input_blocks.1.1.time_stack.0.attn2.to_k.weight": (320, 1024),
    "model.diffusion_model.input_blocks.1.1.time_stack.0.ff_in.net.0.proj.weight": (2560, 320),
    "model.diffusion_model.input_blocks.1.1.time_pos_embed.2.weight": (320, 1280),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_out.0.bias": (320,),
    "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
    "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
    "model.diffusion_model.input_blocks.9.0.op.bias": (1280,),
    "model.diffusion_model.input_blocks.11.0.out_layers.3.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.middle_block.1.time_mixer.mix_factor": (1,),
    "model.diffusion_model.middle_block.2.time_stack.out_layers.0.weight": (1280,),
    "model.diffusion_model.output_blocks.0.0.skip_connection.weight": (1280, 2560, 1, 1),
    "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.output_blocks.8.2.conv.bias": (640,),
    "model.diffusion_model.output_blocks.11.1.proj_out.weight": (320, 320),
    "model.diffusion_model.out.0.weight": (320,),
    "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
    "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    "first_stage_model.decoder.conv_out.time_mix_conv.weight": (3, 3, 3, 1, 1),
    "first_stage_model.decoder.mid.attn_1.q.weight": (512, 512, 1, 1),
    "first_stage_model.decoder.mid.block_1.mix_factor": (1,),
    "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
    "first_stage_model.decoder.up.0.block.2.time_stack.out_layers.3.bias": (128,),
    "first_stage_model.decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
    "conditioner.embedders.3.encoder.quant_conv.weight": (8, 8, 1, 1),
    "conditioner.embedders.3.encoder.encoder.down.2.downsample.conv.bias": (512,),
    "conditioner.embedders.3.encoder.encoder.mid.attn_1.proj_out.weight": (512, 512, 1, 1),
    "conditioner.embedders.3.encoder.encoder.norm_out.bias": (512,),
    "conditioner.embedders.0.open_clip.model.visual.class_embedding": (1280,),
    "conditioner.embedders.0.open_clip.model.visual.conv1.weight": (1280, 3, 14, 14),
    "conditioner.embedders.0.open_clip.model.visual.positional_embedding": (257, 1280),
    "conditioner.embedders.0.open_clip.model.visual.proj": (1280, 1024),
    "conditioner.embedders.0.open_clip.model.visual.transformer.resblocks.31.attn.in_proj_weight": (3840, 1280),
    "conditioner.embedders.0.open_clip.model.visual.transformer.resblocks.31.mlp.c_fc.bias": (5120,),
}
# Count, and sha256 of the sorted names joined with newlines, of the tables with which DiffSynth-Studio 1.1.9 reads svd.safetensors.
PUBLISHED_NAMES = {
    "unet": (1428, "281ec0cd2d50e45ad350b6e7c707d769c35f8f5947d39f9d0546795e2c27a7c1"),
    "vae": (374, "2ff2157eea3fc7da0e12c281b5b69d1a468c15354d2cc240d11c3aedbef9065f"),
    "image_encoder": (392, "597069c71341cf4cf373637430db382aacdfd862e54a2db6909be3ad27d9257d"),
}

# sha256 of the sorted lines "original diffusers": in DiffSynth-Studio's two tables, of originals and of diffusers', each pair meets.
PUBLISHED_PAIRS = {
    "unet": "9a363c7415034a7ac837990cccc5f746e9e4f177d7c30178a7abce59de5e3c2f",
    "vae": "241fcc74321c99180571c4a194c37e866f3c17307a073d6a549652ab42df8256",
}


@pytest.fixture(scope="module")
def full_size() -> dict[str, Any]:
    """The published configurations, without memory."""
    with torch.device("meta"):
        return {
            "unet": diffusers.UNetSpatioTemporalConditionModel(num_frames=14),
            "vae": diffusers.AutoencoderKLTemporalDecoder(
                down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(128, 256, 512, 512), layers_per_block=2
            ),
            "image_encoder": transformers.CLIPVisionModelWithProjection(
                transformers.CLIPVisionConfig(
                    hidden_size=1280,
                    intermediate_size=5120,
                    num_hidden_layers=32,
                    num_attention_heads=16,
                    patch_size=14,
                    projection_dim=1024,
                    hidden_act="gelu",
                )
            ),
        }


def config_of(part: str, network: Any) -> dict[str, Any]:
    return network.config.to_dict() if part == "image_encoder" else dict(network.config)


def original_shapes(networks: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for part, network in networks.items():
        own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        shapes.update({entry.original: entry.shape(own) for entry in keys.entries(part, own, config_of(part, network))})
    return shapes


def test_the_full_size_is_the_published_one(full_size: dict[str, Any]) -> None:
    counts = {part: sum(parameter.numel() for parameter in network.parameters()) for part, network in full_size.items()}
    assert counts == {"unet": 1_524_623_082, "vae": 97_742_847, "image_encoder": 632_076_800}


@pytest.mark.parametrize("part", PARTS)
def test_every_published_name_is_written_and_none_besides(full_size: dict[str, Any], part: str) -> None:
    network = full_size[part]
    names = list(network.state_dict())
    table = keys.entries(part, names, config_of(part, network))
    originals = [entry.original for entry in table]
    assert sorted(name for entry in table for name in entry.names) == sorted(names), "each tensor goes to one place"
    assert (len(set(originals)), hashlib.sha256("\n".join(sorted(originals)).encode()).hexdigest()) == PUBLISHED_NAMES[part]


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_every_name_goes_to_its_own_counterpart(full_size: dict[str, Any], part: str) -> None:
    table = keys.entries(part, full_size[part].state_dict(), dict(full_size[part].config))
    lines = sorted(f"{entry.original} {entry.names[0]}" for entry in table)
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_PAIRS[part]


def test_names_and_shapes_are_those_that_public_code_reads(full_size: dict[str, Any]) -> None:
    shapes = original_shapes(full_size)
    assert {name: shapes.get(name) for name in PUBLISHED} == PUBLISHED


def test_names_and_shapes_give_the_configuration_back(full_size: dict[str, Any]) -> None:
    for part, config in keys.configs(original_shapes(full_size), PARTS).items():
        own = json.loads(json.dumps(config_of(part, full_size[part])))
        assert json.loads(json.dumps(config)) == {name: own[name] for name in config}, part


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("channels", "heads"), [((32, 64), (2, 4)), ((32, 64, 64), (1, 2, 4)), ((32, 64, 64, 96), (1, 2, 2, 3))])
def test_configurations_of_other_sizes_come_back_too(channels: tuple[int, ...], heads: tuple[int, ...], layers: int) -> None:
    with torch.device("meta"):
        unet = tiny_unet(channels=channels, heads=heads, layers=layers)
    shapes = original_shapes({"unet": unet})
    config = keys.configs(shapes, ["unet"])["unet"]
    own = dict(unet.config)
    told = set(config) - {"num_attention_heads", "num_frames"}  # shapes do not tell these
    assert {name: config[name] for name in told} == {name: own[name] for name in told}


# ---- numbers


def test_our_vision_tower_computes_what_open_clips_does() -> None:
    """Independent of the table of names: open_clip's own class, with its own state dict as the file has it."""
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(7)
    tower = open_clip.transformer.VisionTransformer(
        image_size=64, patch_size=16, width=64, layers=2, heads=4, mlp_ratio=2.0, output_dim=32
    ).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.normal_(std=0.05)
    original = {keys.CLIP + name: tensor for name, tensor in tower.state_dict().items()}
    config = keys.configs({name: tuple(tensor.shape) for name, tensor in original.items()}, ["image_encoder"])["image_encoder"]
    ours = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config | {"num_attention_heads": 4})).eval()
    state: dict[str, Any] = {}
    for entry in keys.entries("image_encoder", ours.state_dict(), config):
        state |= entry.from_original(original.pop(entry.original))
    assert not original
    ours.load_state_dict(state)
    pictures = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected, found = tower(pictures), ours(pictures).image_embeds
    # float32 sums in another order
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected.abs().max() > 0.05


def test_the_full_size_file_holds_the_106_tensors_of_the_first_stages_encoder(full_size: dict[str, Any]) -> None:
    """The count is that of Stability's file."""
    vae = full_size["vae"]
    assert len(keys.folded_encoder(vae.state_dict(), dict(vae.config))) == 106
