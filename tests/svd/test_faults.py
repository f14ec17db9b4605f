"""The faults that public trainers of SVD have, each with a test that fails on it. Real clips, the real loader, real classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from svd_builders import tiny_unet
from svd_training import clips_of, encoders, films_manifest, run_of, settings_of

from curate.dataset import CuratedClips, Draw
from curate.svd.conditioning import NOISE_AUG_MEAN, NOISE_AUG_STD
from curate.svd.data import Examples, TrainInput, Windows, drawn, encode
from curate.svd.encode import Encoders
from curate.svd.settings import Noise, parse_finetune
from curate.svd.train import train

TWO_RATES = {"sizes": ["64x64"], "fps": 7.0, "take": "all"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films_manifest(tmp_path_factory)


@pytest.fixture(scope="module")
def clips(manifest: Path) -> CuratedClips:
    return clips_of(manifest, settings_of(windows=TWO_RATES))


@pytest.fixture(scope="module")
def both() -> Encoders:
    return encoders()


@pytest.fixture(scope="module")
def items(clips: CuratedClips) -> list[dict]:
    windows = Windows(clips, takes_all=True)
    return [windows[Draw(i, 0, 0)] for i in range(len(windows))]


@pytest.fixture(scope="module")
def examples(items: list[dict], both: Encoders) -> Examples:
    return encode(items, both, None, "cpu")


NEVER_DROPPED = Noise(drop_embed=0, drop_latents=0)


def many(examples: Examples, both: Encoders, noise: Noise, num_epochs: int) -> list[TrainInput]:
    return [drawn(replace(examples, epoch=epoch), both, noise, seed=1) for epoch in range(num_epochs)]


@pytest.fixture(scope="module")
def inputs(examples: Examples, both: Encoders) -> list[TrainInput]:
    """What forty epochs draw for the windows, as a configuration without a word on noise has it."""
    return many(examples, both, parse_finetune({"model": "m", "data": "d", "out": "o"}).noise, 40)


def test_every_window_has_its_own_noise_augmentation(inputs: list[TrainInput]) -> None:
    strengths = torch.cat([one.noise_aug_B for one in inputs])
    assert len(set(strengths.tolist())) == len(strengths)
    logs = torch.log(strengths)
    deviation = NOISE_AUG_STD / len(logs) ** 0.5
    assert abs(logs.mean() - NOISE_AUG_MEAN) < 4 * deviation and abs(logs.std() / NOISE_AUG_STD - 1) < 0.25
    for one in inputs[:3]:
        assert torch.equal(one.cond.time_ids_B3[:, 2], one.noise_aug_B), "the model is told the strength of that very window"


def test_the_first_frame_is_noised_by_the_strength_that_the_model_is_told(examples: Examples) -> None:
    class Seen:
        """A VAE that keeps the pictures as they are: what reaches it can be looked at."""

        device, dtype = torch.device("cpu"), torch.float32

        def encode(self, pictures: torch.Tensor) -> object:
            latents = torch.nn.functional.pad(pictures, (0, 0, 0, 0, 0, 1))
            return type("Encoded", (), {"latent_dist": type("Dist", (), {"mode": lambda _: latents})()})()

    one = drawn(examples, Encoders(Seen(), encoders().image_encoder), NEVER_DROPPED, seed=1)
    noise = one.cond.cond_latents_BCHW[:, :3] - examples.first_BCHW
    for strength, own in zip(one.noise_aug_B, noise, strict=True):
        assert float(own.std()) == pytest.approx(float(strength), rel=0.05)  # 12288 pixels: 0.6 % one deviation


def test_the_rate_that_is_told_is_that_of_the_frames_that_are_seen(
    manifest: Path, items: list[dict], examples: Examples, both: Encoders
) -> None:
    told = drawn(examples, both, NEVER_DROPPED, seed=1).cond.time_ids_B3[:, 0] + 1
    for item, fps in zip(items, told.tolist(), strict=True):
        gaps_s = np.diff(item["times_ns"].numpy()) / 1e9
        assert abs(1 / gaps_s.mean() - fps) <= 0.5, "not the source's 24 or 25 while claiming 7"
    native = clips_of(manifest, settings_of(windows={**TWO_RATES, "fps": 25.0}))
    assert {int(native[i]["fps_id"]) for i in range(len(native))} == {23, 24}
    assert {int(item["fps_id"]) for item in items} <= {5, 6, 7}


def test_a_rate_of_seven_is_told_as_six_as_at_inference(examples: Examples, both: Encoders) -> None:
    seven = replace(examples, fps_B=(7,) * len(examples))
    assert set(drawn(seven, both, NEVER_DROPPED, seed=1).cond.time_ids_B3[:, 0].tolist()) == {6.0}


def test_the_motion_bucket_is_each_windows_own(items: list[dict], examples: Examples, both: Encoders) -> None:
    told = drawn(examples, both, NEVER_DROPPED, seed=1).cond.time_ids_B3[:, 1].tolist()
    assert told == [item["motion_bucket_id"] for item in items]
    assert len(set(told)) > 1 and told != [127.0] * len(told)
    order = np.argsort([item["motion_score"] for item in items])
    assert np.all(np.diff(np.array(told)[order]) >= 0), "more motion, no lower bucket"


def test_the_condition_is_the_vaes_mean_and_not_scaled(examples: Examples, both: Encoders) -> None:
    one, again = (drawn(examples, both, NEVER_DROPPED, seed=1).cond.cond_latents_BCHW for _ in range(2))
    assert torch.equal(one, again), "a sample of the posterior would differ"
    with torch.no_grad():
        clean = both.vae.encode(examples.first_BCHW).latent_dist.mean
    # The noise is weak, so the condition is near the clean frame's mean: scaled by 0.18 it would be far.
    assert float((one - clean).norm() / clean.norm()) < 0.5
    assert float((one * both.scaling_factor - clean).norm() / clean.norm()) > 0.7


def test_clip_latents_are_scaled_means(items: list[dict], examples: Examples, both: Encoders) -> None:
    frames = items[0]["frames"].float() / 255 * 2 - 1
    with torch.no_grad():
        mean = both.vae.encode(frames).latent_dist.mean
    torch.testing.assert_close(examples.latents_BTCHW[0], mean * both.vae.config.scaling_factor, rtol=1e-4, atol=1e-5)


def _dropped(inputs: list[TrainInput]) -> tuple[np.ndarray, np.ndarray]:
    """bool[N]: which windows had no embedding, and which no first frame."""
    embed = torch.cat([(one.cond.image_embed_B1D == 0).flatten(1).all(1) for one in inputs])
    latents = torch.cat([(one.cond.cond_latents_BCHW == 0).flatten(1).all(1) for one in inputs])
    return embed.numpy(), latents.numpy()


def test_the_branch_that_guidance_subtracts_is_trained_by_default(inputs: list[TrainInput]) -> None:
    embed, latents = _dropped(inputs)
    assert np.array_equal(embed, latents), "both together, as sampling's unconditional branch"
    count, share = len(embed), Noise().drop_embed
    assert abs(embed.mean() - share) < 4 * (share * (1 - share) / count) ** 0.5
    one = next(one for one in inputs if (one.cond.cond_latents_BCHW == 0).flatten(1).all(1).any())
    i = int(torch.nonzero((one.cond.cond_latents_BCHW == 0).flatten(1).all(1))[0])
    expected = one.cond.unconditional()
    assert torch.equal(one.cond.image_embed_B1D[i], expected.image_embed_B1D[i])
    assert torch.equal(one.cond.time_ids_B3[i], expected.time_ids_B3[i]) and one.cond.time_ids_B3[i].abs().sum() > 0


def test_independent_dropout_drops_each_on_its_own(examples: Examples, both: Encoders) -> None:
    embed, latents = _dropped(many(examples, both, Noise(drop="independent", drop_embed=0.5, drop_latents=0.25), 15))
    for flags, share in ((embed, 0.5), (latents, 0.25), (embed & latents, 0.125)):
        assert abs(flags.mean() - share) < 4 * (share * (1 - share) / len(flags)) ** 0.5


def test_sigma_and_noise_are_drawn_anew_for_each_window_and_epoch(inputs: list[TrainInput]) -> None:
    logs = torch.log(torch.cat([one.sigma_B for one in inputs]))
    assert len(set(logs.tolist())) == len(logs)
    assert abs(logs.mean() - 0.7) < 4 * 1.6 / len(logs) ** 0.5, "P_mean 0.7 below 1024x576"
    assert abs(logs.std() / 1.6 - 1) < 0.25
    noises = [float(one.noise_BTCHW[i].flatten()[0]) for one in inputs for i in range(len(one.clip_ids))]
    assert len(set(noises)) == len(noises)


def test_what_a_window_meets_does_not_depend_on_its_batch(examples: Examples, items: list[dict], both: Encoders) -> None:
    whole = drawn(examples, both, Noise(), seed=1)
    for i, item in enumerate(items):
        alone = drawn(encode([item], both, None, "cpu"), both, Noise(), seed=1)
        assert torch.equal(alone.sigma_B[0], whole.sigma_B[i]) and torch.equal(alone.noise_BTCHW[0], whole.noise_BTCHW[i])
        assert torch.equal(alone.cond.time_ids_B3[0], whole.cond.time_ids_B3[i])


@pytest.mark.parametrize("limit", [0.01, None])
def test_gradients_are_clipped_to_the_norm_that_is_asked_for(clips: CuratedClips, limit: float | None) -> None:
    settings = settings_of(steps=1, windows=TWO_RATES, optimizer={"clip_grad_norm": limit})
    rows: list[dict] = []
    run = run_of(clips, settings, tiny_unet(4, channels=(32, 32)), on_step=rows.append)
    seen = []

    def look(*_: object) -> None:
        seen.append(float(torch.nn.utils.get_total_norm([p.grad for p in run.unet.parameters()])))

    run.state.optimizer.register_step_pre_hook(look)
    train(run)
    assert rows[0]["grad_norm"] > 0.05, "the log has the norm before clipping"
    assert seen[0] == pytest.approx(rows[0]["grad_norm"] if limit is None else limit, rel=1e-3)
