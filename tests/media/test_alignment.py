"""Values do not depend on where an array happens to lie in memory: the same run on another day gives the same bytes."""

import re
from pathlib import Path

import numpy as np

import curate
from curate.media.standing import magnitude


def moved(values: np.ndarray, offset: int) -> np.ndarray:
    """The same array, `offset` bytes after a multiple of 64."""
    room = np.empty(values.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    view = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


def test_lengths_of_gradients_are_the_same_wherever_the_arrays_lie():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(0, 20, (135, 241)).astype(np.float32) for _ in range(2))
    found = {magnitude(moved(x, offset), moved(y, offset * 7 % 64)).tobytes() for offset in range(0, 64, 4)}
    assert len(found) == 1
    np.testing.assert_allclose(magnitude(x, y), np.hypot(x.astype(float), y.astype(float)), rtol=1e-6)


def test_nothing_calls_the_function_that_rounds_by_address():
    """`cv2.magnitude` gave two results for one pair of arrays at 16 places (OpenCV 5.0 with IPP)."""
    folder = Path(curate.__file__).parent
    users = [path.name for path in folder.rglob("*.py") if re.search(r"cv2\.magnitude\(", path.read_text())]
    assert users == []
