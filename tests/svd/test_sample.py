"""The sampler against closed forms; windows, loops and memory modes against identities, with the real UNet and VAE at tiny size."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import svd_builders
import torch

from curate.models.svd import clip_input
from curate.svd.conditioning import Conditioning, time_ids
from curate.svd.denoiser import Denoiser, Preconditioning
from curate.svd.image_to_video import ImageToVideo
from curate.svd.knobs import Knobs
from curate.svd.memory import DeviceMemoryError, Memory, MemoryMode, blocks, streamed
from curate.svd.overlap import Windows
from curate.svd.sample import NotFiniteError, decode, guidance, guided, karras_sigmas, sample

FRAMES = 4
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditioning(count: int = 1, seed: int = 1, side: int = 8) -> Conditioning:
    embed, latents = torch.randn(count, 1, 32, generator=seeded(seed)), torch.randn(count, 4, side, side, generator=seeded(seed + 1))
    return Conditioning(embed, latents, time_ids([7.0] * count, [127] * count, [0.02] * count))


def shaken(network, seed: int = 9):
    """So that parts which start as the identity, such as the mixing over time, do something."""
    generator = seeded(seed)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture(scope="module")
def unet():
    return shaken(svd_builders.tiny_unet(FRAMES))


@pytest.fixture(scope="module")
def networks():
    pipeline = svd_builders.tiny_pipeline(FRAMES)
    for network in (pipeline.unet, pipeline.vae, pipeline.image_encoder):
        shaken(network)
    return pipeline


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)


class GaussianNetwork(torch.nn.Module):
    """F of the ideal denoiser of data ~ N(0, spread^2): D = x spread^2 / (spread^2 + sigma^2)."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = torch.nn.Parameter(torch.tensor(spread))

    def forward(self, sample, timestep, encoder_hidden_states, added_time_ids, return_dict):
        factors = Preconditioning.of(torch.exp(4 * timestep))
        sigma, (c_skip, c_out, c_in) = (
            torch.exp(4 * timestep),
            (f[:, None, None, None, None] for f in (factors.c_skip, factors.c_out, factors.c_in)),
        )
        x = sample[:, :, :4] / c_in
        ideal = x * (self.spread**2 / (self.spread**2 + sigma**2))[:, None, None, None, None]
        return ((ideal - c_skip * x) / c_out,)


class EchoNetwork(torch.nn.Module):
    """F is the conditioning latents: what guidance does to them is plain to see."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches: list[int] = []

    def forward(self, sample, timestep, encoder_hidden_states, added_time_ids, return_dict):
        self.batches.append(len(sample))
        return (sample[:, :, 4:],)


# ---- sigmas and guidance


def test_sigmas_of_25_steps_are_the_published_table():
    sigmas = karras_sigmas(25)
    assert len(sigmas) == 26
    assert sigmas[:4].tolist() == pytest.approx([700, 545.73, 421.57, 322.45], abs=0.005)
    assert sigmas[-3:].tolist() == pytest.approx([0.0079, 0.002, 0], abs=5e-5)


@pytest.mark.parametrize("steps", [1, 3, 25, 30])
def test_sigmas_are_those_of_the_published_scheduler(steps):
    scheduler = svd_builders.scheduler()
    scheduler.set_timesteps(steps)
    assert torch.allclose(karras_sigmas(steps), scheduler.sigmas, rtol=1e-5, atol=0)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps=0"):
        karras_sigmas(0)


def test_guidance_shapes():
    assert guidance(5, 1, 3).tolist() == [1, 1.5, 2, 2.5, 3]
    assert guidance(3, 1, 3, "constant").tolist() == [3, 3, 3]
    triangle = guidance(8, 1, 3, "triangle")
    assert triangle.tolist() == [1, 1.5, 2, 2.5, 3, 2.5, 2, 1.5]
    assert torch.equal(triangle[1:], triangle[1:].flip(0)), "frames k and T - k lie equally far from the picture"
    with pytest.raises(ValueError, match="linear, triangle or constant"):
        guidance(3, 1, 3, "square")  # type: ignore[arg-type]


def test_guidance_scales_each_frame_by_its_own_number():
    cond, strength = conditioning(2), torch.tensor([1.0, 2.0, 4.0])
    network, sigma = EchoNetwork(), torch.tensor([3.0, 3.0])
    noisy = torch.randn(2, 3, 4, 8, 8, generator=seeded(4))
    found = guided(Denoiser(network), cond, sigma, False, noisy, strength)
    c_skip, c_out = 1 / 10, -3 / math.sqrt(10)
    expected = c_skip * noisy + c_out * strength[None, :, None, None, None] * cond.cond_latents_BCHW[:, None]
    assert torch.allclose(found, expected, atol=1e-6)
    assert network.batches == [4], "both branches in one batch"
    assert torch.equal(guided(Denoiser(network), cond, sigma, True, noisy, strength), found)
    assert network.batches[1:] == [2, 2], "the branches one after the other"


def test_guidance_of_one_computes_one_branch():
    network = EchoNetwork()
    sample(Denoiser(network), conditioning(), sigmas=karras_sigmas(2), guidance_T=torch.ones(3), generator=seeded())
    assert network.batches == [1, 1]


# ---- Euler's method


def test_euler_converges_to_the_closed_form_of_the_probability_flow():
    # For data ~ N(0, s^2) the flow from sigma_0 to 0 multiplies x by s / sqrt(s^2 + sigma_0^2) (arXiv 2206.00364, equation 1 solved).
    spread, noise = 0.5, torch.randn(1, 2, 4, 8, 8, generator=seeded(3))
    exact = noise * math.sqrt(1 + 700**2) * spread / math.sqrt(spread**2 + 700**2)
    errors = []
    for steps in (50, 100, 200):
        found = sample(
            Denoiser(GaussianNetwork(spread)), conditioning(), sigmas=karras_sigmas(steps), guidance_T=torch.ones(2), latents=noise
        )
        errors.append(float((found - exact).abs().max() / exact.abs().max()))
    assert errors[0] < 0.1
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.3) and errors[1] / errors[2] == pytest.approx(2, abs=0.3), "first order"


def test_the_callback_sees_every_step_and_the_last_one_is_the_result(unet):
    seen = []
    found = sample(
        Denoiser(unet),
        conditioning(),
        sigmas=karras_sigmas(3),
        guidance_T=guidance(FRAMES, 1, 2),
        generator=seeded(),
        callback=lambda step, foreseen: seen.append((step, foreseen)),
    )
    assert [step for step, _ in seen] == [0, 1, 2]
    assert torch.allclose(seen[-1][1], found, atol=1e-4 * float(found.abs().max())), "the last step goes to what was foreseen"


def test_the_same_seed_gives_the_same_clip_and_another_seed_another(unet):
    def clip(seed):
        return sample(Denoiser(unet), conditioning(), sigmas=karras_sigmas(2), guidance_T=torch.full((4,), 2.0), generator=seeded(seed))

    assert torch.equal(clip(3), clip(3))
    assert not torch.allclose(clip(3), clip(4), atol=0.1)


def test_a_network_that_gives_nan_is_named():
    network = GaussianNetwork(float("nan"))
    with pytest.raises(NotFiniteError, match="dtype=float32"):
        sample(Denoiser(network), conditioning(), sigmas=karras_sigmas(2), guidance_T=torch.ones(2), generator=seeded())


@pytest.mark.parametrize(("words", "message"), [({}, "neither latents"), ({"latents": torch.zeros(1, 3, 4, 8, 8)}, "do not fit")])
def test_noise_that_is_missing_or_does_not_fit_is_refused(unet, words, message):
    with pytest.raises(ValueError, match=message):
        sample(Denoiser(unet), conditioning(), sigmas=karras_sigmas(1), guidance_T=torch.ones(4), **words)


def test_a_network_in_half_precision_is_sampled_in_float32(unet):
    half = svd_builders.tiny_unet(FRAMES)
    half.load_state_dict(unet.state_dict())
    words = {"sigmas": karras_sigmas(3), "guidance_T": guidance(FRAMES, 1, 2), "latents": torch.randn(1, 4, 4, 8, 8, generator=seeded(5))}
    exact = sample(Denoiser(unet), conditioning(), **words)
    found = sample(Denoiser(half.to(torch.bfloat16)), conditioning(), **words)
    assert found.dtype == torch.float32
    assert float((found - exact).norm() / exact.norm()) < 0.05, "8 bits of mantissa, a dozen layers"


# ---- decoding


def test_chunks_keep_clips_apart(networks):
    latents = torch.randn(2, 3, 4, 8, 8, generator=seeded(6))
    both = decode(latents, networks.vae, 2)
    assert both.shape == (2, 3, 64, 64, 3) and both.dtype == np.uint8
    for clip in (0, 1):
        assert np.abs(both[clip].astype(int) - decode(latents[clip : clip + 1], networks.vae, 2)[0]).max() <= 1


def test_a_loop_is_decoded_as_if_it_had_no_ends(networks):
    latents = torch.randn(1, 6, 4, 4, 4, generator=seeded(7))
    turned = torch.roll(latents, 3, dims=1)

    def seam(wrap):
        straight, rolled = decode(latents, networks.vae, wrap=wrap)[0], decode(turned, networks.vae, wrap=wrap)[0]
        return np.abs(np.roll(straight, 3, axis=0).astype(int) - rolled).mean()

    assert seam(4) < seam(0) / 5


@pytest.mark.parametrize(("words", "message"), [({"chunk": 0}, "chunk=0"), ({"wrap": 9}, "wrap=9")])
def test_impossible_chunks_are_refused(networks, words, message):
    with pytest.raises(ValueError, match=message):
        decode(torch.zeros(1, 2, 4, 8, 8), networks.vae, **words)


# ---- windows and loops


@pytest.mark.parametrize("is_loop", [False, True])
@pytest.mark.parametrize(
    ("total", "size", "overlap"), [(40, 14, 4), (25, 25, 8), (26, 25, 8), (61, 14, 0), (15, 14, 13), (100, 25, 12), (9, 14, 4)]
)
def test_windows_cover_every_frame_and_overlap_as_asked(total, size, overlap, is_loop):
    windows = Windows.over(total, size, overlap, is_loop)
    assert torch.allclose(windows.weights().sum(0), torch.ones(total))
    steps = np.diff([*windows.starts, total] if is_loop else windows.starts)
    assert (windows.size - steps >= min(overlap, windows.size - 1)).all() and (steps > 0).all()
    last = windows.frames(windows.starts[-1])
    assert (0 in last) if is_loop else (last[-1] == total - 1)


def test_two_windows_cross_fade_linearly():
    windows = Windows.over(total=10, size=6, overlap=2)
    assert windows.starts == (0, 4)
    first, second = windows.weights()
    assert first.tolist() == pytest.approx([1, 1, 1, 1, 2 / 3, 1 / 3, 0, 0, 0, 0])
    assert second.tolist() == pytest.approx([0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1])


def test_blending_what_is_the_same_in_all_windows_changes_nothing():
    x, strength = torch.randn(1, 11, 4, 2, 2, generator=seeded(8)), torch.arange(11.0)
    for is_loop in (False, True):
        windows = Windows.over(11, 4, 2, is_loop)
        found = windows.blend(lambda part, own: part * own[None, :, None, None, None], x, strength)
        assert torch.allclose(found, x * strength[None, :, None, None, None], atol=1e-5)


def test_one_window_is_no_window(unet):
    words = {"sigmas": karras_sigmas(2), "guidance_T": guidance(FRAMES, 1, 2), "latents": torch.randn(1, 4, 4, 8, 8, generator=seeded(1))}
    plain = sample(Denoiser(unet), conditioning(), **words)
    found = sample(Denoiser(unet), conditioning(), windows=Windows.over(FRAMES, FRAMES, 2), **words)
    assert torch.allclose(found, plain, atol=1e-5 * float(plain.abs().max()))


def test_a_loop_treats_its_join_as_any_other_place(unet):
    noise, strength = torch.randn(1, 8, 4, 8, 8, generator=seeded(2)), torch.full((8,), 2.0)

    def clip(noise, is_loop):
        windows = Windows.over(8, FRAMES, 2, is_loop)
        return sample(Denoiser(unet), conditioning(), sigmas=karras_sigmas(2), guidance_T=strength, latents=noise, windows=windows)

    for is_loop in (True, False):
        turned = clip(torch.roll(noise, 2, dims=1), is_loop)
        expected = torch.roll(clip(noise, is_loop), 2, dims=1)
        assert torch.allclose(turned, expected, atol=1e-4 * float(expected.abs().max())) == is_loop, "a clip with ends is not turned so"


@pytest.mark.parametrize("overlap", [4, -1])
def test_an_overlap_of_whole_windows_is_refused(overlap):
    with pytest.raises(ValueError, match=f"overlap={overlap} must lie in 0 to 3"):
        Windows.over(8, 4, overlap)


def test_longer_clips_have_the_length_asked_for(networks, picture):
    knobs = Knobs(num_frames=FRAMES, steps=1, length=9)
    assert ImageToVideo(networks)(picture, knobs).shape == (1, 9, 64, 64, 3)
    loop = Knobs(num_frames=FRAMES, steps=1, loop=True, guidance_shape="triangle")
    assert ImageToVideo(networks)(picture, loop).shape == (1, 4, 64, 64, 3)


def test_parts_begin_from_the_last_frame_which_is_not_shown_twice(networks, picture):
    seen = []
    hook = networks.image_encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    knobs = Knobs(num_frames=FRAMES, steps=2, length=9, longer="last_frame")
    frames = ImageToVideo(networks)(picture, knobs)
    hook.remove()
    assert frames.shape[1] == 9 and len(seen) == 3, "4 frames, then 3 new ones twice, of which 2 are asked for"
    plain = ImageToVideo(networks)(picture, Knobs(num_frames=FRAMES, steps=2))
    assert np.array_equal(frames[:, :FRAMES], plain)
    for told, last in zip(seen[1:], (3, 6), strict=True):
        signed = torch.from_numpy(frames[:, last]).permute(0, 3, 1, 2).float() / 255 * 2 - 1
        assert torch.allclose(told, clip_input(signed, 224), atol=1e-5)


# ---- memory modes


@pytest.mark.parametrize("mode", ["balanced", "low"])
def test_memory_modes_give_the_same_frames(networks, picture, mode):
    knobs = Knobs(num_frames=FRAMES, steps=2, decode_chunk=2)
    fast = ImageToVideo(networks)(picture, knobs)
    found = ImageToVideo(networks, memory=mode)(picture, knobs)
    assert np.abs(found.astype(int) - fast).max() <= 1
    assert np.array_equal(ImageToVideo(networks)(picture, knobs), fast), "the networks are as they were"


def test_streamed_blocks_are_on_the_device_one_at_a_time(unet):
    parts = blocks(unet)
    assert {id(p) for part in parts for p in part.parameters()} == {id(p) for p in unet.parameters()}
    before = [parameter.detach().clone() for parameter in unet.parameters()]
    resident = set()

    def look(module, _):
        resident.add(tuple(index for index, part in enumerate(parts) if next(part.parameters()).device.type == "meta"))

    with streamed(unet, torch.device("meta")):
        hooks = [
            module.register_forward_pre_hook(look) for module in unet.modules() if isinstance(module, (torch.nn.Linear, torch.nn.GroupNorm))
        ]
        with torch.no_grad():
            unet(
                torch.empty(1, 4, 8, 8, 8, device="meta"),
                torch.empty(1, device="meta"),
                torch.empty(1, 1, 32, device="meta"),
                torch.empty(1, 3, device="meta"),
            )
    for hook in hooks:
        hook.remove()
    # conv_norm_out stands between blocks; its own hook runs before the block's weights have come.
    assert max(len(which) for which in resident) == 1 and len(resident) >= len(parts) - 3
    assert all(
        parameter.device.type == "cpu" and torch.equal(parameter, old) for parameter, old in zip(unet.parameters(), before, strict=True)
    )


def test_low_memory_feeds_forward_one_frame_at_a_time_and_then_stops(unet):
    sizes = []
    layers = [module for module in unet.modules() if type(module).__name__ == "FeedForward"]
    hooks = [layer.register_forward_pre_hook(lambda _, args: sizes.append(min(args[0].shape[:2]))) for layer in layers]
    words = {"sigmas": karras_sigmas(1), "guidance_T": torch.ones(4), "generator": seeded()}
    with Memory("low", CPU).holding_unet(unet):
        sample(Denoiser(unet), conditioning(), **words)
    assert set(sizes) == {1}
    sizes.clear()
    sample(Denoiser(unet), conditioning(), **words)
    for hook in hooks:
        hook.remove()
    assert min(sizes) == FRAMES


@pytest.mark.parametrize(
    ("mode", "part", "remedy"),
    [
        ("fast", "unet", "sampling: cpu has too little memory for memory=fast: use memory=balanced"),
        ("balanced", "unet", "use memory=low"),
        ("low", "unet", "use decode_chunk=1, a smaller size or fewer frames"),
        ("balanced", "vae.decoder", "decoding: .*decode_chunk=2"),
        ("fast", "image_encoder", "encoding the picture: "),
    ],
)
def test_out_of_memory_says_what_to_use_instead(networks, picture, mode: MemoryMode, part, remedy):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    network = networks.vae.decoder if part == "vae.decoder" else getattr(networks, part)
    hook = network.register_forward_pre_hook(full)
    try:
        with pytest.raises(DeviceMemoryError, match=remedy):
            ImageToVideo(networks, memory=mode)(picture, Knobs(num_frames=FRAMES, steps=1))
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((1, 60, 64, 3), np.uint8), "64x60; both sides must be multiples of 64"),
        (np.zeros((1, 64, 64, 3), np.float32), "must be uint8"),
        (np.zeros((64, 64, 3), np.uint8), "must be uint8"),
    ],
)
def test_wrong_pictures_are_refused(networks, pictures, message):
    with pytest.raises(ValueError, match=message):
        ImageToVideo(networks)(pictures, Knobs())
