"""Our conditioning, one step and whole runs held against diffusers' StableVideoDiffusionPipeline: real classes at tiny size, the same
noise.

Both compute in float32 on one thread; what differs is the order of a few multiplications. Tolerances are relative to the largest value
compared.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import svd_builders
import torch
from PIL import Image

from curate.svd.denoiser import Denoiser
from curate.svd.image_to_video import ImageToVideo
from curate.svd.knobs import Knobs
from curate.svd.sample import decode, guidance, guided, karras_sigmas, sample

FRAMES, SIDE = 4, 64
KNOBS = Knobs(num_frames=FRAMES, steps=3, fps=7, motion_bucket=99, noise_aug=0.05, min_guidance=1.0, max_guidance=2.5)
FLOAT32 = 2e-5  # measured: under 3e-6


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pipeline():
    made = svd_builders.tiny_pipeline(FRAMES)
    made.set_progress_bar_config(disable=True)
    # Where the mixing of spatial and temporal blocks and the norms still stand at their first values, errors there would not show.
    generator = torch.Generator().manual_seed(5)
    for network in (made.unet, made.vae, made.image_encoder):
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return made


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """uint8 (3, 64, 64, 3): three different pictures with smooth and sharp parts."""
    y, x = np.mgrid[:SIDE, :SIDE]
    waves = [np.stack([x * (k + 1) * 3, y * 4, (x + y) * (3 - k) * 2], -1) for k in range(3)]
    return np.stack([(wave % 256).astype(np.uint8) for wave in waves])


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(40 + k) for k in range(count)]


def unlike(found, expected) -> float:
    found, expected = (torch.as_tensor(values).double() for values in (found, expected))
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def theirs(pipeline, pictures, **words):
    images = [Image.fromarray(picture) for picture in pictures]
    with torch.no_grad():
        return pipeline(
            images,
            height=SIDE,
            width=SIDE,
            num_frames=FRAMES,
            num_inference_steps=KNOBS.steps,
            min_guidance_scale=KNOBS.min_guidance,
            max_guidance_scale=KNOBS.max_guidance,
            fps=int(KNOBS.fps),
            motion_bucket_id=KNOBS.motion_bucket,
            noise_aug_strength=KNOBS.noise_aug,
            generator=generators(len(pictures)),
            **words,
        ).frames


@pytest.fixture(scope="module", params=[1, 3])
def recorded(request, pipeline, pictures):
    """Count of pictures, and what the pipeline gave its UNet and got back at each step."""
    calls = []
    hook = pipeline.unet.register_forward_hook(
        lambda _, args, kwargs, output: calls.append((*args, kwargs["encoder_hidden_states"], kwargs["added_time_ids"], output[0])),
        with_kwargs=True,
    )
    latents = theirs(pipeline, pictures[: request.param], output_type="latent")
    hook.remove()
    return request.param, calls, latents


def test_conditioning_is_the_pipelines(pipeline, pictures, recorded):
    count, calls, _ = recorded
    network_in, _, embeds, ids, _ = calls[0]
    cond = ImageToVideo(pipeline).conditioning(pictures[:count], KNOBS, generators(count))
    plain = cond.unconditional()
    assert unlike(torch.cat([plain.image_embed_B1D, cond.image_embed_B1D]), embeds) < FLOAT32
    beside = torch.cat([plain.cond_latents_BCHW, cond.cond_latents_BCHW])[:, None].expand(-1, FRAMES, -1, -1, -1)
    assert unlike(beside, network_in[:, :, 4:]) < FLOAT32
    assert torch.equal(torch.cat([plain.time_ids_B3, cond.time_ids_B3]), ids)


def test_one_step_is_the_pipelines(pipeline, pictures, recorded):
    count, calls, _ = recorded
    scheduler = svd_builders.scheduler()
    scheduler.set_timesteps(KNOBS.steps)
    network_in, timestep, _, _, output = calls[1]
    sigma = scheduler.sigmas[1]
    noisy = network_in[:count, :, :4] * torch.sqrt(sigma**2 + 1)
    plain, told = output.chunk(2)
    strength = torch.linspace(KNOBS.min_guidance, KNOBS.max_guidance, FRAMES)[None, :, None, None, None]
    for step in (0, 1):  # the scheduler counts its steps
        expected = scheduler.step(plain + strength * (told - plain), scheduler.timesteps[step], noisy).pred_original_sample
    cond = ImageToVideo(pipeline).conditioning(pictures[:count], KNOBS, generators(count))
    assert float(timestep) == pytest.approx(float(torch.log(sigma)) / 4)
    with torch.no_grad():
        found = guided(Denoiser(pipeline.unet), cond, sigma.expand(count), False, noisy, strength.flatten())
    assert unlike(found, expected) < FLOAT32


def test_a_run_of_three_steps_is_the_pipelines(pipeline, pictures, recorded):
    count, _, expected = recorded
    maker, drawing = ImageToVideo(pipeline), generators(count)
    cond = maker.conditioning(pictures[:count], KNOBS, drawing)
    strength = guidance(FRAMES, KNOBS.min_guidance, KNOBS.max_guidance)
    found = sample(Denoiser(pipeline.unet), cond, sigmas=karras_sigmas(3), guidance_T=strength, generator=drawing)
    assert unlike(found, expected) < FLOAT32


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_decoded_frames_are_the_pipelines(pipeline, pictures, chunk):
    latents = torch.randn(1, FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        raw = pipeline.decode_latents(latents, FRAMES, chunk)
    expected = np.stack([np.asarray(image) for image in pipeline.video_processor.postprocess_video(raw, "pil")[0]])
    found = decode(latents, pipeline.vae, chunk)[0]
    assert found.shape == (FRAMES, SIDE, SIDE, 3) and expected.std() > 5
    assert np.abs(found.astype(int) - expected).max() <= 1 and np.mean(found != expected) < 0.001, "float32 may round a level up or down"


def test_pictures_in_give_the_pipelines_frames_out(pipeline, pictures):
    expected = np.stack([[np.asarray(image) for image in clip] for clip in theirs(pipeline, pictures, output_type="pil")])
    found = ImageToVideo(pipeline)(pictures, KNOBS, seeds=[40, 41, 42])
    assert np.abs(found.astype(int) - expected).max() <= 1, "float32 may round a level up or down"
    assert np.mean(found != expected) < 0.01


def test_a_clip_does_not_depend_on_what_else_is_in_the_batch(pipeline, pictures):
    maker = ImageToVideo(pipeline)
    together = maker(pictures, KNOBS, seeds=[40, 41, 42])
    alone = maker(pictures[1:2], KNOBS, seeds=[41])
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1
    assert np.abs(together[1].astype(int) - together[0]).max() > 20
