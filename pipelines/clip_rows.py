"""The rows of one source: its clips as the scan closes them, scored on the way."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from curate.decide.skip import SkipRules
from curate.manifest import CLIP_COLUMNS, FRAME_COLUMNS, SOURCE_COLUMNS, schema, scorer_schema, table
from curate.pipelines.scoring import ScorerBatch
from curate.pipelines.working_area import Tables
from curate.samples import Wants
from curate.scan import ClipFacts, ScannedClip
from curate.scorers import ScorerLike


class ClipRows:
    """Collects what the scan of one source, or of one part of it, hands out, and scores it on the way."""

    def __init__(
        self, batches: Mapping[str, "ScorerBatch"], skip: SkipRules | None = None, known: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._batches, self._skip, self._known = batches, skip, known or {}
        self.wants: dict[str, Wants] = {name: batch.wants for name, batch in batches.items()}
        self._clips: list[ClipFacts] = []
        self._frames: list[dict[str, Any]] = []

    def take(self, clips: Iterable[ScannedClip]) -> None:
        """Take the clips in the order of time."""
        for clip in clips:
            self._clips.append(clip.facts)
            self._frames.append({"clip_id": clip.facts.clip_id, "frame_times_ns": clip.times_ns, "frame_is_duplicate": clip.is_duplicate})
            self._score(clip)
        for batch in self._batches.values():
            batch.end_source()

    def _score(self, clip: ScannedClip) -> None:
        # Cheap scorers first, since what they find may keep a clip from the models.
        clip_id, models = clip.facts.clip_id, self._skip.models if self._skip else ()
        for name, why_lost in clip.lost.items():
            self._batches[name].skip(clip_id, why_lost)
        for name, samples in clip.samples.items():
            if name not in models:
                self._batches[name].add(clip_id, samples)
        asked = [name for name in clip.samples if name in models]
        why = self._why_skipped(clip.facts) if asked else None
        for name in asked:
            if self._skip and why:
                self._batches[name].skip(clip_id, self._skip.fault(name, why))
            else:
                self._batches[name].add(clip_id, clip.samples[name])

    def _why_skipped(self, clip: ClipFacts) -> str | None:
        if self._skip is None:
            return None
        values = {field.name: getattr(clip, field.name) for field in fields(clip)} | dict(self._known.get(clip.clip_id, {}))
        for name in self._skip.scorers:
            if name in self._batches:
                values |= self._batches[name].row(clip.clip_id)
        return self._skip.why(values)

    def tables(self, source_row: Mapping[str, Any]) -> Tables:
        """Return everything that was taken; scores what still waits for a full batch."""
        scorers = {}
        for name, batch in self._batches.items():
            rows, null = batch.finish(), batch.null_row()
            complete = [{"clip_id": clip.clip_id, **rows.get(clip.clip_id, null)} for clip in self._clips]
            scorers[name] = table(scorer_schema(batch.columns), complete)
        return Tables(
            table(schema(SOURCE_COLUMNS), [source_row]),
            table(schema(CLIP_COLUMNS), [{f.name: getattr(clip, f.name) for f in fields(clip)} for clip in self._clips]),
            table(schema(FRAME_COLUMNS), self._frames),
            scorers,
        )


def without_clips(scorers: Mapping[str, ScorerLike], source_row: Mapping[str, Any]) -> Tables:
    """Return the tables of a source that gave no clip."""
    empty = {name: table(scorer_schema(scorer.columns), []) for name, scorer in scorers.items()}
    return Tables(table(schema(SOURCE_COLUMNS), [source_row]), table(schema(CLIP_COLUMNS), []), table(schema(FRAME_COLUMNS), []), empty)
