"""LAION heads: the collapse into one dot product against the layers themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curate.models import ModelSpec, WrongWeightsError
from curate.models.laion import head_forward, load_head


def layers(width: int) -> torch.nn.Sequential:
    """The layers of sac+logos+ava1-l14-linearMSE at another width: linear with dropout between, nothing else."""
    from torch.nn import Dropout, Linear

    return torch.nn.Sequential(
        Linear(width, 24), Dropout(0.2), Linear(24, 16), Dropout(0.2), Linear(16, 12), Dropout(0.1), Linear(12, 8), Linear(8, 1)
    )


def unit_rows(count: int, width: int) -> np.ndarray:
    rows = np.random.default_rng(1).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, path)
    return path


def test_five_linear_layers_are_one_dot_product(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = layers(20).double().eval()
    path = saved(tmp_path / "head.pth", {f"layers.{name}": value for name, value in network.state_dict().items()})
    rows = unit_rows(9, 20)
    with torch.no_grad():
        expected = network(torch.from_numpy(rows).double())[:, 0].numpy()
    found = head_forward(ModelSpec("laion_head", (str(path),), (("dimension", 20),)))(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # both in float64
    assert expected.std() > 0.01


def test_a_single_linear_layer_is_taken_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path / "head.pth", {"weight": torch.tensor([[1.0, -2.0, 0.5]]), "bias": torch.tensor([4.0])})
    weight, bias = load_head(path)
    np.testing.assert_array_equal(weight, [1.0, -2.0, 0.5])
    assert bias == 4.0


def test_a_rows_score_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    path = saved(tmp_path / "head.pth", {"weight": torch.randn(1, 512), "bias": torch.randn(1)})
    forward = head_forward(ModelSpec("laion_head", (str(path),), (("dimension", 512),)))
    rows = unit_rows(7, 512)
    assert forward(rows).tolist() == [float(forward(rows[i : i + 1])[0]) for i in range(7)]


@pytest.mark.parametrize(
    "state",
    [
        {"weight": torch.zeros(2, 5), "bias": torch.zeros(2)},
        {
            "layers.0.weight": torch.zeros(4, 5),
            "layers.0.bias": torch.zeros(4),
            "layers.2.weight": torch.zeros(1, 3),
            "layers.2.bias": torch.zeros(1),
        },
        {"running_mean": torch.zeros(5)},
        {"weight": torch.zeros(1, 5)},
    ],
    ids=["two outputs", "widths that do not meet", "no layers", "no bias"],
)
def test_files_that_are_no_linear_head_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(WrongWeightsError):
        load_head(saved(tmp_path / "head.pth", state))


def test_a_head_for_other_embeddings_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "head.pth", {"weight": torch.zeros(1, 768), "bias": torch.zeros(1)})
    with pytest.raises(WrongWeightsError, match="768"):
        head_forward(ModelSpec("laion_head", (str(path),), (("dimension", 512),)))
