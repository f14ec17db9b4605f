"""The network in fewer products: the package's own answers, in either precision, and what it holds."""

import numpy as np
import pytest

from curate.errors import MissingWeightsError
from curate.shots import folded

TOLERANCES = {"float32": 1e-5, "bfloat16": 0.03}


@pytest.fixture
def windows(film_48x27):
    """Cuts, a dissolve and single shots, of the network's own length, of a verifier's, and the shortest that it is ever given."""
    made = film_48x27(25.0).shot("bigbuckbunny", 1.2).dissolve("bigbuckbunny", 1.2, "carphone", 0.6).shot("carphone", 1.0, 0.6)
    made.cut().shot("bikes2", 1.5).cut().shot("bigbuckbunny", 1.2)
    frames = np.stack(made.frames)[..., ::-1]
    return [np.ascontiguousarray(frames[part]) for part in (slice(0, 100), slice(40, 102), slice(0, 51), slice(0, 130))]


def expected(model, frames):
    import torch

    with torch.inference_mode():
        return [head[0, :, 0].numpy() for head in model.predict_raw(torch.from_numpy(frames)[None])]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_answers_are_those_of_the_packages_model(windows, the_packages_own, precision):
    import torch

    model = folded.loaded(getattr(torch, precision))
    seen = []
    for frames in windows:
        for ours, theirs in zip(model.predicted(frames), expected(the_packages_own, frames), strict=True):
            assert ours.dtype == np.float32 and ours.shape == (len(frames),)
            assert np.abs(ours - theirs).max() < TOLERANCES[precision]
            seen.append(theirs)
    # The windows hold what the network is sure of and what it is not.
    assert np.concatenate(seen).max() > 0.9 and np.concatenate(seen).min() < 0.01


def test_a_processor_that_cannot_multiply_bfloat16_gets_float32(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert folded.precision() is torch.float32
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert folded.precision() is torch.bfloat16


def test_answers_do_not_depend_on_the_number_of_runs(windows):
    import torch

    model = folded.loaded(torch.bfloat16)
    first, second = model.predicted(windows[1]), model.predicted(windows[1])
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


def test_weights_that_are_gone_are_named(monkeypatch):
    import torch

    monkeypatch.setattr(folded, "WEIGHTS", "gone.pth")
    with pytest.raises(MissingWeightsError, match="install it again"):
        folded.loaded(torch.float32)
