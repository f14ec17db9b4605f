"""The Frechet distance against its closed form and a second way to it, and the whole way with a scripted module of the test's own."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from curate.errors import MissingWeightsError
from curate.models import WrongWeightsError, sha256_file
from curate.pipelines.frechet import (
    TRUST,
    VideoFeatures,
    VideoNetwork,
    check_network,
    frechet_distance,
    frechet_video_distance,
    moments,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated:FutureWarning")


class TinyDetector(torch.nn.Module):
    """Takes what StyleGAN-V's I3D takes: 6 numbers a clip, colour means of its two halves in time."""

    def forward(self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> torch.Tensor:
        assert not rescale and resize and return_features
        half = x.shape[2] // 2
        return torch.cat([x[:, :, :half].mean(dim=[2, 3, 4]), x[:, :, half:].mean(dim=[2, 3, 4])], dim=1)


class TopThird(torch.nn.Module):
    """Mean of the upper third; frames, height and width."""

    def forward(self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> torch.Tensor:
        top = x[:, :, :, : x.shape[3] // 3].mean()
        return torch.stack([top, torch.tensor(float(x.shape[2])), torch.tensor(float(x.shape[3])), torch.tensor(float(x.shape[4]))])[None]


class Scalar(torch.nn.Module):
    def forward(self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> torch.Tensor:
        return x.mean()


class OtherCall(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("i3d") / "tiny.pt"
    torch.jit.script(TinyDetector()).save(str(path))
    return path


def clips(count: int, seed: int, level: int = 128, num_frames: int = 10) -> list[np.ndarray]:
    """Clips of flat colours that are drawn anew for each half."""
    rng = np.random.default_rng(seed)
    halves = np.clip(rng.normal(level, 20, (count, 2, 1, 1, 3)), 0, 255).astype(np.uint8)
    return [np.broadcast_to(np.repeat(one, num_frames // 2, axis=0), (num_frames, 16, 24, 3)) for one in halves]


def random_covariance(size: int, seed: int, rank: int | None = None) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(size, rank or size))
    return factor @ factor.T


# ---- the distance


def test_gaussians_of_one_dimension_have_the_closed_form() -> None:
    found = frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([4.0]), np.array([[9.0]]))
    assert found == pytest.approx((1 - 4) ** 2 + (2 - 3) ** 2, rel=1e-12)


def test_covariances_that_commute_have_the_closed_form() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    a, b = np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 0.1, 3, 0, 2])
    mean = np.arange(5.0)
    found = frechet_distance(mean, turn @ np.diag(a) @ turn.T, 2 * mean, turn @ np.diag(b) @ turn.T)
    assert found == pytest.approx(float(mean @ mean + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()), rel=1e-10)


def test_covariances_that_do_not_commute_agree_with_the_root_of_their_product() -> None:
    """The textbook's way, by SciPy's root of a matrix that is not symmetric."""
    one, two = random_covariance(12, 1), random_covariance(12, 2)
    root = scipy.linalg.sqrtm(one @ two)
    expected = float(np.trace(one) + np.trace(two) - 2 * np.trace(root).real)
    assert frechet_distance(np.zeros(12), one, np.zeros(12), two) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(np.zeros(12), two, np.zeros(12), one) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("rank", [12, 3])
def test_a_gaussian_is_no_way_from_itself(rank: int) -> None:
    covariance = 100 * random_covariance(12, 3, rank)
    assert 0 <= frechet_distance(np.ones(12), covariance, np.ones(12), covariance) < 1e-9 * np.trace(covariance)


def test_moments_are_numpys() -> None:
    rows = np.random.default_rng(4).normal(size=(50, 6)) * [1, 10, 100, 1, 1, 1] + 1000
    mean, covariance = moments(rows)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(rows.T), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="N at least 2"):
        moments(rows[:1])
    with pytest.raises(ValueError, match="finite"):
        moments(np.array([[1.0], [np.nan]]))


# ---- the whole way


def test_clips_go_in_between_minus_one_and_one_with_time_in_its_place(detector: Path) -> None:
    black_then_red = np.zeros((10, 16, 24, 3), np.uint8)
    black_then_red[5:, ..., 0] = 255
    found = VideoNetwork.open(detector).features([black_then_red])
    np.testing.assert_allclose(found.features_ND, [[-1, -1, -1, 1, -1, -1]], atol=1e-6)
    assert (found.num_frames, found.network_sha256) == (10, sha256_file(detector))


def test_rows_of_the_picture_stay_rows(tmp_path: Path) -> None:
    torch.jit.script(TopThird()).save(str(tmp_path / "top.pt"))
    clip = np.zeros((10, 12, 24, 3), np.uint8)
    clip[:, :4] = 255
    assert VideoNetwork.open(tmp_path / "top.pt").features([clip]).features_ND.tolist() == [[1.0, 10.0, 12.0, 24.0]]


def test_equal_sets_are_near_and_shifted_ones_as_far_as_the_shift(detector: Path) -> None:
    network = VideoNetwork.open(detector)
    real, brighter = network.features(clips(400, 1)), network.features(clips(400, 1, level=148))
    assert frechet_video_distance(real, real).distance < 1e-9
    found = frechet_video_distance(real, brighter)
    assert found.distance == pytest.approx(6 * (20 / 127.5) ** 2, rel=0.02), "six features, each moved by 20 levels"
    assert (found.num_real, found.num_generated, found.num_frames, found.dimension) == (400, 400, 10, 6)


def test_few_clips_come_with_a_warning_that_counts_them(detector: Path) -> None:
    network = VideoNetwork.open(detector)
    few, more = network.features(clips(5, 1)), network.features(clips(30, 2))
    assert "30 real and 5 generated clips do not span the 6 features" in frechet_video_distance(more, few).warning
    assert "fewer than the usual 2,048" in frechet_video_distance(more, more).warning
    many = VideoFeatures(np.random.default_rng(0).normal(size=(2048, 6)), 10, "x")
    assert frechet_video_distance(many, many).warning is None


def test_few_clips_of_one_distribution_look_far_apart(detector: Path) -> None:
    """The bias that the warning speaks of."""
    network = VideoNetwork.open(detector)
    by_count = [frechet_video_distance(network.features(clips(n, 1)), network.features(clips(n, 2))).distance for n in (4, 400)]
    assert by_count[0] > 5 * by_count[1]


# ---- what it refuses


def test_a_missing_file_is_an_error_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"there is no file .*gone\.pt") as found:
        check_network(tmp_path / "gone.pt")
    assert TRUST in str(found.value)
    with pytest.raises(MissingWeightsError):
        VideoNetwork.open(tmp_path / "gone.pt")


def test_files_that_are_no_such_network_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(WrongWeightsError, match="no TorchScript"):
        VideoNetwork.open(tmp_path / "text.pt")
    for name, module, message in (("scalar", Scalar(), r"expected \(1, D\)"), ("other", OtherCall(), "does not take clips")):
        torch.jit.script(module).save(str(tmp_path / f"{name}.pt"))
        with pytest.raises(WrongWeightsError, match=message):
            VideoNetwork.open(tmp_path / f"{name}.pt").features(clips(1, 0))


def test_clips_that_cannot_be_compared_are_refused(detector: Path) -> None:
    network = VideoNetwork.open(detector)
    with pytest.raises(ValueError, match="T at least 10"):
        network.features(clips(1, 0, num_frames=8))
    with pytest.raises(ValueError, match="of 10 and of 12 frames"):
        network.features([*clips(1, 0), *clips(1, 0, num_frames=12)])
    with pytest.raises(ValueError, match="got none"):
        network.features([])
    with pytest.raises(ValueError, match="clips of one length"):
        frechet_video_distance(network.features(clips(2, 0)), network.features(clips(2, 0, num_frames=12)))
