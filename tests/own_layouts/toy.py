"""A layout of a test's own, found by its dotted name: one text file a clip, and every way to fail."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.errors import ExportError
from curate.export import Finished, Made, Maker, Sample, ShardName
from curate.export import Layout as Base
from curate.export.folder import OutFolder
from curate.kept import KeptClip
from curate.models import Models


class Layout(Base):
    """`least` frames are needed; `bad` clips fail, a `deadly` one kills its process; `stop_after` clips the export is interrupted."""

    least: int = 0
    bad: tuple[str, ...] = ()
    deadly: str | None = None
    stop_after: int | None = None
    big: int = 0

    def plan(self, clip: KeptClip) -> list[Sample] | str:
        count = len(clip.times_ns)
        if count < self.least:
            return f"too short: {count} frames, {self.least} are needed"
        return [Sample(clip.clip_id, clip, count, clip.active.width, clip.active.height, clip.span.duration_s, None)]

    def open(self, models: Models) -> Maker:
        return _Maker(self)

    def finish(self, out: OutFolder, finished: Finished) -> None:
        out.write_text("list.txt", "".join(f"{name}\n" for name in finished.index["file"].to_pylist()))


class _Maker(Maker):
    def __init__(self, layout: Layout) -> None:
        self.layout, self.count = layout, 0

    def make(self, sample: Sample, spool: Path) -> Made:
        if sample.sample_id in self.layout.bad:
            raise ExportError("is bad")
        if sample.sample_id == self.layout.deadly:
            os._exit(11)
        if self.count == self.layout.stop_after:
            raise KeyboardInterrupt
        self.count += 1
        path = spool / f"{sample.sample_id}.txt"
        path.write_text(f"{sample.num_frames} " + "x" * self.layout.big)
        return Made(sample, {"txt": path}, {"file_bytes": path.stat().st_size})

    def pack(self, shard: ShardName, made: Sequence[Made], out: OutFolder) -> list[dict[str, Any]]:
        names = [f"{shard.folder}/{one.sample.sample_id}.txt" for one in made]
        for one, name in zip(made, names, strict=True):
            out.put(one.files["txt"], name)
        return [{"file": name} for name in names]
