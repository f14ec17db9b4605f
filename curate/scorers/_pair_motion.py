"""Motion between two small frames: dense flow, the camera's part of it, and how far the pixels prefer the one to the other.

The method is described in `curate.scorers.motion`; this is its arithmetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

MAX_SMOOTHED_RATIO = 2.5  # up to which a reduction is a blur and linear interpolation, a fifth of the cost of an area average
MAX_LONG_SIDE = 400  # px; a strip of a picture is squeezed
FLOW_STRIDE, FLOW_ITERATIONS = 3, 12  # px between patches of 8 x 8; steps of gradient descent for each
WINDOW = 5  # cells of 2 x 2 px
TEXTURE = 1.0  # squared levels per squared pixel: smaller eigenvalue of the structure tensor at which a point counts half
NOISE_GAIN = 0.5  # squared levels
CAMERA_GAIN = 0.01  # squared levels; less than NOISE_GAIN because it is a mean over the frame
CAMERA_NOISE_SHARE = 0.05
INLIER_PX = 0.2
SIMPLER_BY = 1.03  # a model with more parameters must explain this much more
ANNEALING_PX = (2.0, 1.0, 0.5, 0.25, 0.15)

_NORMAL = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])  # where the sums of 1, u, v, u2, uv, v2 stand in the normal equations


@dataclass(frozen=True, slots=True)
class PairMotion:
    """Motion between two frames, in per cent of the diagonal (not yet per second). `shift` is the camera's (x, y) at the centre."""

    total: float
    camera: float
    object: float
    shift: tuple[float, float]


def open_flow() -> cv2.DISOpticalFlow:
    """Dense inverse search down to patches at half the size of the frames, without variational refinement (see `FLOW_STRIDE`)."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setPatchStride(FLOW_STRIDE)
    flow.setGradientDescentIterations(FLOW_ITERATIONS)
    flow.setVariationalRefinementIterations(0)
    return flow


def pair_motions(pairs: Sequence[tuple[np.ndarray, np.ndarray]], flow: cv2.DISOpticalFlow, short_side: int = 96) -> list[PairMotion]:
    """Motion from one uint8 (H, W) luma to another, for pairs of one size. A pair's result does not depend on the others."""
    if not pairs:
        return []
    height, width = pairs[0][0].shape
    size = small_size(pairs[0][0], short_side)
    small = [_SmallPair(resized(luma0, size), resized(luma1, size), flow) for luma0, luma1 in pairs]
    moving = [pair for pair in small if not pair.is_same]
    for pair, model in zip(moving, _camera_models(moving), strict=True):
        pair.model = pair.supported(pair.refined(model))
    return [pair.motion(width, height) for pair in small]


class _Grid:
    """Where the pixels of a small frame lie, the middles of its cells of 2 x 2, and the points at which brightness is compared.

    `x`, `y` float32 (h, w); a basis is float32 (3, ...), whose rows are 1, u and v: distance from the centre in heights.
    """

    def __init__(self, height: int, width: int) -> None:
        self.size = width, height
        self.x, self.y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self.basis = np.stack([np.ones_like(self.x), (self.x - (width - 1) / 2) / height, (self.y - (height - 1) / 2) / height])
        self.cell_basis = np.stack([_cells(plane) for plane in self.basis])
        self.point_x, self.point_y = (_points(plane) for plane in (self.x, self.y))
        self.point_basis = np.stack([_points(plane) for plane in self.basis])

    def inside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """1 where a place lies inside the frame, else 0; float32."""
        width, height = self.size
        return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).astype(np.float32)


_grid = lru_cache(maxsize=8)(_Grid)


class _SmallPair:
    """Two small frames and what is derived from them.

    Fields are float32 (2, h, w), x then y, in pixels; affine models float64 (2, 3), times a basis of `grid`. What need not be known of
    every pixel is kept for cells of 2 x 2: float32 (h // 2, w // 2).

    is_same  no pixel differs: nothing else is computed
    model    the camera's
    """

    def __init__(self, small0: np.ndarray, small1: np.ndarray, flow: cv2.DISOpticalFlow) -> None:
        self.grid, self.model = _grid(*small0.shape), np.zeros((2, 3))
        self.is_same = np.array_equal(small0, small1)
        if self.is_same:
            return
        self.a, self.b = small0.astype(np.float32), small1.astype(np.float32)
        # OpenCV's stub asks for an initial flow, which no preset but a warm start reads.
        self.field = np.ascontiguousarray(flow.calc(small0, small1, None).transpose(2, 0, 1))  # type: ignore[call-overload]
        self.cells = np.stack([_cells(plane) for plane in self.field])
        self.weights = self._texture_weights()

    @cached_property
    def _smooth(self) -> tuple[np.ndarray, np.ndarray]:
        return cv2.GaussianBlur(self.a, (0, 0), 1), cv2.GaussianBlur(self.b, (0, 0), 1)

    def motion(self, width: int, height: int) -> PairMotion:
        """In per cent of the diagonal of frames of that size."""
        if self.is_same:
            return PairMotion(0.0, 0.0, 0.0, (0.0, 0.0))
        small_width, small_height = self.grid.size
        to_percent = np.array([width / small_width, height / small_height], np.float32) * np.float32(100 / np.hypot(width, height))
        camera = _field(self.model, self.grid.cell_basis)
        independent = (self.cells - camera) * self._preference()
        scale = to_percent.reshape(2, 1, 1)
        shift = self.model[:, 0] * to_percent
        return PairMotion(
            total=mean_magnitude((camera + independent) * scale),
            camera=mean_magnitude(camera * scale),
            object=mean_magnitude(independent * scale),
            shift=(float(shift[0]), float(shift[1])),
        )

    def _texture_weights(self) -> np.ndarray:
        """Of cells: where flow can be trusted, evened out so that a small busy region does not outvote a large quiet one."""
        gx, gy = (cv2.Sobel(self.a, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
        xx, yy, xy = (_window_mean(_cells(product)) for product in (gx * gx, gy * gy, gx * gy))
        smaller = np.maximum((xx + yy) / 2 - _magnitude((xx - yy) / 2, xy), 0)
        weights = smaller / (smaller + TEXTURE)
        neighbourhood = weights.shape[0] // 3 | 1
        return weights / (cv2.blur(weights, (neighbourhood, neighbourhood)) + 0.1)

    def refined(self, model: np.ndarray) -> np.ndarray:
        """Two Gauss-Newton steps on brightness for the cells whose flow follows the model; a model of no motion stays."""
        if not model.any():
            return model
        # Blurred, or central differences and linear interpolation overstate shifts below a fifth of a pixel by up to 20 %.
        before, after = self._smooth
        gradient = [_points(cv2.Sobel(before, cv2.CV_32F, *order, ksize=1, scale=0.5)) for order in ((1, 0), (0, 1))]
        grid, a, basis = self.grid, _points(before), self.grid.point_basis
        jacobian = (np.stack(gradient)[:, None] * basis).reshape(6, -1)
        ridge = 1e-3 * a.size * np.eye(6)
        for _ in range(2):
            shift = _field(model, basis)
            x, y = grid.point_x + shift[0], grid.point_y + shift[1]
            error = cv2.remap(after, x, y, cv2.INTER_LINEAR) - a
            away = self.cells - shift
            doubt = 1 + 4 * (away[0] * away[0] + away[1] * away[1])
            k = grid.inside(x, y) * self.weights / (doubt * doubt * (1 + error * error * np.float32(1 / 64)))
            error -= (k * error).sum() / (k.sum() + np.float32(1e-3))
            weighted = jacobian * k.ravel()
            step = np.linalg.solve((weighted @ jacobian.T).astype(np.float64) + ridge, (weighted @ error.ravel()).astype(np.float64))
            model = model - np.clip(step, -1, 1).reshape(2, 3)
        return model

    def supported(self, model: np.ndarray) -> np.ndarray:
        """The camera's model, shrunk to nothing where warping by it brings the frames no closer than warping by its opposite.

        Its opposite, not rest: interpolation smooths noise, so that any warp by a fraction of a pixel beats rest.
        """
        if not model.any():
            return model
        before, after = self._smooth
        grid, camera, a = self.grid, _field(model, self.grid.point_basis), _points(before)
        k, errors = self.weights, []
        for shift in (camera, -camera):
            x, y = grid.point_x + shift[0], grid.point_y + shift[1]
            error = cv2.remap(after, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) - a
            errors.append(error * error)
            k = k * grid.inside(x, y)
        error, opposite = errors
        total = float(k.sum()) + 0.01 * k.size
        gain, noise = float((k * (opposite - error)).sum()) / total / 4, float((k * error).sum()) / total
        limit = CAMERA_GAIN + CAMERA_NOISE_SHARE * noise
        return model * (1 - (limit / gain) ** 2 if gain > limit else 0.0)

    def _preference(self) -> np.ndarray:
        """Of cells, 0..1: how far the pixels prefer the flow to the camera's field.

        Where either leaves the frame nothing can be seen: 0, but 1 for a camera at rest.
        """
        is_moving = bool(self.model.any())
        field_error, inside = self._error(self.field)
        if is_moving:
            camera_error, camera_inside = self._error(_field(self.model, self.grid.basis))
            inside *= camera_inside
        else:
            camera_error = np.square(self.b - self.a)
        known = _window_mean(_cells(inside))
        gain = _window_mean(_cells((camera_error - field_error) * inside)) / (known + 1e-3)
        errors = _window_mean(_cells(field_error))[::2, ::2].ravel()
        noise = np.partition(errors, len(errors) // 4)[len(errors) // 4]
        preference = np.maximum(gain - (NOISE_GAIN + noise), 0) / np.maximum(gain, 1e-6)
        preference[known < 0.2] = 0.0 if is_moving else 1.0
        return preference

    def _error(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared brightness error after warping, and 1 where the warp stays inside the frame, else 0."""
        x, y = self.grid.x + field[0], self.grid.y + field[1]
        error = cv2.remap(self.b, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) - self.a
        return error * error, self.grid.inside(x, y)


def _camera_models(pairs: Sequence[_SmallPair]) -> np.ndarray:
    """Affine model of the motion that most of each textured picture follows, or no motion: (P, 2, 3).

    Iteratively reweighted least squares with a scale that shrinks, from rest and from the median flow; all pairs at once, since on a few
    hundred points a call costs more than its arithmetic.
    """
    if not pairs:
        return np.zeros((0, 2, 3))
    every = (..., slice(1, None, 2), slice(1, None, 2))
    count = len(pairs)
    terms = np.ascontiguousarray(pairs[0].grid.cell_basis[every]).reshape(3, -1)
    flow = np.stack([pair.cells[every] for pair in pairs]).reshape(count, 1, 2, -1)
    w = np.stack([pair.weights[every] for pair in pairs]).reshape(count, 1, -1)
    # What the normal equations are sums of: 1 u v, u2 uv v2 of the model's terms, then each times the flow in x and in y.
    squares = np.broadcast_to(np.concatenate([terms, terms[1:] * terms[1], terms[2:] * terms[2]]), (count, 6, terms.shape[1]))
    products = np.concatenate([squares, terms * flow[:, :, 0], terms * flow[:, :, 1]], axis=1)
    ridge = 1e-3 * terms.shape[1] * np.diag([0.01, 1.0, 1.0])

    def misfit(models: np.ndarray) -> np.ndarray:
        moved = models.astype(np.float32).reshape(count, -1, 3) @ terms
        away = flow - moved.reshape(count, -1, 2, terms.shape[1])
        return away[:, :, 0] * away[:, :, 0] + away[:, :, 1] * away[:, :, 1]

    def fitted(num_terms: int) -> tuple[np.ndarray, np.ndarray]:
        """The better supported of both fits (P, 2, 3), and its support (P,)."""
        models = starts.copy()
        for sigma in ANNEALING_PX:
            sums = ((w / np.square(1 + misfit(models) * (1 / sigma**2))) @ products.transpose(0, 2, 1)).astype(np.float64)
            normal = (sums[..., _NORMAL] + ridge)[..., :num_terms, :num_terms]
            right = sums[..., 6:].reshape(count, -1, 2, 3).swapaxes(-1, -2)[..., :num_terms, :]
            models[..., :num_terms] = np.linalg.solve(normal, right).swapaxes(-1, -2)
        better = support(models)
        best = better.argmax(axis=1)
        return models[np.arange(count), best], better[np.arange(count), best]

    def support(models: np.ndarray) -> np.ndarray:
        return (w / (1 + misfit(models) * (1 / INLIER_PX**2))).sum(axis=-1)

    starts = np.zeros((count, 2, 2, 3))
    for i in range(count):
        textured = w[i, 0] >= _middle(w[i, 0])
        starts[i, 1, :, 0] = [_middle(component[textured]) for component in flow[i, 0]]
    best, supported = starts[:, 0].copy(), support(starts[:, :1])[:, 0]
    for num_terms in (1, 3):
        models, better = fitted(num_terms)
        is_better = better > SIMPLER_BY * supported
        best[is_better], supported[is_better] = models[is_better], better[is_better]
    return best


def _middle(values: np.ndarray) -> float:
    """The upper median."""
    return float(np.partition(values, len(values) // 2)[len(values) // 2])


def _field(model: np.ndarray, basis: np.ndarray) -> np.ndarray:
    return (model.astype(np.float32) @ basis.reshape(3, -1)).reshape(2, *basis.shape[1:])


def _points(plane: np.ndarray) -> np.ndarray:
    """One pixel of every cell."""
    height, width = (side // 2 * 2 for side in plane.shape)
    return np.ascontiguousarray(plane[1:height:2, 1:width:2])


def _cells(plane: np.ndarray) -> np.ndarray:
    """Means over cells of 2 x 2; an odd last row or column is left out."""
    height, width = (side // 2 for side in plane.shape)
    return cv2.resize(plane[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)


def _window_mean(plane: np.ndarray) -> np.ndarray:
    return cv2.blur(plane, (WINDOW, WINDOW))


def mean_magnitude(field: np.ndarray) -> float:
    return float(_magnitude(field[0], field[1]).mean())


def _magnitude(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # cv2.magnitude rounds its last bit by where the array lies in memory.
    return np.sqrt(x * x + y * y)


def small_size(luma: np.ndarray, short_side: int) -> tuple[int, int]:
    """(width, height) with the given short side."""
    height, width = luma.shape
    scale = short_side / min(height, width)
    longest = max(MAX_LONG_SIDE, short_side)
    return min(longest, round(width * scale)), min(longest, round(height * scale))


def resized(luma: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if luma.shape[::-1] == size:
        return np.ascontiguousarray(luma)
    ratio = luma.shape[0] / size[1]
    if 1 < ratio <= MAX_SMOOTHED_RATIO and luma.shape[1] > size[0]:
        return cv2.resize(cv2.GaussianBlur(luma, (3, 3), ratio / 4), size, interpolation=cv2.INTER_LINEAR)
    is_smaller = size[0] <= luma.shape[1] and size[1] <= luma.shape[0]
    return cv2.resize(luma, size, interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)
