r"""One pass over one source: decode once, let everything that needs pixels ride along, and hand out each clip as it closes.

    source --decode--> every frame, tiny  --> shot detector --> transitions --> clip spans
                   \-> samples on the grid, held by reference --> the open clip's buffer
                   \-> pairs of frames about 1/7 s apart, small luma
                                 clip closes --> what each scorer wants --> ScannedClip

Memory is bounded by one open clip and the detector's latency, never by the length of the source.

A mistake of ours costs the least it can. A step that raises while a clip is closed costs that clip the columns that the step makes, and one
that raises on a frame costs the clip that frame; `faults` says so, and the pass goes on. Where the shot detector raises, the shot ends, and
another detector begins with that frame. Where the picture changes its size, the shot ends as well: everything about a clip is of one size.

A long source is scanned in parts (`curate.media.parts`). Each is a pass of its own: it begins a warm-up before its part, so that
detectors know what came before, and ends when they have said all about it; only what lies in the part is handed out and counted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from curate.clip import Box, Fault, Span, clip_id
from curate.config import Clips, Decode, Limits, Sampling
from curate.errors import CurateError, SourceError
from curate.media.crop import part_of, without_overlays
from curate.media.decode import DecodedFrame, Reader
from curate.media.geometry import Geometry, inward
from curate.media.held import Held, HeldSamples, active_box
from curate.media.open import Opener, open_file, open_reader
from curate.media.packets import KINDS, PacketAccount
from curate.media.pairs import PairPicker
from curate.media.parts import WHOLE, may_be_long
from curate.media.picture import Picture, lattice_slices
from curate.media.probe import Probe
from curate.media.provenance import read_provenance
from curate.media.seek import Part
from curate.media.track import FrameTrack
from curate.samples import PREVIEW_SHORT_SIDE, ClipSamples, MotionFrames, Pair, SourceFacts, Surround, Track, Wants
from curate.shots import ShotDetector
from curate.shots.assemble import EdgeKind, ShotAssembler, ShotSpan
from curate.shots.params import Shots, open_detector
from curate.shots.snap import snap
from curate.sources import Source

PASS_VERSION = 8
MAX_RESTARTS = 32  # of the shot detector in one source; one that fails more often says nothing about it
MAX_CLIP_FAULTS = 16

T = TypeVar("T")


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
    """One row of `clips.parquet`; the columns are described in `curate.manifest`. None, but for the caption, has its reason in `faults`,

    or says that nothing is left (snapped) or known (bits_per_pixel).
    """

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
    snapped_duration_s: float | None
    start_kind: str
    end_kind: str
    width: int
    height: int
    active_x: int | None
    active_y: int | None
    active_width: int | None
    active_height: int | None
    active_short_side: int | None
    bits_per_pixel: float | None
    is_after_fault: bool
    is_scored: bool
    caption: str | None
    faults: list[Fault]


@dataclass(frozen=True, slots=True, eq=False)
class ScannedClip:
    """A closed clip: its facts, its frames (int64[N] times, bool[N]), and the samples that each scorer wants, none if it is too short.

    `lost` says of the other scorers why their samples could not be made.
    """

    facts: ClipFacts
    times_ns: np.ndarray
    is_duplicate: np.ndarray
    samples: dict[str, ClipSamples]
    lost: dict[str, Fault] = field(default_factory=dict)


@dataclass(slots=True)
class ScanReport:
    """What is known of the source, or of one part of it, once its clips have been taken; grows while the pass runs.

    may_be_long  nothing was scanned, since the source may be one that is scanned in parts
    account      what became of the packets, by the reader; None where it does not tell
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
    num_empty: int = 0
    num_keyframes: int = 0
    streams_end_s: float = 0.0
    account: PacketAccount | None = None
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
        reader.close()
        packets = reader.packets
        report.num_packets, report.num_empty, report.num_keyframes = packets.num_packets, packets.num_empty, packets.num_keyframes
        report.streams_end_s = packets.streams_end_s
        report.account = reader.account()
    is_whole = one is None and spans is None and not report.may_be_long
    if is_whole and (fault := unaccounted(report)):
        report.faults.append(fault)


def unaccounted(report: ScanReport) -> Fault | None:
    """The fault of a source of which a picture is missing without a reason.

    Packets were counted by the demuxer, frames by the pass; the reasons of packets that gave no frame are the decoder's. A source that
    has a fault is not ok anyway, and may have ended before all was settled.
    """
    account = report.account
    if account is None or report.faults:
        return None
    explained = sum(getattr(account, kind) for kind in KINDS if kind != "unexplained")
    missing = report.num_packets + account.num_repeated - report.num_frames - explained
    if missing == 0:
        return None
    gave = "no picture" if missing > 0 else "a picture too many"
    text = f"{abs(missing)} of {report.num_packets} packets gave {gave}, and nothing says why"
    return Fault("decode", "Unaccounted", text, None)


def warm_up_s(settings: Pass) -> float:
    """How long before its part a pass begins: twice the longest transition, so that what is under way at the boundary is known whole."""
    return 2 * settings.shots.max_transition_s


class _OnePass:
    """The state of one pass; everything in it is bounded by the open clip."""

    _detector: ShotDetector  # while shots are looked for

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
        # From when on the pictures have which size; the clip that is open begins in the first of them.
        self._geometries: list[tuple[int, Geometry]] = [(-(2**63), probe.geometry)]
        self._facts = SourceFacts(
            source.key,
            *probe.geometry.displayed,
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
        self._num_restarts = 0
        self._lost: list[tuple[Span, Fault]] = []
        self._last_ns: int | None = None
        self._forgotten_ns = -(2**63)

    def run(self) -> Iterator[ScannedClip]:
        self._detector = open_detector(self._settings.shots)
        for item in self._reader.frames():
            if isinstance(item, Fault):
                self._blame(item)
                yield from self._break_off("fault")
            else:
                if item.picture.geometry != self._geometries[-1][1]:
                    yield from self._end_shot(item.time_ns, "cut")
                self._take(item)
                yield from self._look(item)
            if self._assembler.is_over or self._num_restarts > MAX_RESTARTS:
                break
        else:
            yield from self._break_off("source")
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
        time_ns, picture = frame.time_ns, frame.picture
        if picture.geometry != self._geometries[-1][1]:
            self._geometries.append((time_ns, picture.geometry))
        lost: list[Fault] = []
        is_duplicate = attempt(lost, "track", time_ns, lambda: self._track.push(time_ns, picture.lattice(), frame.is_interlaced))
        if is_duplicate is None:
            self._track.pass_over(time_ns)
        attempt(lost, "samples", time_ns, lambda: self._held.push(time_ns, picture))
        if self._with_luma:
            attempt(lost, "pairs", time_ns, lambda: self._pairs.push(time_ns, bool(is_duplicate), picture))
        self._lost += [(Span(time_ns, time_ns + 1), fault) for fault in lost]
        if self._span is None or time_ns in self._span:
            self._count(frame)
        elif time_ns < self._span.start_ns:
            self._forget(time_ns)
        self._last_ns = time_ns

    def _look(self, frame: DecodedFrame) -> Iterator[ScannedClip]:
        """Shows the frame to the shot detector, and closes the clips that are certain by now.

        Of what a detector that raises has not said yet nothing is known: the clips that may hold a cut there say so.
        """
        time_ns, lost = frame.time_ns, list[Fault]()
        tiny = attempt(lost, "shots", time_ns, lambda: frame.picture.tiny_bgr(*self._detector.size))
        transitions = None if tiny is None else attempt(lost, "shots", time_ns, lambda: self._detector.push(time_ns, tiny))
        if tiny is not None and transitions is None:
            self._num_restarts += 1
            self._blame(lost[0])
            from_ns = min(self._detector.settled_ns, time_ns - 1)
            self._lost.append((Span(from_ns, time_ns + 1), lost[0]))
            yield from self._end_shot(time_ns, "fault")
            transitions = attempt(lost, "shots", time_ns, lambda: self._detector.push(time_ns, tiny))
        elif lost:  # the detector does not see the frame
            self._lost.append((Span(time_ns, time_ns + 1), lost[0]))
        self._assembler.push(time_ns)
        if transitions is not None:
            yield from self._close(self._assembler.advance(transitions, self._detector.settled_ns))

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

    def _break_off(self, kind: EdgeKind) -> Iterator[ScannedClip]:
        """The source ends or breaks off here: what is open closes at the end of the last good frame."""
        end_ns = self._reader.end_ns
        if end_ns is not None:
            if self._assembler.open_start_ns is not None:
                self._track.finish(end_ns)
            yield from self._end_shot(end_ns, kind)

    def _end_shot(self, end_ns: int, kind: EdgeKind) -> Iterator[ScannedClip]:
        """What is open closes, and another detector sees what comes."""
        detector, self._detector = self._detector, open_detector(self._settings.shots)
        if self._assembler.open_start_ns is not None:
            lost: list[Fault] = []
            transitions = attempt(lost, "shots", end_ns, lambda: detector.finish(end_ns))
            for fault in lost:
                if all(other.time_ns != end_ns for _, other in self._lost):  # it has been said that it is broken
                    self._blame(fault)
                    self._lost.append((Span(min(detector.settled_ns, end_ns - 1), end_ns), fault))
            yield from self._close(self._assembler.advance(transitions or [], end_ns))
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
        self._lost = [one for one in self._lost if one[0].end_ns > time_ns]
        while len(self._geometries) > 1 and self._geometries[1][0] <= time_ns:
            del self._geometries[0]

    def _clip(self, shot: ShotSpan) -> ScannedClip:
        """A step that raises leaves its columns null, and so do those that need what it makes."""
        span, report, min_clip_s = shot.span, self._report, self._settings.clips.min_clip_s
        geometry = next(one for from_ns, one in reversed(self._geometries) if from_ns <= span.start_ns)
        faults = self._lost_in(span)
        held = self._held.cut(Span(span.start_ns, min(span.end_ns, self._reader.end_ns or span.end_ns)))
        active = attempt(faults, "box", span.start_ns, lambda: self._active(span, held, geometry))
        track = active and attempt(faults, "track", span.start_ns, lambda: self._track_of(span, geometry, active[0]))
        packets = attempt(faults, "packets", span.start_ns, lambda: self._packets_of(shot))
        snapped = packets and packets[0]
        is_scored = span.duration_s >= min_clip_s
        if is_scored:
            report.exact_s += span.duration_s
        if snapped and snapped.duration_s >= min_clip_s:
            report.snapped_s += snapped.duration_s
        report.num_clips += 1
        samples: dict[str, ClipSamples] = {}
        lost: dict[str, Fault] = {}
        if is_scored:
            samples, lost = self._samples(_Closed(span, geometry, held, active, track), faults)
        times_ns, is_duplicate = self._track.times(span)
        row = self._row(shot, geometry, active and active[0], len(times_ns), packets, is_scored, faults)
        return ScannedClip(row, times_ns, is_duplicate, samples, lost)

    def _lost_in(self, span: Span) -> list[Fault]:
        """What was lost on the way of the frames of a clip, each kind once."""
        found: dict[tuple[str, str, str], Fault] = {}
        for where, fault in self._lost:
            if where.start_ns < span.end_ns and span.start_ns < where.end_ns:
                found.setdefault((fault.stage, fault.kind, fault.message), fault)
        return list(found.values())[:MAX_CLIP_FAULTS]

    def _active(self, span: Span, held: list[Held], geometry: Geometry) -> tuple[Box, Surround]:
        """The picture that is scored, and what lies around it."""
        box, surround = active_box(held, geometry.displayed)
        sampling = self._settings.sampling
        if sampling.crop == "overlays":
            found = without_overlays(self._motion_frames(span, held, box, geometry), sampling.crop_min_area)
            if found is not None:
                box, surround = part_of(box, found), replace(surround, box=box, overlays_cut=found.kinds)
        return box, surround

    def _track_of(self, span: Span, geometry: Geometry, box: Box) -> Track:
        track = self._track.cut(span, *lattice_slices(geometry, box))
        if not len(track.times_ns):
            raise ValueError("no frame of the clip could be looked at")
        return track

    def _packets_of(self, shot: ShotSpan) -> tuple[Span | None, int]:
        """The span between keyframes, and the bits of compressed video."""
        packets = self._reader.packets
        snapped = snap(shot.span, packets.keyframes_ns, ends_source=shot.end_kind in ("source", "fault"))
        return snapped, 8 * packets.num_bytes(shot.span)

    def _row(
        self,
        shot: ShotSpan,
        geometry: Geometry,
        box: Box | None,
        num_frames: int,
        packets: tuple[Span | None, int] | None,
        is_scored: bool,
        faults: list[Fault],
    ) -> ClipFacts:
        span = shot.span
        width, height = geometry.displayed
        snapped, num_bits = packets or (None, 0)
        snapped_s = snapped.duration_s if snapped else 0.0
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
            snapped_duration_s=snapped_s if packets else None,
            start_kind=shot.start_kind,
            end_kind=shot.end_kind,
            width=width,
            height=height,
            active_x=box.x if box else None,
            active_y=box.y if box else None,
            active_width=box.width if box else None,
            active_height=box.height if box else None,
            active_short_side=min(box.width, box.height) if box else None,
            bits_per_pixel=num_bits / coded if num_bits and coded else None,
            is_after_fault=any(f.time_ns is not None and f.time_ns <= span.start_ns for f in self._report.faults),
            is_scored=is_scored,
            caption=self._source.caption,
            faults=faults,
        )

    def _samples(self, clip: "_Closed", faults: list[Fault]) -> tuple[dict[str, ClipSamples], dict[str, Fault]]:
        """What each scorer wants; of those whose samples cannot be made, why."""
        if clip.active is None or clip.track is None:
            reason = faults[-1]
            text = f"no samples: the clip's {reason.stage} is not known ({reason.message})"
            return {}, {name: Fault(name, reason.kind, text, clip.span.start_ns) for name in self._wants}
        box, surround = clip.active
        facts = replace(self._facts, width=clip.geometry.displayed[0], height=clip.geometry.displayed[1])
        found: dict[str, ClipSamples] = {}
        failed: dict[str, Fault] = {}
        shown = _Shown(clip, lambda: self._motion_frames(clip.span, clip.held, box, clip.geometry))

        def samples(wants: Wants, track: Track) -> ClipSamples:
            chosen = _chosen(wants.frames, clip.held)
            return ClipSamples(
                source=facts,
                span=clip.span,
                box=box,
                track=track,
                frames=tuple(shown.frame(sample, wants.pixels, wants.short_side) for sample in chosen),
                times_ns=tuple(sample.time_ns for sample in chosen),
                motion=shown.motion if wants.motion else None,
                previews=shown.previews if wants.previews else (),
                surround=surround,
            )

        for name, wants in self._wants.items():
            why: list[Fault] = []
            one = attempt(why, name, clip.span.start_ns, partial(samples, wants, clip.track))
            if one is not None:
                found[name] = one
            else:
                failed[name] = replace(why[0], message=f"its samples could not be made: {why[0].message}")
        return found, failed

    def _motion_frames(self, span: Span, held: list[Held], box: Box, geometry: Geometry) -> MotionFrames:
        grid = [(h.time_ns, h.analysis) for h in held if h.analysis is not None]
        width, height = geometry.displayed

        def crop(luma: np.ndarray) -> np.ndarray:
            rows = inward(box.y / height, (box.y + box.height) / height, luma.shape[0])
            cols = inward(box.x / width, (box.x + box.width) / width, luma.shape[1])
            return np.ascontiguousarray(luma[rows, cols])

        return MotionFrames(
            np.array([time_ns for time_ns, _ in grid], dtype=np.int64),
            tuple(crop(luma) for _, luma in grid),
            tuple(Pair(p.time0_ns, p.time1_ns, crop(p.luma0), crop(p.luma1)) for p in self._pairs.cut(span)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Closed:
    """What is known of a clip when its samples are made: `active` and `track` are None where a step of ours failed."""

    span: Span
    geometry: Geometry
    held: list[Held]
    active: tuple[Box, Surround] | None
    track: Track | None


class _Shown:
    """Pictures of one clip, each made when a scorer first asks for it and at most once."""

    def __init__(self, clip: _Closed, motion_frames: Callable[[], MotionFrames]) -> None:
        assert clip.active is not None
        self._clip, self._motion_frames = clip, motion_frames
        self._box = clip.active[0]
        self._area = None if (self._box.width, self._box.height) == clip.geometry.displayed else self._box
        self._made: dict[tuple[int, str, int | None], np.ndarray] = {}

    def frame(self, sample: Held, pixels: str, short_side: int | None) -> np.ndarray:
        key = (sample.time_ns, pixels, short_side)
        if key not in self._made:
            convert = sample.picture.rgb if pixels == "rgb" else sample.picture.luma
            self._made[key] = convert(self._area, short_side)
        return self._made[key]

    @cached_property
    def motion(self) -> MotionFrames:
        return self._motion_frames()

    @cached_property
    def previews(self) -> tuple[np.ndarray, ...]:
        return tuple(_preview(one.picture, self._area, self._box) for one in self._clip.held)


def attempt(faults: list[Fault], stage: str, time_ns: int, step: Callable[[], T]) -> T | None:
    """What a step of ours gives; None where it raises, and then the reason is in `faults`.

    What is raised on purpose goes on, and so does a lack of memory.
    """
    try:
        return step()
    except (CurateError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - recorded: one clip or one frame does not end a source
        faults.append(Fault(stage, type(error).__name__, str(error), time_ns))
        return None


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
