"""Text detectors: pictures in, the quadrilaterals around their text out.

    ppocr_forward, craft_forward   list of uint8 (H, W, 3) RGB of any sizes  ->  list of float32 (N, 4, 2), pixels x, y of each picture

Both see the picture at one size, whatever size it came in: the short side is `short_side` pixels (the long one at most `MAX_ASPECT`
times that), so that the same text in a 360p and a 1080p version is found alike and costs alike. The detectors' own limits on sides
are set out of the way. Each picture runs alone, so no result depends on its neighbours.

`craft` is CRAFT (easyocr; arXiv 1904.01941) at its published thresholds. `ppocr` is PaddleOCR's DB detector (rapidocr, one ONNX thread;
DB: arXiv 1911.08947) with three settings of ours, measured on 35 real videos:

* The mean and deviation it was trained with (ImageNet's, channels in BGR order), not rapidocr's 0.5.
* As released it boxes whole pictures of water, cloth or fur as one huge text, even so. A box whose short side is over `TALL` of
  the picture's must therefore be readable by the recogniser of the same package: `MIN_CHARACTERS` or more at a mean confidence
  of `CONFIDENCE` or more. Smaller boxes are taken as found, so text in scripts that the recogniser does not know still counts.
* Boxes grow back by `UNCLIP` and without dilation: then the area of drawn text agrees with CRAFT's, whose boxes the 7 % of LVD are about.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from curate.models import ModelSpec, WrongWeightsError
from curate.models.clip import one_thread

MAX_ASPECT = 4.0
STRIDE = 32  # both networks halve five times
BOX_THRESHOLD = 0.5
UNCLIP = 1.2
TALL = 0.15
CONFIDENCE = 0.6
MIN_CHARACTERS = 2
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, applied to blue, green and red as in training
# CRAFT: text confidence, link confidence and the low bound of the text score, as in its published evaluation code.
TEXT_THRESHOLD, LINK_THRESHOLD, LOW_TEXT = 0.7, 0.4, 0.4

Detect = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def ppocr_forward(spec: ModelSpec) -> Detect:
    """Builds the PP-OCR detector and recogniser (paths in this order); parameter `short_side`."""
    from rapidocr import RapidOCR

    reader: Any = RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.min_side_len": STRIDE,
            "Global.max_side_len": 1 << 20,
            "Global.width_height_ratio": -1,
            "Det.model_path": spec.paths[0],
            "Det.box_thresh": BOX_THRESHOLD,
            "Det.unclip_ratio": UNCLIP,
            "Det.use_dilation": False,
            "Rec.model_path": spec.paths[1],
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # Without it every layer's memory is taken from the system and given back: a fifth more time.
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": True,
            "EngineConfig.onnxruntime.use_cuda": spec.device.startswith("cuda"),
        }
    )
    reader(np.zeros((STRIDE, STRIDE, 3), np.uint8), use_det=True, use_cls=False, use_rec=False)  # the detector is made when first used
    detector = reader.text_det
    levels = _normalised_levels()

    def readable(crop: np.ndarray) -> bool:
        read = reader(crop, use_det=False, use_cls=False, use_rec=True)
        return bool(read.txts) and len(read.txts[0].strip()) >= MIN_CHARACTERS and read.scores[0] >= CONFIDENCE

    def detect(canvas: np.ndarray) -> np.ndarray:
        bgr = cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR)
        planes = np.stack([levels[channel][bgr[..., channel]] for channel in range(3)])[None]
        boxes, _ = detector.postprocess_op(detector.session(planes), bgr.shape[:2])
        quads = _quads(detector.sorted_boxes(boxes))
        tall = TALL * min(canvas.shape[:2])
        return _quads([quad for quad in quads if min(_sides(quad)) <= tall or readable(_crop(bgr, quad))])

    return _on_canvas(detect, spec["short_side"])


def _normalised_levels() -> np.ndarray:
    """float32 (3, 256): what each 8-bit level of blue, green and red becomes before the network."""
    scaled = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
    return ((scaled[None] - np.array(MEAN)[:, None]) / np.array(DEVIATION)[:, None]).astype(np.float32)


def craft_forward(spec: ModelSpec) -> Detect:
    """Builds CRAFT; parameter `short_side`. Raises `WrongWeightsError` for a file that is not CRAFT's."""
    import torch
    from easyocr.craft import CRAFT
    from easyocr.detection import copyStateDict, get_textbox

    network = CRAFT()
    try:
        network.load_state_dict(copyStateDict(torch.load(spec.paths[0], map_location="cpu", weights_only=True)))
    except RuntimeError as error:
        raise WrongWeightsError(f"{spec.paths[0]} does not hold CRAFT: {str(error).splitlines()[0]}") from error
    network = network.to(spec.device).eval()

    def detect(canvas: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), one_thread():
            [boxes] = get_textbox(
                network, canvas, canvas_size=max(canvas.shape), mag_ratio=1.0, text_threshold=TEXT_THRESHOLD,
                link_threshold=LINK_THRESHOLD, low_text=LOW_TEXT, poly=False, device=spec.device,
            )  # fmt: skip
        return _quads(boxes)

    return _on_canvas(detect, spec["short_side"])


def canvas_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) a detector sees: multiples of 32 nearest to the picture's shape at that short side."""
    scale = min(short_side / min(width, height), MAX_ASPECT * short_side / max(width, height))
    return max(STRIDE, round(width * scale / STRIDE) * STRIDE), max(STRIDE, round(height * scale / STRIDE) * STRIDE)


def _on_canvas(detect: Callable[[np.ndarray], np.ndarray], short_side: int) -> Detect:
    def one(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        size = canvas_size(width, height, short_side)
        shrinks = size[0] * size[1] < width * height
        canvas = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        return detect(canvas) * np.array([width / size[0], height / size[1]], np.float32)

    return lambda pictures: [one(picture) for picture in pictures]


def _quads(boxes: Any) -> np.ndarray:
    return np.asarray(boxes, np.float32).reshape(-1, 4, 2)


def _sides(quad: np.ndarray) -> tuple[float, float]:
    """(width, height) in pixels of a quadrilateral that starts at its top left corner and goes clockwise."""
    return float(np.linalg.norm(quad[1] - quad[0])), float(np.linalg.norm(quad[3] - quad[0]))


def _crop(picture: np.ndarray, quad: np.ndarray) -> np.ndarray:
    width, height = (max(1, round(side)) for side in _sides(quad))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return cv2.warpPerspective(picture, cv2.getPerspectiveTransform(quad, corners), (width, height), borderMode=cv2.BORDER_REPLICATE)
