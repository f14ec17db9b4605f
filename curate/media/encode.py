"""What an exact cut is encoded with, and the MP4 file it goes into.

Quality is constant (CRF; constant quality for NVENC). The defaults are visually transparent: 18 for x264, 20 for x265 and 26 for SVT-AV1,
whose scales differ. A keyframe comes every two seconds' worth of frames at most, so that random access into the clips is cheap. One
encoder thread and bit-exact flags: the same frames give the same bytes on the same build.

Frames keep their own times on a clock of 720 kHz: the periods of 24, 25, 30, 50, 60 and 120 frames/s, those over 1.001, milliseconds
and the 90 kHz clock of MPEG systems are whole numbers of its ticks.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curate.errors import ExportError
from curate.media.bake import ColorTags

CLOCK_HZ = 720_000
KEYFRAME_S = 2.0
EVEN_S = 0.00101
LIMITED = 1
FORMAT_BITEXACT = 0x0400  # AVFMT_FLAG_BITEXACT: no dates, no version strings in the container
CODEC_BITEXACT = 1 << 23  # AV_CODEC_FLAG_BITEXACT: none in the streams
X26X_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
SVT_PRESETS = tuple(str(n) for n in range(14))
NVENC_PRESETS = tuple(f"p{n}" for n in range(1, 8))
SOFTWARE = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
NVENC = {"h264": "h264_nvenc", "hevc": "hevc_nvenc", "av1": "av1_nvenc"}
# x264's AVX-512 code gives different bytes from run to run at some sizes (decisions.md, 20); up to AVX2 it does not, at the same speed.
X264_WITHOUT_AVX512 = "MMX2,SSE,SSE2,SSE2Fast,LZCNT,SSSE3,SSE4.2,AVX,FMA3,BMI2,AVX2"
CPU_FACTS = Path("/proc/cpuinfo")
CRF = {"h264": 18, "hevc": 20, "av1": 26}
MAX_CRF = {"h264": 51, "hevc": 51, "av1": 63}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How exact cuts are encoded. `crf` None is 18, 20 or 26 for h264, hevc or av1; `preset` None is veryfast, 8 for av1, p4 on the GPU.

    Raises `ValueError` for what the encoder does not know.
    """

    codec: Literal["h264", "hevc", "av1"] = "h264"
    hardware: bool = False
    crf: int | None = None
    preset: str | None = None
    audio: bool = False

    def __post_init__(self) -> None:
        if self.codec not in SOFTWARE:
            raise ValueError(f"codec={self.codec!r} must be one of {', '.join(SOFTWARE)}")
        if self.crf is not None and not 0 <= self.crf <= MAX_CRF[self.codec]:
            raise ValueError(f"crf={self.crf} must lie in 0 to {MAX_CRF[self.codec]} for {self.codec} (lower is better)")
        presets = NVENC_PRESETS if self.hardware else SVT_PRESETS if self.codec == "av1" else X26X_PRESETS
        if self.preset is not None and self.preset not in presets:
            raise ValueError(f"preset={self.preset!r} must be one of {', '.join(presets)} for {self.encoder}")

    @property
    def encoder(self) -> str:
        """Its name in ffmpeg's libraries."""
        return (NVENC if self.hardware else SOFTWARE)[self.codec]

    @property
    def coarseness(self) -> float:
        """The CRF of x264 that is about as coarse."""
        crf = CRF[self.codec] if self.crf is None else self.crf
        return crf * 51 / 63 if self.codec == "av1" else float(crf)

    def options(self, is_even: bool = True) -> dict[str, str]:
        """The encoder's own options. Frames that do not come at even steps are not reordered (no B-frames).

        MP4 says when a frame begins, and of lengths only the steps in decoding order: of reordered uneven frames, readers would get the
        length of the last one wrong.
        """
        crf = str(CRF[self.codec] if self.crf is None else self.crf)
        if self.hardware:
            return {"preset": self.preset or "p4", "rc": "vbr", "cq": crf, "b": "0", "forced-idr": "1"}
        if self.codec == "av1":
            return {"preset": self.preset or "8", "crf": crf, "svtav1-params": "lp=1"}
        options = {"preset": self.preset or "veryfast", "crf": crf}
        if self.codec == "hevc":
            options["x265-params"] = "log-level=error:pools=none:frame-threads=1:open-gop=0:info=0" + ("" if is_even else ":bframes=0")
        elif _has_avx512():
            options["x264-params"] = f"asm={X264_WITHOUT_AVX512}"
        return options if is_even else {**options, "bf": "0"}

    def open_check(self) -> None:
        """Encodes one small frame. Raises `ExportError` when this build or this machine cannot."""
        if self.encoder not in av.codecs_available:
            raise ExportError(f"{self.encoder} is not in this build of ffmpeg's libraries; choose another codec, or hardware=false")
        try:
            context = av.CodecContext.create(self.encoder, "w")
            assert isinstance(context, VideoCodecContext)
            _configure(context, self, 256, 256, Fraction(25), Fraction(1, 25), ColorTags())
            context.options = self.options()
            frame = VideoFrame(256, 256, "yuv420p")
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            packets = context.encode(frame)
            ordinary_schedule()
            packets += context.encode(None)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            where = "no usable NVIDIA encoder here" if self.hardware else "it cannot be opened"
            remedy = "; use hardware=false" if self.hardware else ""
            reason = error.strerror if isinstance(error, OSError) else error
            raise ExportError(f"{self.encoder}: {where} ({reason}){remedy}") from error
        if not packets:
            raise ExportError(f"{self.encoder}: it took a frame and gave nothing back; choose another codec")


def ordinary_schedule() -> None:
    """Takes real-time scheduling from the threads of this process. No errors; does nothing but on Linux.

    SVT-AV1 gives it to its own threads and to the one that opens it wherever it may (root in a container may): they then go before
    everything else on the machine, and so does every process that is started afterwards.
    """
    if not hasattr(os, "sched_setscheduler"):
        return
    for thread in os.listdir("/proc/self/task"):
        try:
            if os.sched_getscheduler(int(thread)) == os.SCHED_FIFO:
                os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))
        except OSError:  # it has ended
            continue


@functools.cache
def _has_avx512() -> bool:
    """False also where the kernel does not say."""
    try:
        return " avx512f " in CPU_FACTS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def _configure(
    context: VideoCodecContext, encoding: Encoding, width: int, height: int, rate: Fraction, time_base: Fraction, tags: ColorTags
) -> None:
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.framerate, context.time_base = rate, time_base
    context.sample_aspect_ratio = Fraction(1)
    context.gop_size = max(1, int(rate * Fraction(KEYFRAME_S)))
    context.colorspace, context.color_primaries, context.color_trc = tags.matrix, tags.primaries, tags.transfer
    context.color_range = LIMITED
    context.thread_count = 1
    context.flags |= CODEC_BITEXACT
    if encoding.encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # the only switch for the 20 lines that it prints for every encoder; 1: errors
    if encoding.codec == "hevc":
        context.codec_tag = "hvc1"  # what QuickTime and browsers ask for


@dataclass(frozen=True, slots=True, eq=False)
class Timing:
    """Times of the written frames: `pts` int64[N + 1] in `time_base`, the last is the end of the last frame; `rate` frames a second."""

    pts: np.ndarray
    time_base: Fraction
    rate: Fraction

    @classmethod
    def of(cls, picks_ns: np.ndarray, end_ns: int, fps: Fraction | None) -> "Timing":
        """Frame k at k / fps, or (None) at its own time since the first."""
        if fps is not None:
            return cls(np.arange(len(picks_ns) + 1, dtype=np.int64), 1 / fps, fps)
        since_ns = np.append(picks_ns, end_ns).astype(np.int64) - int(picks_ns[0])
        per_us = CLOCK_HZ // 1000
        # Whole and broken milliseconds apart, so that no product leaves int64.
        pts = since_ns // 1_000_000 * per_us + (since_ns % 1_000_000 * per_us + 500_000) // 1_000_000
        if (np.diff(pts) <= 0).any():
            raise ExportError(f"frames lie less than {1e6 / CLOCK_HZ:.2f} us apart; set a frame rate")
        mean = Fraction(len(picks_ns) * CLOCK_HZ, int(pts[-1]))
        return cls(pts, Fraction(1, CLOCK_HZ), max(Fraction(1), mean.limit_denominator(1001)))

    @property
    def times_ns(self) -> np.ndarray:
        """int64[N]: what the file's times are, to the nanosecond."""
        unit = self.time_base * 1_000_000_000
        return np.array([round(int(p) * unit) for p in self.pts[:-1]], np.int64)

    @property
    def is_even(self) -> bool:
        """Whether all frames last the same, to the millisecond to which some containers round."""
        steps = np.diff(self.pts)
        return float((steps.max() - steps.min()) * self.time_base) <= EVEN_S

    @property
    def duration_s(self) -> float:
        return float(int(self.pts[-1]) * self.time_base)


class Mp4Writer:
    """One encoded clip on its way into an MP4 file with its index in front."""

    def __init__(self, path: Path, encoding: Encoding, size: tuple[int, int], timing: Timing, tags: ColorTags) -> None:
        self._container = av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"})
        self._container.flags |= FORMAT_BITEXACT
        stream = self._container.add_stream(encoding.encoder, rate=timing.rate, options=encoding.options(timing.is_even))
        assert isinstance(stream, VideoStream)
        self._timing, self._stream, self._next = timing, stream, 0
        self._duration = dict(zip(timing.pts[:-1].tolist(), np.diff(timing.pts).tolist(), strict=True))
        self._sound: list[Packet] = []
        _configure(stream.codec_context, encoding, *size, timing.rate, timing.time_base, tags)

    def add_sound(self, samples: np.ndarray, rate: int) -> None:
        """Encodes the whole sound, float32 [1 or 2 channels, samples], as AAC of 128 kbit/s. To be called before the first frame."""
        stream = self._container.add_stream("aac", rate=rate)
        assert isinstance(stream, AudioStream)
        layout = "mono" if len(samples) == 1 else "stereo"
        stream.codec_context.layout = layout
        stream.codec_context.bit_rate = 128_000
        stream.codec_context.flags |= CODEC_BITEXACT
        for start in range(0, samples.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, start : start + 1024]), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            self._sound += stream.encode(frame)
        self._sound += stream.encode(None)

    def write(self, frame: VideoFrame) -> None:
        """Takes the next frame; its time is the timing's."""
        pts = int(self._timing.pts[self._next])
        frame.pts, frame.time_base, frame.duration = pts, self._timing.time_base, self._duration[pts]
        packets = self._stream.encode(frame)
        if not self._next:
            ordinary_schedule()
        self._next += 1
        self._mux(packets)

    def close(self) -> None:
        """Ends the file; also after a failure, to let go of it."""
        try:
            if self._next == len(self._duration):
                self._mux(self._stream.encode(None))
                for packet in self._sound:
                    self._container.mux_one(packet)
        finally:
            self._container.close()

    def _mux(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            # Not every encoder hands durations through, and the last one decides how long the clip is.
            packet.duration = self._duration[packet.pts] if packet.time_base == self._timing.time_base else packet.duration
            assert packet.dts is not None
            time = packet.dts * packet.time_base
            while self._sound and (self._sound[0].dts or 0) * self._sound[0].time_base <= time:
                self._container.mux_one(self._sound.pop(0))
            self._container.mux_one(packet)
