"""What a changed pass costs: said before anything is scanned again, and only done after a yes.

Settings of the pass decide which clips there are. Shards that were scanned with others are pending:
each stays as it is until it is done again. What was published stays too, and is the pass' before as
a whole, until the next decision.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow.compute as pc

from curate import neutral
from curate.errors import ManifestError
from curate.fingerprints import PASS_SECTIONS
from curate.manifest import Manifest, Run, differences
from curate.report.summary import count, duration

Agree = Callable[[str], bool]
"""Is told what would be scanned again and why; True is a yes."""

PAUSE = 10.0  # times the longest tenth of the times between two shards: nobody was working
MIN_GAPS = 4


def refused(_: str) -> bool:
    """Answers where nobody can be asked."""
    return False


def check_pass(manifest: Manifest, before: Run | None, now: Run, pass_version: int, agree: Agree) -> None:
    """Raises `ManifestError` where sources would be scanned again and `agree` does not say yes."""
    if before is None or before.pass_fingerprint == now.pass_fingerprint:
        return
    done = {shard_id: manifest.shard(shard_id).done() for shard_id in manifest.shard_ids()}
    other = [shard_id for shard_id, one in done.items() if one is not None and one[0] != now.pass_fingerprint]
    if not other:
        return
    text = f"{_changes(manifest, before, now, pass_version)}\n{_cost(manifest, before, other)}"
    if not agree(text):
        raise ManifestError(
            f"{text}\nStart the same command with --yes to scan them again into this manifest; or set the values back, "
            "or name a new output=."
        )


def _changes(manifest: Manifest, before: Run, now: Run, pass_version: int) -> str:
    then, today = ({name: {**neutral.PASS[name], **run.config.get(name, {})} for name in PASS_SECTIONS} for run in (before, now))
    versions = f"curate {before.versions.get('curate')} -> {now.versions.get('curate')}"
    lines = differences(then, today) or [f"the way it is computed, version {pass_version} now ({versions})"]
    return f"{manifest.root} was written with other settings of the pass:\n  " + "\n  ".join(lines)


def _cost(manifest: Manifest, before: Run, shard_ids: Sequence[int]) -> str:
    num_sources, seconds = 0, 0.0
    for shard_id in shard_ids:
        rows = manifest.read_sources(shard_id)
        num_sources += len(rows)
        seconds += pc.sum(rows["decoded_s"]).as_py() or 0.0
    video = f"{count(num_sources, 'source')} with {duration(seconds)} of video"
    return (
        f"These decide which clips there are, so {video} would be scanned again{_effort(manifest, before, shard_ids)}. "
        "Sources that are no longer there would fail. Until it is done, clips/ and sources/ stay as they are."
    )


def _effort(manifest: Manifest, before: Run, shard_ids: Sequence[int]) -> str:
    """Estimates how long these shards took when they were made, by the times at which they were
    committed; "" where those do not tell.
    """
    gaps = np.diff(sorted(manifest.shard(shard_id).ended_s() for shard_id in shard_ids))
    long = float(np.percentile(gaps, 90, method="lower")) if len(gaps) >= MIN_GAPS else 0.0
    if long <= 0:
        return ""
    seconds = float(gaps[gaps <= PAUSE * long].mean()) * len(shard_ids)
    workers = before.config.get("workers")
    if not workers:
        return f", about {duration(seconds)} on the clock with the workers of then"
    return f", about {duration(seconds * workers)} of processor time as they came then"
