"""The sound of a clip: every sample between two presentation times of the source, where it belongs.

Decoded frames are laid one after the other; a frame whose time is more than 20 ms away from where the last one ended is put at its own time
instead, and what lies between is silence. So a container that rounds times to milliseconds does not tear the sound, and a gap does
not shift what follows. Layout and rate may change in the middle, as those of broadcasts do: what comes out has one of each.
"""

from collections.abc import Iterator
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from curate.clip import NS_PER_S
from curate.media.picks import VideoFile
from curate.media.probe import to_ns
from curate.media.seek import demuxed

LEAD_NS = NS_PER_S  # decoders of sound need some frames before they are right
MAX_SLIP_S = 0.02
AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


def sound_between(video: VideoFile, start_ns: int, end_ns: int) -> tuple[np.ndarray, int] | None:
    """float32 [channels, samples] of [start_ns, end_ns) and the sample rate; None where the source has no sound there.

    One or two channels (more are mixed down to two), at the source's rate where AAC has it, else at 48 kHz.
    """
    stream = video.audio
    if stream is None:
        return None
    assert isinstance(stream, AudioStream)
    channels = 1 if stream.codec_context.layout.nb_channels == 1 else 2
    rate = stream.codec_context.sample_rate if stream.codec_context.sample_rate in AAC_RATES else 48_000
    sound = np.zeros((channels, round((end_ns - start_ns) * rate / NS_PER_S)), np.float32)
    place: int | None = None  # where the next frame goes if nothing is missing
    has_sound = False
    for frame in _resampled(video, start_ns, end_ns, "mono" if channels == 1 else "stereo", rate):
        time_ns = to_ns(frame.pts, frame.time_base)
        if time_ns is None:
            continue
        own_place = round((time_ns - start_ns) * rate / NS_PER_S)
        if place is None or abs(own_place - place) > MAX_SLIP_S * rate:
            place = own_place
        samples = frame.to_ndarray()
        low, high = max(0, place), min(sound.shape[1], place + samples.shape[1])
        if low < high:
            sound[:, low:high] = samples[:, low - place : high - place]
            has_sound = True
        place += samples.shape[1]
    return (sound, rate) if has_sound else None


def _resampled(video: VideoFile, start_ns: int, end_ns: int, layout: str, rate: int) -> Iterator[AudioFrame]:
    """A resampler for each run of frames of one kind: PyAV's decides by its first frame what it has to do to all."""
    resampler, kind = AudioResampler(format="fltp", layout=layout, rate=rate), None
    for frame in _frames(video, start_ns, end_ns):
        its_kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind not in (None, its_kind):
            yield from resampler.resample(None)
            resampler = AudioResampler(format="fltp", layout=layout, rate=rate)
        kind = its_kind
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _frames(video: VideoFile, start_ns: int, end_ns: int) -> Iterator[AudioFrame]:
    """Decoded frames from before the start to behind the end; from the source's first one where a seek lands late."""
    for seeks in (True, False) if video.has_timestamps else (False,):
        if not seeks:
            video.reopen()
        stream = video.audio
        assert isinstance(stream, AudioStream)
        video.only(stream)
        if seeks and not video.seek(stream, start_ns - LEAD_NS):
            continue
        is_first = True
        for time_ns, frame in _decoded(video, stream):
            if is_first and seeks and time_ns > start_ns:
                break
            is_first = False
            if time_ns >= end_ns:
                return
            yield frame
        if not is_first:
            return


def _decoded(video: VideoFile, stream: AudioStream) -> Iterator[tuple[int, AudioFrame]]:
    """Frames with their times; a damaged packet is left out."""
    try:
        for packet in demuxed(video.container, stream):
            try:
                frames = cast(list[AudioFrame], packet.decode())
            except av.error.FFmpegError:
                continue
            for frame in frames:
                time_ns = to_ns(frame.pts, frame.time_base)
                if time_ns is not None:
                    yield time_ns, frame
    except av.error.FFmpegError:
        return
