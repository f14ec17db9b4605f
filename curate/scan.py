r"""One pass over one source: decode once, let everything that needs pixels ride along, and hand out each clip as it closes.

    source --decode--> every frame, tiny  --> shot detector --> transitions --> clip spans
                   \-> samples on the grid, held by reference --> the open clip's buffer
                   \-> pairs of frames about 1/7 s apart, small luma
                                 clip closes --> what each scorer wants --> ScannedClip

Memory is bounded by one open clip and the detector's latency, never by the length of the source.

A long source is scanned in parts (`curate.media.parts`). Each is a pass of its own: it begins a warm-up before its part, so that
detectors know what came before, and ends when they have said all about it; only what lies in the part is handed out and counted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from curate.clip import Box, Fault, Span, clip_id
from curate.config import Clips, Decode, Limits, Sampling
from curate.errors import CurateError, SourceError
from curate.media.crop import part_of, without_overlays
from curate.media.decode import DecodedFrame, Reader
from curate.media.geometry import inward
from curate.media.held import Held, HeldSamples, active_box
from curate.media.open import Opener, open_file, open_reader
from curate.media.pairs import PairPicker
from curate.media.parts import WHOLE, may_be_long
from curate.media.picture import Picture, lattice_slices
from curate.media.probe import Probe
from curate.media.provenance import read_provenance
from curate.media.seek import Part
from curate.media.track import FrameTrack
from curate.samples import PREVIEW_SHORT_SIDE, ClipSamples, MotionFrames, Pair, SourceFacts, Surround, Track, Wants
from curate.shots import ShotDetector, Transition
from curate.shots.assemble import EdgeKind, ShotAssembler, ShotSpan
from curate.shots.params import Shots, open_detector
from curate.shots.snap import snap
from curate.sources import Source

PASS_VERSION = 7


@dataclass(frozen=True, slots=True)
class Pass:
    """Everything that decides which clips there are and what their samples look like; and what a source may cost."""

    decode: Decode
    sampling: Sampling
    shots: Shots
    clips: Clips
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """One row of `clips.parquet`; the columns are described in `curate.manifest`."""

    clip_id: str
    source_key: str
    source_url: str
    shot_index: int
    clip_index: int
    start_ns: int
    end_ns: int
    duration_s: float
    num_frames: int
    fps: float
    snapped_start_ns: int | None
    snapped_end_ns: int | None
    snapped_duration_s: float
    start_kind: str
    end_kind: str
    width: int
    height: int
    active_x: int
    active_y: int
    active_width: int
    active_height: int
    active_short_side: int
    bits_per_pixel: float | None
    is_after_fault: bool
    is_scored: bool
    caption: str | None
    faults: list[dict[str, object]]


@dataclass(frozen=True, slots=True, eq=False)
class ScannedClip:
    """A closed clip: its facts, its frames (int64[N] times, bool[N]), and the samples that each scorer wants, none if it is too short."""

    facts: ClipFacts
    times_ns: np.ndarray
    is_duplicate: np.ndarray
    samples: dict[str, ClipSamples]


@dataclass(slots=True)
class ScanReport:
    """What is known of the source, or of one part of it, once its clips have been taken; grows while the pass runs.

    may_be_long  nothing was scanned, since the source may be one that is scanned in parts
    """

    probe: Probe | None = None
    may_be_long: bool = False
    faults: list[Fault] = field(default_factory=list)
    start_ns: int | None = None
    end_ns: int | None = None
    num_frames: int = 0
    num_interlaced: int = 0
    num_uneven: int = 0
    num_packets: int = 0
    num_keyframes: int = 0
    streams_end_s: float = 0.0
    num_shots: int = 0
    num_clips: int = 0
    exact_s: float = 0.0
    snapped_s: float = 0.0


def scan(
    source: Source,
    settings: Pass,
    wants: Mapping[str, Wants],
    report: ScanReport,
    spans: Sequence[Span] | None = None,
    part: Part | None = WHOLE,
    alive: Callable[[int | None], None] | None = None,
    opener: Opener | None = None,
) -> Iterator[ScannedClip]:
    """Yields the source's clips in order; `report` is filled on the way.

    With `spans` no shots are looked for: the given ones (of an earlier pass with the same settings) are sampled again.
    A source that cannot be opened or decoded gives no clips and one fault in the report.
    `alive` is called at each frame with the end of the frame before; the source's bytes come from `opener`.
    With `part=None` a source that may be long is left alone (`report.may_be_long`); `curate.media.parts.parts_of` finds its parts.
    """
    one = None if part == WHOLE else part
    try:
        reader = open_reader(source.url, settings.decode, one, settings.limits, alive, opener)
    except SourceError as error:
        where_ns = one.span.start_ns if one and one.from_ns is not None else None
        report.faults.append(Fault("open", type(error).__name__, str(error).removeprefix(f"{source.url}: "), where_ns))
        return
    try:
        report.probe = reader.probe
        report.may_be_long = part is None and may_be_long(reader.probe, settings.decode)
        if not report.may_be_long:
            one_pass = _OnePass(source, settings, wants, report, reader, one, opener)
            yield from one_pass.run() if spans is None else one_pass.run_given(spans)
    except (CurateError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - recorded: one file does not end a run of millions
        report.faults.append(Fault("scan", type(error).__name__, str(error), reader.end_ns))
    finally:
        report.num_packets, report.num_keyframes = reader.packets.num_packets, reader.packets.num_keyframes
        report.streams_end_s = reader.packets.streams_end_s
        reader.close()


def warm_up_s(settings: Pass) -> float:
    """How long before its part a pass begins: twice the longest transition, so that what is under way at the boundary is known whole."""
    return 2 * settings.shots.max_transition_s


class _OnePass:
    """The state of one pass; everything in it is bounded by the open clip."""

    def __init__(
        self,
        source: Source,
        settings: Pass,
        wants: Mapping[str, Wants],
        report: ScanReport,
        reader: Reader,
        part: Part | None,
        opener: Opener | None = None,
    ) -> None:
        self._source, self._settings, self._wants, self._report, self._reader = source, settings, wants, report, reader
        self._span = part.span if part else None
        probe = reader.probe
        self._displayed = probe.geometry.displayed
        self._facts = SourceFacts(
            source.key,
            *self._displayed,
            fps=probe.fps,
            bit_depth=probe.bit_depth,
            caption=source.caption,
            tags=probe.tags,
            provenance=read_provenance(source.url, opener or open_file) if any(w.provenance for w in wants.values()) else None,
        )
        self._with_luma = any(w.motion for w in wants.values()) or settings.sampling.crop == "overlays"
        sampling, clips = settings.sampling, settings.clips
        self._held = HeldSamples(sampling.grid_ms, clips.max_clip_s, sampling.max_held_mb, self._with_luma)
        self._track = FrameTrack()
        self._pairs = PairPicker(sampling.pair_ms)
        # Frames of the warm-up take the fault back; without one the part begins in damage.
        self._assembler = ShotAssembler(clips.max_clip_s, self._span, "fault" if part and part.from_ns is not None else "source")
        self._last_ns: int | None = None
        self._forgotten_ns = -(2**63)

    def run(self) -> Iterator[ScannedClip]:
        detector = open_detector(self._settings.shots)
        for item in self._reader.frames():
            if isinstance(item, Fault):
                self._blame(item)
                yield from self._finish(detector, "fault")
                detector = open_detector(self._settings.shots)
            else:
                self._take(item)
                self._assembler.push(item.time_ns)
                transitions = detector.push(item.time_ns, item.picture.tiny_bgr(*detector.size))
                yield from self._close(self._assembler.advance(transitions, detector.settled_ns))
            if self._assembler.is_over:
                break
        else:
            yield from self._finish(detector, "source")
        self._report.num_shots = self._assembler.num_shots

    def run_given(self, spans: Sequence[Span]) -> Iterator[ScannedClip]:
        waiting = [ShotSpan(span, 0, 0, "source", "source") for span in sorted(spans) if self._span is None or span.start_ns in self._span]
        for item in self._reader.frames():
            if self._span is not None and not waiting:
                return
            time_ns = self._reader.end_ns if isinstance(item, Fault) else item.time_ns
            while waiting and time_ns is not None and waiting[0].span.end_ns <= time_ns:
                self._track.finish(waiting[0].span.end_ns)
                yield from self._close(iter([waiting.pop(0)]))
            if isinstance(item, DecodedFrame):
                self._take(item)
                if waiting:
                    self._forget(min(item.time_ns, waiting[0].span.start_ns))
        if self._reader.end_ns is not None:
            self._track.finish(self._reader.end_ns)
        yield from self._close(iter(waiting))

    def _blame(self, fault: Fault) -> None:
        if self._span is None or fault.time_ns is None or fault.time_ns in self._span:
            self._report.faults.append(fault)

    def _take(self, frame: DecodedFrame) -> None:
        """Every frame passes here once; only what the grid and the pairs choose is kept."""
        is_duplicate = self._track.push(frame.time_ns, frame.picture.lattice(), frame.is_interlaced)
        self._held.push(frame.time_ns, frame.picture)
        if self._with_luma:
            self._pairs.push(frame.time_ns, is_duplicate, frame.picture)
        if self._span is None or frame.time_ns in self._span:
            self._count(frame)
        elif frame.time_ns < self._span.start_ns:
            self._forget(frame.time_ns)
        self._last_ns = frame.time_ns

    def _count(self, frame: DecodedFrame) -> None:
        report = self._report
        if self._facts.fps and self._last_ns is not None:
            step = (frame.time_ns - self._last_ns) * self._facts.fps / 1e9
            report.num_uneven += not 0.75 < step < 1.25
        if report.start_ns is None:
            report.start_ns = frame.time_ns
        report.end_ns = self._reader.end_ns
        report.num_frames += 1
        report.num_interlaced += frame.is_interlaced

    def _finish(self, detector: ShotDetector, kind: EdgeKind) -> Iterator[ScannedClip]:
        """The source ends or breaks off here: what is open closes at the end of the last good frame."""
        end_ns = self._reader.end_ns
        if end_ns is None:
            return
        if self._assembler.open_start_ns is not None:
            self._track.finish(end_ns)
            transitions: list[Transition] = detector.finish(end_ns)
            yield from self._close(self._assembler.advance(transitions, end_ns))
        yield from self._close(self._assembler.finish(end_ns, kind))

    def _close(self, shots: Iterator[ShotSpan]) -> Iterator[ScannedClip]:
        for shot in shots:
            yield self._clip(shot)
            self._forget(shot.span.end_ns)
        if self._assembler.open_start_ns is not None:
            self._forget(self._assembler.open_start_ns)

    def _forget(self, time_ns: int) -> None:
        if time_ns <= self._forgotten_ns:
            return
        self._forgotten_ns = time_ns
        for buffer in (self._held, self._track, self._pairs, self._reader.packets):
            buffer.forget_before(time_ns)

    def _clip(self, shot: ShotSpan) -> ScannedClip:
        span, report, clips = shot.span, self._report, self._settings.clips
        held = self._held.cut(span)
        box, surround = self._active(span, held)
        track = self._track.cut(span, *lattice_slices(self._reader.probe.geometry, box))
        snapped = snap(span, self._reader.packets.keyframes_ns, ends_source=shot.end_kind in ("source", "fault"))
        is_scored = span.duration_s >= clips.min_clip_s
        if is_scored:
            report.exact_s += span.duration_s
        if snapped and snapped.duration_s >= clips.min_clip_s:
            report.snapped_s += snapped.duration_s
        report.num_clips += 1
        samples = self._samples(span, held, box, surround, track) if is_scored else {}
        return ScannedClip(self._row(shot, box, track, snapped, is_scored), track.times_ns, track.is_duplicate, samples)

    def _active(self, span: Span, held: list[Held]) -> tuple[Box, Surround]:
        """The picture that is scored, and what lies around it."""
        box, surround = active_box(held, self._displayed)
        sampling = self._settings.sampling
        if sampling.crop == "overlays":
            found = without_overlays(self._motion_frames(span, held, box), sampling.crop_min_area)
            if found is not None:
                box, surround = part_of(box, found), replace(surround, box=box, overlays_cut=found.kinds)
        return box, surround

    def _row(self, shot: ShotSpan, box: Box, track: Track, snapped: Span | None, is_scored: bool) -> ClipFacts:
        span, geometry = shot.span, self._reader.probe.geometry
        num_frames = len(track.times_ns)
        num_bits = 8 * self._reader.packets.num_bytes(span)
        coded = geometry.coded_width * geometry.coded_height * num_frames
        return ClipFacts(
            clip_id=clip_id(self._source.key, span),
            source_key=self._source.key,
            source_url=self._source.url,
            shot_index=shot.shot_index,
            clip_index=shot.clip_index,
            start_ns=span.start_ns,
            end_ns=span.end_ns,
            duration_s=span.duration_s,
            num_frames=num_frames,
            fps=num_frames / span.duration_s,
            snapped_start_ns=snapped.start_ns if snapped else None,
            snapped_end_ns=snapped.end_ns if snapped else None,
            snapped_duration_s=snapped.duration_s if snapped else 0.0,
            start_kind=shot.start_kind,
            end_kind=shot.end_kind,
            width=self._displayed[0],
            height=self._displayed[1],
            active_x=box.x,
            active_y=box.y,
            active_width=box.width,
            active_height=box.height,
            active_short_side=min(box.width, box.height),
            bits_per_pixel=num_bits / coded if num_bits and coded else None,
            is_after_fault=any(f.time_ns is not None and f.time_ns <= span.start_ns for f in self._report.faults),
            is_scored=is_scored,
            caption=self._source.caption,
            faults=[],
        )

    def _samples(self, span: Span, held: list[Held], box: Box, surround: Surround, track: Track) -> dict[str, ClipSamples]:
        motion = self._motion_frames(span, held, box) if self._with_luma else None
        cache: dict[tuple[int, str, int | None], np.ndarray] = {}
        is_whole = (box.width, box.height) == self._displayed

        def shown(sample: Held, pixels: str, short_side: int | None) -> np.ndarray:
            key = (sample.time_ns, pixels, short_side)
            if key not in cache:
                convert = sample.picture.rgb if pixels == "rgb" else sample.picture.luma
                cache[key] = convert(None if is_whole else box, short_side)
            return cache[key]

        area = None if is_whole else box
        previews = tuple(_preview(h.picture, area, box) for h in held) if any(w.previews for w in self._wants.values()) else ()
        found = {}
        for name, wants in self._wants.items():
            chosen = _chosen(wants.frames, held)
            found[name] = ClipSamples(
                source=self._facts,
                span=span,
                box=box,
                track=track,
                frames=tuple(shown(sample, wants.pixels, wants.short_side) for sample in chosen),
                times_ns=tuple(sample.time_ns for sample in chosen),
                motion=motion if wants.motion else None,
                previews=previews if wants.previews else (),
                surround=surround,
            )
        return found

    def _motion_frames(self, span: Span, held: list[Held], box: Box) -> MotionFrames:
        grid = [(h.time_ns, h.analysis) for h in held if h.analysis is not None]
        width, height = self._displayed

        def crop(luma: np.ndarray) -> np.ndarray:
            rows = inward(box.y / height, (box.y + box.height) / height, luma.shape[0])
            cols = inward(box.x / width, (box.x + box.width) / width, luma.shape[1])
            return np.ascontiguousarray(luma[rows, cols])

        return MotionFrames(
            np.array([time_ns for time_ns, _ in grid], dtype=np.int64),
            tuple(crop(luma) for _, luma in grid),
            tuple(Pair(p.time0_ns, p.time1_ns, crop(p.luma0), crop(p.luma1)) for p in self._pairs.cut(span)),
        )


def _preview(picture: Picture, area: Box | None, box: Box) -> np.ndarray:
    """RGB of `area` (None: all of the picture, which is `box`) by swscale: a seventh of the time of the exact area average."""
    scale = min(1.0, PREVIEW_SHORT_SIDE / min(box.width, box.height))
    return picture.rgb_at(area, max(1, round(box.width * scale)), max(1, round(box.height * scale)))


def _chosen(frames: str, held: list[Held]) -> list[Held]:
    if frames == "none" or not held:
        return []
    if frames == "grid":
        return held
    return [held[i] for i in sorted({0, len(held) // 2, len(held) - 1})]
