"""A configuration is refused with every problem named, and means the same however it was written."""

import json
from pathlib import Path

import pytest
import yaml

from curate import scorers
from curate.config import Config, config_schema, load_config, parse_config, weights_folders
from curate.config_problems import key_table
from curate.errors import ConfigError
from curate.fingerprints import config_fingerprints

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.name.startswith("svd_"))


@pytest.fixture
def write(tmp_path):
    def written(text: str) -> Path:
        path = tmp_path / "some.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def problems_of(path, *words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, words)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sampling: {grid_mss: 100}", ["sampling.grid_mss", "Nearest: sampling.grid_ms", "100 to 10000 ms", "default 500"]),
        ("min_clip_s: 2", ["min_clip_s: unknown key", "Nearest: clips.min_clip_s", "0.1 to 600 s"]),
        ("shot: {}", ["shot: unknown key", "Nearest: shots"]),
        ("scorers: {text: {reeder: craft}}", ["scorers.text.reeder", "Nearest: scorers.text.reader", "one of ppocr, craft"]),
        ("scorers: {text: {short_sid: 300}}", ["Nearest: scorers.text.short_side", "160 to 2160 px", "default 480"]),
        ("scorers: {txt: {}}", ["scorers.txt", "no scorer 'txt'", "text"]),
        ("scorers: {text: {optionl: true}}", ["scorers.text.optionl", "Nearest: scorers.text.optional"]),
        ("rules: {a: {colum: fps, min: 1}}", ["rules.a.colum", "Nearest: rules.a.column"]),
        ("rules: {a: {column: duration, min: 1}}", ["rules.a.column = 'duration'", "Nearest: duration_s (s, 0 or more)"]),
    ],
)
def test_a_typo_names_the_nearest_key_its_unit_and_its_range(write, text, expected):
    assert all(any(part in line for line in problems_of(write(text))) for part in expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sampling: {grid_ms: 20}", "sampling.grid_ms = 20: must be a whole number from 100 to 10000 ms"),
        ("sampling: {grid_ms: 500.5}", "sampling.grid_ms = 500.5: must be a whole number"),
        ("clips: {min_clip_s: yes}", "clips.min_clip_s = true: must be a number from 0.1 to 600 s"),
        ("clips: {min_clip_s: two}", "clips.min_clip_s = 'two': must be a number"),
        ("clips: {min_clip_s: .nan}", "clips.min_clip_s"),
        ("clips: {min_clip_s: 13}", "clips.max_clip_s=12 s must be greater than clips.min_clip_s=13 s"),
        ("engine: spark", "engine = 'spark': must be one of local, ray"),
        ("output: 5", "Put it in quotes"),
        ("decode: pyav", "decode = 'pyav': must be a mapping"),
        ("scorers: [text]", "scorers: must be a mapping"),
        ("scorers: {text: 3}", "scorers.text: must be a mapping of parameters"),
        ("scorers: {text: {optional: 3}}", "scorers.text.optional = 3: must be true or false"),
        ("scorers: {text: {short_side: 10}}", "scorers.text.short_side = 10: must be a whole number from 160 to 2160 px"),
        ("scorers: {text: }", "scorers.text: has no value"),
        ("scorers: {aesthetic: {model: ViT-B-16, head: sa_0_4_vit_l_14_linear}}", "scorers.aesthetic: aesthetic.head"),
        ("rules: {a: {column: fps}}", "needs a condition of one kind"),
        ("rules: {a: {column: fps, min: 1, is: true}}", "needs a condition of one kind"),
        ("rules: {a: {column: fps, min: 1, min_percentile: 5}}", "give min or min_percentile, not both"),
        ("rules: {a: {column: fps, min: 3, max: 2}}", "min=3 lies above max=2"),
        ("rules: {a: {column: fps, min_percentile: 120}}", "a number from 0 to 100 %"),
        ("rules: {a: {column: fps, min: -2}}", "rules.a.min = -2 lies outside what fps (frames/s, 0 or more) can be"),
        ("rules: {a: {column: fps, min: .nan}}", "rules.a.min = NaN: must be a number"),
        ("rules: {a: {column: fps, max: .inf}}", "rules.a.max = Infinity: must be a number"),
        ("rules: {a: {column: fps, is: true}}", "is a number column; use min, max"),
        ("rules: {a: {column: is_after_fault, min: 0}}", "is a boolean column; use is: true or is: false"),
        ("rules: {a: {column: faults, min: 0}}", "rules read numbers, booleans and strings only"),
        ("rules: {too_short: {column: fps, min: 0}}", "built in"),
        ("rules: {'a:null': {column: fps, min: 0}}", "use letters, digits and underscores"),
        ("scorers: {text: {}}\nrules: {a: {column: text_area_max, max: 7}}", "For 7 % write 0.07"),
        ("rules: {a: {column: text_area_max, max: 0.07}}", "Scorer text writes it: add scorers.text, or set rules.a to null"),
        ("a: 1\na: 2", "a: stands twice"),
        ("yes: 1", "YAML reads this key as no text"),
    ],
)
def test_a_wrong_value_names_key_value_rule_and_remedy(write, text, expected):
    assert any(expected in line for line in problems_of(write(text)))


def test_all_problems_are_reported_together_each_with_its_place(write):
    path = write("workers: -1\nsampling:\n  grid_ms: 1\nscorers:\n  text: {reader: tesseract}\nclips: {}\n")
    found = problems_of(path, "clips.max_clip_s=900", "shotz=1")
    assert len(found) == 5
    text = "\n".join(found)
    assert f"workers = -1: must be a whole number from 0 to 100000. The default is 0. [{path} line 1]" in text
    assert f"[{path} line 3]" in text
    assert f"[{path} line 5]" in text
    assert "[the word clips.max_clip_s=900]" in text
    assert "[the word shotz=1]" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "line 1"),
        ("- 1\n- 2", "holds no `key: value` lines"),
        ("just words", "holds no `key: value` lines"),
        ("input: !!python/object/apply:os.getcwd []", "YAML"),
        ("a: &a {b: *a}", "levels deep"),
    ],
)
def test_what_is_no_mapping_is_refused_without_a_trace(write, text, expected):
    with pytest.raises(ConfigError, match=expected):
        load_config(write(text))


def test_a_missing_file_names_its_neighbours(write):
    path = write("seed: 1")
    with pytest.raises(ConfigError, match=r"no such file; in .* there are: some\.yaml"):
        load_config(path.with_name("sme.yaml"))


def test_numbers_are_read_as_yaml_1_2_has_them(write):
    config = load_config(write("clips: {min_clip_s: 1e0, max_clip_s: 1e+1}\nseed: 1_000\ninput: 2020-01-01\n"))
    assert (config.clips.min_clip_s, config.clips.max_clip_s, config.seed, config.input) == (1.0, 10.0, 1000, "2020-01-01")


def test_words_win_over_the_file_and_are_typed_as_yaml(write):
    path = write("scorers: {text: {short_side: 300}, quality: {}}\nclips: {min_clip_s: 3}\n")
    words = ["clips.min_clip_s=1.5", "scorers.text.reader=craft", "scorers.quality=null", "limit_sources=7", "input=*.mp4", "output=/a b=c"]
    config = load_config(path, [*words, "shots.passes=[{detector: content, threshold: 30}]"])
    assert config.clips.min_clip_s == 1.5
    assert list(config.scorers) == ["text"]
    assert config.scorers["text"].scorer == scorers.load("text")(reader="craft", short_side=300)
    assert (config.limit_sources, config.input, config.output) == (7, "*.mp4", "/a b=c")
    assert [one.threshold for one in config.shots.passes] == [30.0]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("seed", "expected key=value"),
        ("seed=", "write seed=null to clear it"),
        ("seed=[1", "is not YAML"),
        ("seed.x=1", "seed has no keys below it"),
        ("shots.passes.5.fps=1", "is a list of 1"),
    ],
)
def test_a_malformed_word_is_named(write, word, expected):
    path = write("seed: 3\nshots: {passes: [{detector: content, threshold: 30}]}")
    assert any(word in line and expected in line for line in problems_of(path, word))


def test_a_word_for_one_kind_of_bound_takes_the_place_of_the_other(write):
    path = write("rules: {slow: {column: fps, min_percentile: 25}, long: {column: duration_s, max: 9}}")
    config = load_config(path, ["rules.slow.min=3", "rules.long.max_percentile=90"])
    assert config.model_dump(mode="json")["rules"] == {
        "slow": {"column": "fps", "min": 3.0, "on_null": "drop"},
        "long": {"column": "duration_s", "max_percentile": 90.0, "on_null": "drop"},
    }
    assert load_config(path, ["rules.slow=null"]).rules.keys() == {"long"}


def test_a_word_for_a_rule_that_is_not_there_names_the_nearest(write):
    path = write("rules: {low_motion: {column: fps, min: 3}}")
    found = problems_of(path, "rules.low_moton.min=4")
    assert any("rules.low_moton.column: is missing" in line and "Nearest rule: low_motion" in line for line in found)


def test_a_scorer_whose_package_is_missing_says_so(write, tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import a_package_nobody_has\n")
    (tmp_path / "needy_room").mkdir()
    (tmp_path / "needy_room" / "needy.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert any("needs the package 'a_package_nobody_has'" in line for line in problems_of(write("scorers: {needy_room.needy: {}}")))


def test_what_is_shown_loads_to_the_same_configuration(write):
    text = (
        "scorers: {text: {optional: true}, synthetic: {}}\nrules: {a: {column: start_kind, in: [cut, source]}, b: {column: fps, min: 5}}\n"
    )
    config = load_config(write(text))
    shown = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    assert load_config(write(shown)) == config
    assert parse_config(json.loads(json.dumps(config.model_dump(mode="json")))) == config


def test_fingerprints_change_exactly_with_what_they_stand_for():
    base = {"scorers": {"text": {}, "synthetic": {}}, "rules": {"a": {"column": "fps", "min": 5}, "b": {"column": "width", "min": 5}}}

    def prints(pass_version=1, weights=None, **changes):
        return config_fingerprints(parse_config({**base, **changes}), pass_version, weights)

    before = prints()
    assert prints(input="/x", output="/y", engine="ray", workers=3, seed=5, models="/m", max_attempts=5, limit_sources=4) == before
    assert prints(scorers={"text": {"optional": True}, "synthetic": {}}) == before
    assert prints(scorers={"text": {"short_side": 480}, "synthetic": {}}) == before, "480 is the default, written out"
    for changed in (
        prints(2),
        prints(clips={"min_clip_s": 3}),
        prints(sampling={"grid_ms": 400}),
        prints(shots={"detector": "transnetv2"}),
    ):
        assert changed["pass"] != before["pass"]
        assert {**changed, "pass": ""} == {**before, "pass": ""}
    scorer = prints(scorers={"text": {"short_side": 481}, "synthetic": {}})
    assert scorer["scorers"]["text"] != before["scorers"]["text"]
    assert scorer["scorers"]["synthetic"] == before["scorers"]["synthetic"]
    weights = {weight.name: "aa" for weight in scorers.load("text")().weights()}
    with_weights = prints(weights=weights)
    assert with_weights["scorers"]["text"] != before["scorers"]["text"]
    assert with_weights["scorers"]["synthetic"] == before["scorers"]["synthetic"]
    reordered = prints(rules={"b": base["rules"]["b"], "a": base["rules"]["a"]})
    assert reordered["rules"] != before["rules"], "the order of rules is the order of drop reasons"
    assert reordered["pass"] == before["pass"]


def test_the_schema_gives_every_number_a_range_or_a_reason():
    schema = config_schema(scorers.names())
    lacking = []

    def walk(node, path):
        kinds = {one.get("type") for one in (node, *node.get("anyOf", ()))}
        bounded = any(key in one for one in (node, *node.get("anyOf", ())) for key in ("minimum", "exclusiveMinimum", "maximum"))
        if kinds & {"integer", "number"} and not bounded:
            lacking.append(path)
        if kinds & {"integer", "number", "string", "boolean"} and "description" not in node:
            lacking.append(path)
        for one in (node, *node.get("anyOf", ())):
            for key, below in one.get("properties", {}).items():
                walk(below, f"{path}.{key}")

    walk(schema, "")
    assert lacking == []
    assert schema["properties"]["sampling"]["properties"]["grid_ms"]["unit"] == "ms"
    assert set(schema["properties"]["scorers"]["properties"]) == set(scorers.names())
    assert "$ref" not in json.dumps(schema)


def test_weights_are_searched_first_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("CURATE_MODELS", "/first")
    assert weights_folders(Config(models="/second")) == [Path("/first"), Path("/second")]
    monkeypatch.delenv("CURATE_MODELS")
    assert weights_folders(Config()) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_is_valid(path):
    config = load_config(path, ["input=/in", "output=/out"])
    assert config.rules, "a shipped configuration decides something"
    assert config.scorers


def test_the_table_of_keys_in_the_documentation_is_that_of_the_code():
    text = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- keys -->\n")[2].partition("\n<!-- /keys -->")[0]
    assert shown == key_table(config_schema(scorers.names())), "run `curate config schema --markdown` and put what it prints there"
