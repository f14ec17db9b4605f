"""LAION's aesthetic heads as one dot product: score = w . e + b, with e the L2-normalised CLIP embedding.

`sac+logos+ava1-l14-linearMSE` is five linear layers with dropout between them and no activation, so in evaluation
W5 (W4 (W3 (W2 (W1 e + b1) + b2) + b3) + b4) + b5 is linear in e; the product is taken once in float64. The `sa_0_4` heads are a
single linear layer. Sources: github.com/christophschuhmann/improved-aesthetic-predictor, github.com/LAION-AI/aesthetic-predictor.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curate.models import ModelSpec, WrongWeightsError


def load_head(path: Path) -> tuple[np.ndarray, float]:
    """(weight float64 (D,), bias) of a head's file: a state dict of linear layers in the order of their numbers.

    Raises `WrongWeightsError` where the file holds anything else.
    """
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and "state_dict" in state:
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(name.rsplit(".", 1)[-1] in ("weight", "bias") for name in state):
        raise WrongWeightsError(f"{path} holds no linear layers")
    layers = sorted({name.rpartition(".")[0] for name in state}, key=_layer_number)
    try:
        pairs = [(_float64(state[f"{layer}.weight".lstrip(".")]), _float64(state[f"{layer}.bias".lstrip(".")])) for layer in layers]
        return collapse(pairs)
    except (KeyError, ValueError) as error:
        raise WrongWeightsError(f"{path} is not a chain of linear layers that ends in one number: {error}") from error


def collapse(layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, float]:
    """The one linear map that a chain of (weight (out, in), bias (out,)) is, first layer first."""
    weight, bias = layers[0]
    for next_weight, next_bias in layers[1:]:
        weight, bias = next_weight @ weight, next_weight @ bias + next_bias
    if weight.shape[0] != 1:
        raise ValueError(f"the last layer gives {weight.shape[0]} numbers")
    return weight[0], float(bias[0])


def head_forward(spec: ModelSpec) -> Callable[[np.ndarray], np.ndarray]:
    """float32 (N, D) embeddings of length 1 -> float64 (N,) scores; the device plays no part."""
    weight, bias = load_head(Path(spec.paths[0]))
    dimension = spec["dimension"]
    if weight.shape != (dimension,):
        raise WrongWeightsError(f"{spec.paths[0]} takes embeddings of {weight.size} numbers, the model gives {dimension}")

    def forward(embeddings: np.ndarray) -> np.ndarray:
        # A sum along the row, not a matrix product: BLAS picks its summation by the number of rows.
        return (np.asarray(embeddings, np.float64) * weight).sum(axis=1) + bias

    return forward


def _layer_number(name: str) -> int:
    digits = name.rsplit(".", 1)[-1]
    return int(digits) if digits.isdigit() else 0


def _float64(tensor: Any) -> np.ndarray:
    return tensor.double().numpy()
