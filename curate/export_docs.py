"""Writes `docs/export.md` from the layouts themselves: `python -m curate.export_docs docs/export.md`."""

import inspect
import sys
from pathlib import Path

from curate import export
from curate.config_problems import inlined, key_table
from curate.export.config import Common

_HEAD = """\
# Exporting, and reading back

Written by `python -m curate.export_docs docs/export.md` from the code; a test holds the two together.

    curate export DIR layout=webdataset out=OUT --dry-run     # clips, hours, gigabytes; what cannot be held and why
    curate export DIR layout=webdataset out=OUT val_fraction=0.05 engine=ray

Only clips that the manifest keeps are cut. Which frames a layout takes, and which clips it cannot hold, is known from the manifest
before a video is opened. Every file is decoded again after it is written and held against the source's own frames, and only then
gets its name; indexes, lists and cards name such files alone. A clip whose source is gone or has changed since the scan, or whose file
does not verify, is reported, the rest goes on, and `left_out.jsonl` names every kept clip that the export does not hold.

* Stopped at any point and started again, the same command does the shards that are missing. With other clips or parameters it asks
  for another folder. Shards with failed clips are done again with `retry_failed=true`.
* Order and split follow from `seed`. Clips that share a source (or a group of near-duplicates, where the manifest has
  `duplicate_group`) are never in both splits, so a split may be somewhat smaller than `val_fraction`.
* `select` takes rules as in a configuration, which kept clips must pass as well: `select='{lively: {column: motion_speed, min: 2}}'`.
* `out` is a folder or a URL such as `s3://bucket/folder` (packages: extras `s3`, `gcs`). On a Ray cluster of several machines, sources
  and `out` are places that every machine sees.
* No source is ever written to.

`cut=exact` (the default) re-encodes: any frame can be the first, bars are cut off, rotation, mirroring, sample aspect and HDR are
applied to the pixels (trainers' readers ignore the tags), and the colour tags say what is in the file. `cut=copy` takes the stream between
keyframes as it is, rotation and colour tags with it: no quality is lost and hardly any time, but clips are shorter, and some have
nothing left.

## Keys that every layout has

"""

_TAIL = """\
## Reading back: `curate.dataset.CuratedClips`

```python
from torch.utils.data import DataLoader

from curate.batches import BucketBatches, collate
from curate.dataset import CuratedClips

clips = CuratedClips("manifest", num_frames=14, fps=7, sizes=((576, 320), (320, 576)))  # or an export of video files
batches = BucketBatches(clips, batch_size=4, seed=1)
loader = DataLoader(clips, batch_sampler=batches, collate_fn=collate, num_workers=4)
```

A `torch.utils.data.Dataset` over the kept clips of a manifest (frames come from the sources; no export is needed) or over an export of
video files. An item is a window of frames at a whole-number stride over the clip's distinct pictures, so that motion does not judder, with
its own frame rate, its own motion, measured on these frames, and its own motion bucket. Frames are found by presentation time, exactly;
windows of uneven spacing are not drawn. `BucketBatches` makes batches of one size and resumes in the middle of an epoch (`state_dict`,
`load_state_dict`). The docstrings say the rest: `python -m pydoc curate.dataset`.

`python benchmarks/loader.py` measures it beside PyAV, decord and torchcodec, `python benchmarks/cut.py` the cutting beside plain ffmpeg
commands.

## A layout of your own

A module with a class `Layout` derived from `curate.export.Layout` (or `curate.export.video.VideoLayout`), named by its dotted path:
`layout=mypackage.mylayout`. `curate/export/__init__.py` states the contract; `curate/export/huggingface.py` is a short one to start from.
"""


def render() -> str:
    """The page."""
    parts = [_HEAD, key_table(inlined(Common.model_json_schema())), "\n"]
    for name in export.names():
        kind = export.load(name)
        doc = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "")
        parts += [f"\n## `layout={name}`\n\n", doc, "\n\n", key_table(inlined(kind.model_json_schema())), "\n"]
    return "".join([*parts, "\n", _TAIL])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
