"""The ledger's row of one source, from what listing and the pass know of it."""

from collections.abc import Mapping
from typing import Any

from curate.clip import NS_PER_S, Fault
from curate.media.packets import KINDS
from curate.scan import ScanReport
from curate.sources import Source

UNEVEN_SHARE = 0.02  # of frame distances off the nominal one by more than a quarter: beyond it the rate counts as variable


def source_row(source: Source, report: ScanReport, is_quarantined: bool) -> dict[str, Any]:
    """Every column of `sources.parquet`; None where the pass did not get that far."""
    return {
        "source_key": source.key,
        "source_url": source.url,
        "size_bytes": source.size_bytes,
        "etag": source.etag,
        "mtime_ns": source.mtime_ns,
        "caption": source.caption,
        **_fate(report, is_quarantined),
        **_facts(report),
        **_counts(report),
    }


def joined_row(first: Mapping[str, Any], report: ScanReport) -> dict[str, Any]:
    """The row of a source that was scanned in parts: what one part's row says of the file, and what `report` counts of all parts."""
    return {**first, **_fate(report, False), **_shares(report, first["fps"]), **_counts(report)}


def _fate(report: ScanReport, is_quarantined: bool) -> dict[str, Any]:
    first: Fault | None = report.faults[0] if report.faults else None
    status = "quarantined" if is_quarantined else "failed" if first and not report.num_frames else "damaged" if first else "ok"
    return {
        "status": status,
        "fault_stage": first.stage if first else None,
        "fault_kind": first.kind if first else None,
        "fault_message": first.message if first else None,
        "fault_ns": first.time_ns if first else None,
        "num_faults": len(report.faults),
    }


def _facts(report: ScanReport) -> dict[str, Any]:
    probe = report.probe
    if probe is None:
        names = (
            "duration_s container codec pixel_format bit_depth width height coded_width coded_height rotation sample_aspect_ratio fps "
            "is_variable_frame_rate transfer primaries matrix is_full_range is_interlaced has_audio video_stream audio_stream encoder tags"
        )
        return dict.fromkeys(names.split())
    geometry, color = probe.geometry, probe.color
    width, height = geometry.displayed
    return {
        "duration_s": probe.duration_s or probe.container_duration_s,
        "container": probe.container,
        "codec": probe.codec,
        "pixel_format": probe.pixel_format,
        "bit_depth": probe.bit_depth,
        "width": width,
        "height": height,
        "coded_width": geometry.coded_width,
        "coded_height": geometry.coded_height,
        "rotation": geometry.orientation.degrees_clockwise,
        "sample_aspect_ratio": float(geometry.sample_aspect),
        "fps": probe.fps,
        "transfer": color.transfer,
        "primaries": color.primaries,
        "matrix": color.matrix,
        "is_full_range": color.full_range,
        "has_audio": probe.has_audio,
        "video_stream": probe.video_stream,
        "audio_stream": probe.audio_stream,
        "encoder": probe.encoder,
        "tags": sorted(probe.tags.items()),
        **_shares(report, probe.fps),
    }


def _shares(report: ScanReport, fps: float | None) -> dict[str, Any]:
    frames = max(1, report.num_frames)
    return {
        "is_variable_frame_rate": report.num_uneven / frames > UNEVEN_SHARE if fps else None,
        "is_interlaced": report.num_interlaced / frames > 0.5,
    }


def _counts(report: ScanReport) -> dict[str, Any]:
    has_frames = report.start_ns is not None and report.end_ns is not None
    return {
        "start_ns": report.start_ns,
        "decoded_s": (report.end_ns - report.start_ns) / NS_PER_S if has_frames else None,  # type: ignore[operator]
        "num_frames": report.num_frames,
        "num_keyframes": report.num_keyframes,
        "num_packets": report.num_packets if report.account else None,
        "num_repeated_frames": report.account.num_repeated if report.account else None,
        **{f"packets_{kind}": getattr(report.account, kind) if report.account else None for kind in KINDS},
        "num_shots": report.num_shots,
        "num_clips": report.num_clips,
        "exact_s": report.exact_s,
        "snapped_s": report.snapped_s,
    }
