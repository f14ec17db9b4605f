"""What video models take: frame rate, counts of frames, sizes. One table, with the source of every number.

A causal VAE makes one latent of the first frame and one of every `frame_step` frames after it, so counts are `frame_step * n + 1`. A
side is a multiple of the VAE's spatial stride times the transformer's patch. The rate is the one that a model was trained at: a file is
played at that rate whatever it says of itself, so any other changes how fast things move.

wan2.1           16 fps (`sample_fps`), VAE stride (4, 8, 8), patch (1, 2, 2), 81 frames, sizes of `SUPPORTED_SIZES`: Wan-Video/Wan2.1,
                 `wan/configs/shared_config.py`, `wan_t2v_14B.py`, `__init__.py`, `generate.py`. Also Wan 2.2 A14B, which has the same VAE.
hunyuanvideo     24 fps (`sample_video.py` saves at it), VAE stride 4 and 8, patch (1, 2, 2), at most 129 frames, sizes of the table "540p":
                 Tencent/HunyuanVideo, README. Its table "720p": 1280x720, 720x1280, 1104x832, 832x1104, 960x960.
cogvideox        8 fps, "8N + 1 where N <= 6 (default 49)", 720x480 and no other size, "including fine-tuning": THUDM/CogVideo, README,
                 table of models; card of THUDM/CogVideoX-5b. (2b, 5b, 5b-I2V)
cogvideox1.5     16 fps, "16N + 1 where N <= 10 (default 81)", 1360x768; sides are multiples of 16: same table. (1.5-5b, 1.5-5b-I2V)
ltx-video        25 fps (`frame_rate`), VAE 8 frames and 32 px, "divisible by 8 + 1 (e.g. 257)", 704x512: Lightricks/LTX-Video,
                 README; diffusers, `pipelines/ltx/pipeline_ltx.py`.

`min_frames` of the models that take many counts is a choice of ours: the first count that lasts a second.
"""

from dataclasses import dataclass
from fractions import Fraction

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What one model takes. Counts of frames are `frame_step * n + 1`, from `min_frames` where nothing else is said, to `max_frames`.

    `multiple`: of what both sides are multiples, in px. `sizes` (width, height) are taken where nothing else is said; with `only_these` no
    others may be.
    """

    name: str
    fps: Fraction
    frame_step: int
    min_frames: int
    max_frames: int
    multiple: int
    sizes: tuple[Size, ...]
    only_these: bool = False

    @property
    def counts(self) -> str:
        """The rule in words: `4n+1 frames, at most 81`."""
        return f"{self.frame_step}n+1 frames, at most {self.max_frames}"

    def count_problem(self, key: str, num_frames: int) -> str | None:
        """What is wrong with a count of frames and what to write; None where nothing is."""
        if num_frames > 1 and num_frames % self.frame_step == 1 and num_frames <= self.max_frames:
            return None
        low = max(self.frame_step, min((num_frames - 1) // self.frame_step * self.frame_step, self.max_frames - 1)) + 1
        near = sorted({low, min(low + self.frame_step, self.max_frames)})
        return f"{key}={num_frames}: {self.name} takes {self.counts}; the nearest is {' or '.join(map(str, near))}"

    def size_problem(self, width: int, height: int) -> str | None:
        """What is wrong with a size and what to write; None where nothing is."""
        if self.only_these and (width, height) not in self.sizes:
            return f"sizes={width}x{height}: {self.name} takes {named(self.sizes)} and no other size"
        if width % self.multiple == 0 and height % self.multiple == 0:
            return None
        near = tuple(max(self.multiple, round(side / self.multiple) * self.multiple) for side in (width, height))
        return f"sizes={width}x{height}: sides must be multiples of {self.multiple} for {self.name}; the nearest is {near[0]}x{near[1]}"


def named(sizes: tuple[Size, ...]) -> str:
    """`720x480, 480x720`."""
    return ", ".join(f"{width}x{height}" for width, height in sizes)


MODELS: dict[str, ModelRules] = {
    rules.name: rules
    for rules in (
        ModelRules("wan2.1", Fraction(16), 4, 17, 81, 16, ((832, 480), (480, 832))),
        ModelRules("hunyuanvideo", Fraction(24), 4, 25, 129, 16, ((960, 544), (544, 960), (832, 624), (624, 832), (720, 720))),
        ModelRules("cogvideox", Fraction(8), 8, 49, 49, 16, ((720, 480),), only_these=True),
        ModelRules("cogvideox1.5", Fraction(16), 16, 81, 161, 16, ((1360, 768),)),
        ModelRules("ltx-video", Fraction(25), 8, 25, 257, 32, ((704, 512),)),
    )
}
