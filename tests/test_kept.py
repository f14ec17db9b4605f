"""Kept clips as they come out of a real manifest."""

from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from curated import curate_films, write_films

from curate.decide.rules import Rule
from curate.errors import ConfigError, ManifestError
from curate.kept import read_kept
from curate.manifest import Manifest


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    rules = {"slow": {"column": "motion_speed", "max": 12.0}}
    return curate_films(write_films(folder / "films"), folder / "set", rules=rules)


def test_frames_are_those_of_the_file_and_columns_those_of_the_published_table(manifest: Path) -> None:
    published = pd.read_parquet(manifest / "clips")
    kept = read_kept(manifest)
    assert [clip.clip_id for clip in kept] == published[published.keep].clip_id.tolist()
    assert 0 < len(kept) < len(published)
    for clip in kept:
        with av.open(clip.source_url) as container:
            times = np.array([round(f.pts * f.time_base * 1_000_000_000) for f in container.decode(video=0)])
        assert clip.times_ns.tolist() == times[(times >= clip.span.start_ns) & (times < clip.span.end_ns)].tolist()
        assert clip.columns["motion_speed"] == published.set_index("clip_id").motion_speed[clip.clip_id]
        assert clip.size_bytes == Path(clip.source_url).stat().st_size


def test_select_drops_more_and_its_mistakes_are_named(manifest: Path) -> None:
    kept = read_kept(manifest)
    (one,) = read_kept(manifest, {"street": Rule(column="source_key", in_=("street.mp4",))})
    assert one.source_key == "street.mp4" and len(kept) > 1
    assert len(read_kept(manifest, {"half": Rule(column="motion_speed", max_percentile=50)})) == (len(kept) + 1) // 2
    with pytest.raises(ConfigError, match=r"select.half.column = 'motion': there is no such column. Nearest: motion_"):
        read_kept(manifest, {"half": Rule(column="motion", max=50)})


def test_a_ledger_that_has_moved_on_since_the_decision_is_said(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no manifest"):
        read_kept(tmp_path)
    shard = Manifest.open(manifest).shard(0)
    frames, path = shard.read_frames(), shard.folder / "frames.parquet"
    before = path.read_bytes()
    from curate.manifest import parquet

    path.write_bytes(parquet.encode(frames.slice(0, 0)))
    with pytest.raises(ManifestError, match=r"rows are not those of clips.parquet"):
        read_kept(manifest)
    path.write_bytes(before)
