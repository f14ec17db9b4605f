"""Holds the sound of a written clip against its source's, by a plain decoder of its own. For the verification of exports only.

Both are resampled to 8 kHz and laid out by the times of their frames; a frame that follows the one before it to within 20 ms is put right
behind it, since some containers round times to milliseconds. For every second of the clip, and for the clip as a whole, the
normalised cross-correlation is looked at for offsets of up to 0.4 s: it has to be high within 10 ms, and hardly higher anywhere else.
Sound that repeats itself, such as a tone, is as like itself a period later; that is no fault. What is quieter than -60 dB has to be quiet
in the clip, and no more is asked of it. Of a copy the packets have to be the source's, byte for byte.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from curate.clip import NS_PER_S
from curate.errors import ExportError
from curate.media.outside import Source

RATE = 8000  # Hz
MAX_OFFSET_S, REACH_S, MAX_SLIP_S = 0.010, 0.4, 0.020
QUIET = 1e-3  # of full scale, rms: -60 dB
LEAST_S = 0.05  # of sound in the span, for its absence to be a fault
ALIKE, ELSEWHERE = 0.6, 0.97  # least correlation in place; what is in place over what is elsewhere at least
LENGTH_SLACK_S = 0.030  # a frame of AAC at 44.1 kHz, and MP4's milliseconds
# Codecs of sound that MP4 holds; others do not come along in a copy.
MP4_AUDIO = ("aac", "mp3", "mp2", "ac3", "eac3", "opus", "flac", "alac")


def check(path: Path, source: Source, start_ns: int, end_ns: int, is_copy: bool) -> None:
    """Raises `ExportError` where the clip's sound is not what the source has between two of its times."""
    name, margin = source.name, round(REACH_S * RATE)
    with av.open(f"file:{path}", format="mp4") as container:
        has_sound = bool(container.streams.audio)
        stated_s = float((container.streams.audio[0].duration or 0) * (container.streams.audio[0].time_base or 0)) if has_sound else 0.0
    length = round((end_ns - start_ns) * RATE / NS_PER_S)
    theirs = None if source.audio is None else _sound(source, source.audio, start_ns, length, margin, 2)
    num_heard = 0 if theirs is None else theirs.num_heard(margin, length)
    if is_copy and theirs is not None and theirs.codec not in MP4_AUDIO:
        num_heard = 0
    if not has_sound:
        if num_heard > LEAST_S * RATE:
            raise ExportError(f"{name}: the written file has no sound, its source has {num_heard / RATE:.2f} s of it there")
        return
    if theirs is None or not theirs.has_any:
        raise ExportError(f"{name}: the written file has sound, its source has none there")
    with av.open(f"file:{path}", format="mp4") as container:
        index = container.streams.audio[0].index
    ours = _sound(Source(str(path), name, "mov,mp4,m4a,3gp,3g2,mj2", 0), index, 0, length, margin, 2)
    assert ours is not None
    _check_length(ours, theirs, length, margin, name)
    if not is_copy and abs(stated_s - length / RATE) > LENGTH_SLACK_S:
        raise ExportError(f"{name}: the sound of the written file lasts {stated_s:.3f} s, the clip {length / RATE:.3f} s")
    _check_offset(ours.samples, theirs.samples, length, margin, name)
    if is_copy:
        _check_packets(path, source, start_ns, end_ns)


@dataclass(slots=True, eq=False)
class _Sound:
    """float32 (channels, margin + length + margin), and where a frame has been put."""

    samples: np.ndarray
    is_heard: np.ndarray
    codec: str

    @property
    def has_any(self) -> bool:
        return bool(self.is_heard.any())

    def num_heard(self, margin: int, length: int) -> int:
        return int(self.is_heard[margin : margin + length].sum())


def _sound(source: Source, index: int, start_ns: int, length: int, margin: int, channels: int) -> _Sound | None:
    """What is heard from `margin` samples before a time on; None where the stream cannot be read."""
    sound = None
    for lead_ns in (NS_PER_S, 10 * NS_PER_S, None):
        try:
            container, stream = source.open(index)
        except (av.error.FFmpegError, OSError, IndexError) as error:
            raise ExportError(f"{source.name}: cannot be opened again to verify the sound: {error}") from error
        with container:
            if not isinstance(stream, AudioStream):
                return None
            samples = np.zeros((channels, length + 2 * margin), np.float32)
            sound = _Sound(samples, np.zeros(samples.shape[1], bool), stream.codec_context.codec.canonical_name)
            first_ns = start_ns - margin * NS_PER_S // RATE
            if lead_ns is not None:
                try:
                    container.seek(round(Fraction(first_ns - lead_ns, NS_PER_S) / (stream.time_base or Fraction(1))), stream=stream)
                except (av.error.FFmpegError, OSError):
                    continue
            entry_ns = _fill(sound, container, stream, first_ns)
            if lead_ns is None or (entry_ns is not None and entry_ns <= first_ns):
                return sound
    return sound


def _fill(sound: _Sound, container: InputContainer, stream: AudioStream, first_ns: int) -> int | None:
    """Puts each frame where it belongs. Returns the time of the first frame of all."""
    entry_ns = follows = None
    size = sound.samples.shape[1]
    for frame in _resampled(_frames(container, stream)):
        if frame.pts is None or frame.time_base is None:
            continue
        time_ns = round(frame.pts * frame.time_base * NS_PER_S)
        entry_ns = time_ns if entry_ns is None else entry_ns
        place = round((time_ns - first_ns) * RATE / NS_PER_S)
        if follows is not None and abs(place - follows) <= MAX_SLIP_S * RATE:
            place = follows
        if place >= size:
            break
        samples = frame.to_ndarray()
        follows = place + samples.shape[1]
        low, high = max(0, place), min(size, place + samples.shape[1])
        if low < high:
            sound.samples[:, low:high] = samples[:, low - place : high - place]
            sound.is_heard[low:high] = True
    return entry_ns


def _resampled(frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
    """A resampler for each run of frames of one kind."""
    resampler, kind = AudioResampler("fltp", "stereo", RATE), None
    for frame in frames:
        its_kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind not in (None, its_kind):
            yield from resampler.resample(None)
            resampler = AudioResampler("fltp", "stereo", RATE)
        kind = its_kind
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                continue
    except (av.error.FFmpegError, IndexError):
        return


def _check_length(ours: _Sound, theirs: _Sound, length: int, margin: int, name: str) -> None:
    """The clip's sound does not end before the source's does, or before the clip."""
    ends = [int(np.flatnonzero(s.is_heard[margin : margin + length]).max(initial=0)) for s in (ours, theirs)]
    if ends[0] < ends[1] - LENGTH_SLACK_S * RATE:
        raise ExportError(f"{name}: the sound of the written file ends at {ends[0] / RATE:.3f} s, the source's at {ends[1] / RATE:.3f} s")


def _check_offset(ours: np.ndarray, theirs: np.ndarray, length: int, margin: int, name: str) -> None:
    products, powers, ours_power = np.zeros(2 * margin + 1), np.zeros(2 * margin + 1), 0.0
    num = max(1, length // RATE)
    for part in range(num):
        low, high = part * length // num, (part + 1) * length // num
        mine = ours[:, margin + low : margin + high]
        wide = theirs[:, low : high + 2 * margin]
        product, power, my_power = _correlated(mine, wide)
        where = f"{name}: from {low / RATE:.2f} to {high / RATE:.2f} s"
        loud = power[margin] / (2 * (high - low))
        if loud < QUIET**2:
            if my_power / (2 * (high - low)) > (4 * QUIET) ** 2 + 4 * power.max() / (2 * (high - low)):
                raise ExportError(f"{where} the written file is loud where its source is silent")
        else:
            _judge(product, power, my_power, margin, where)
        products, powers, ours_power = products + product, powers + power, ours_power + my_power
    if powers[margin] / max(1, 2 * length) >= QUIET**2:
        _judge(products, powers, ours_power, margin, f"{name}:")


def _correlated(mine: np.ndarray, wide: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """For each offset of the source in `wide`: the product with it and its power, over all channels; and the power of `mine`."""
    size, num = mine.shape[1], wide.shape[1] - mine.shape[1] + 1
    length = 1 << (wide.shape[1] + size).bit_length()
    spectra = np.fft.rfft(wide, length) * np.conj(np.fft.rfft(mine, length))
    product = np.fft.irfft(spectra, length)[:, :num].sum(axis=0)
    sums = np.concatenate([[0.0], np.cumsum((wide.astype(np.float64) ** 2).sum(axis=0))])
    return product, sums[size : size + num] - sums[:num], float((mine.astype(np.float64) ** 2).sum())


def _judge(product: np.ndarray, power: np.ndarray, my_power: float, margin: int, where: str) -> None:
    alike = product / np.sqrt(np.maximum(power * my_power, 1e-12))
    alike = np.where(power > 0.05 * power[margin], alike, 0.0)
    near = round(MAX_OFFSET_S * RATE)
    best, in_place = int(alike.argmax()), float(alike[margin - near : margin + near + 1].max())
    if in_place < ELSEWHERE * alike[best]:
        # The source's sound of an earlier time is heard: it comes late.
        offset_ms = (margin - best) / RATE * 1000
        side = "late" if offset_ms > 0 else "early"
        found = f"correlation {alike[best]:.2f}, {in_place:.2f} in its place"
        raise ExportError(f"{where} the sound is {abs(offset_ms):.0f} ms {side} ({found})")
    if in_place < ALIKE:
        raise ExportError(f"{where} the sound is not the source's (correlation {in_place:.2f})")


def _check_packets(path: Path, source: Source, start_ns: int, end_ns: int) -> None:
    """Every packet of the source that reaches into the span is in the copy, or its payload without the framing that MP4 has no use for."""
    assert source.audio is not None
    wanted = []
    container, stream = source.open(source.audio)
    with container:
        if (start_ns > NS_PER_S) and stream.time_base:
            with suppress(av.error.FFmpegError, OSError):  # then it is read from the start
                container.seek(round(Fraction(start_ns - NS_PER_S, NS_PER_S) / stream.time_base), stream=stream)
        for packet in _packets(container, stream):
            time_ns = round(packet.pts * packet.time_base * NS_PER_S) if packet.pts is not None else None
            if time_ns is None or not packet.size:
                continue
            if time_ns >= end_ns:
                break
            if time_ns + (packet.duration or 0) * packet.time_base * NS_PER_S > start_ns:
                wanted.append((time_ns - start_ns, bytes(packet)))
    with av.open(f"file:{path}", format="mp4") as container:
        stream = container.streams.audio[0]
        found = [(round(p.pts * p.time_base * NS_PER_S), bytes(p)) for p in _packets(container, stream) if p.size and p.pts is not None]
    # The one at an edge may reach in by less than a tick of the other clock, and silence before the source's first has no time.
    if len(wanted) == len(found) + 1:
        wanted = wanted[1:] if found and not wanted[0][1].endswith(found[0][1]) else wanted[:-1]
    if len(found) != len(wanted):
        raise ExportError(f"{source.name}: the copy has {len(found)} packets of sound, its source has {len(wanted)} there")
    for (time_ns, data), (wanted_ns, payload) in zip(found, wanted, strict=True):
        if not payload.endswith(data) or abs(time_ns - wanted_ns) > MAX_OFFSET_S * NS_PER_S:
            raise ExportError(f"{source.name}: the packet of sound at {time_ns / NS_PER_S:.3f} s of the copy is not the source's")


def _packets(container: InputContainer, stream: "av.stream.Stream") -> Iterator[Packet]:
    try:
        yield from container.demux(stream)
    except (av.error.FFmpegError, IndexError):
        return
