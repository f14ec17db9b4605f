"""Rules of models, and what a configuration that breaks them is told."""

from typing import Any

import pytest

from curate.errors import ConfigError
from curate.export.config import parse_export
from curate.export.model_rules import MODELS
from curate.export.video import Target

# As the makers' documents have them: (rate, [counts], latent frames of a count, px that one latent token covers)
KNOWN = {
    "wan2.1": (16, (17, 81), lambda n: (n - 1) / 4 + 1, 8 * 2),
    "hunyuanvideo": (24, (25, 129), lambda n: (n - 1) / 4 + 1, 8 * 2),
    "cogvideox": (8, (9, 17, 49), lambda n: (n - 1) / 4 + 1, 8 * 2),
    "cogvideox1.5": (16, (17, 81, 161), lambda n: (n - 1) / 4 + 1, 8 * 2),
    "ltx-video": (25, (25, 97, 257), lambda n: (n - 1) / 8 + 1, 32),
}


def problems(layout: str, **parameters: Any) -> str:
    with pytest.raises(ConfigError) as error:
        parse_export({"manifest": "m", "layout": layout, "out": "o", **parameters})
    return str(error.value)


def target(layout: str, **parameters: Any) -> Target:
    found = parse_export({"manifest": "m", "layout": layout, "out": "o", **parameters}).layout.target()  # type: ignore[attr-defined]
    assert isinstance(found, Target)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_whole_latents_at_its_counts_and_sizes(name: str) -> None:
    rules, (fps, counts, latents, token_px) = MODELS[name], KNOWN[name]
    assert rules.fps == fps
    for count in counts:
        assert rules.count_problem("num_frames", count) is None and latents(count) == int(latents(count))
        assert rules.count_problem("num_frames", count - 1) and rules.count_problem("num_frames", count + 1)
    assert rules.max_frames == counts[-1]
    for count in (rules.min_frames, rules.max_frames):
        assert rules.count_problem("num_frames", count) is None
    for width, height in rules.sizes:
        assert width % token_px == 0 and height % token_px == 0 and rules.size_problem(width, height) is None


@pytest.mark.parametrize(
    ("layout", "parameters", "texts"),
    [
        ("finetrainers", {"num_frames": 80}, ("num_frames=80", "4n+1 frames, at most 81", "77 or 81")),
        ("finetrainers", {"num_frames": 121}, ("num_frames=121", "the nearest is 81")),
        ("finetrainers", {"num_frames": 1}, ("num_frames=1:", "the nearest is 5")),
        ("musubi_tuner", {"max_frames": 50}, ("max_frames=50", "49 or 53")),
        ("musubi_tuner", {"frame_step": 6}, ("frame_step=6", "multiple of 4")),
        ("musubi_tuner", {"num_frames": 17, "min_frames": 9}, ("one count for all files",)),
        ("musubi_tuner", {"min_frames": 33, "max_frames": 17}, ("min_frames=33 is more than max_frames=17",)),
        ("musubi_tuner", {"sizes": ["848x470"]}, ("sizes=848x470", "multiples of 16", "the nearest is 848x464")),
        ("diffusion_pipe", {"model": "ltx-video", "sizes": ["720x480"]}, ("multiples of 32", "the nearest is 704x480")),
        ("musubi_tuner", {"sizes": ["320x176"], "max_pixels": 90000}, ("sizes are exact",)),
        ("musubi_tuner", {"cut": "copy"}, ("cut=copy", "use cut=exact")),
        ("musubi_tuner", {"crop": False}, ("crop=false", "max_pixels")),
        ("musubi_tuner", {"model": "cogvideox"}, ("model", "wan2.1, hunyuanvideo")),
        ("diffusion_pipe", {"fps": 24}, ("fps=24", "16 fps for wan2.1")),
        ("finetrainers", {"sizes": ["832x480", "416x240"]}, ("832x480, 416x240", "same aspect")),
        ("finetrainers", {"model": "cogvideox", "max_pixels": 90000}, ("720x480 and no other size",)),
        ("diffusers", {"sizes": ["480x720"]}, ("sizes=480x720: cogvideox takes 720x480 and no other size",)),
        ("diffusers", {"model": "cogvideox1.5", "sizes": ["1360x768", "768x1360"]}, ("one --height and --width",)),
        ("diffusers", {"num_frames": 57}, ("num_frames=57", "8n+1 frames, at most 49", "the nearest is 49")),
        ("diffusers", {"min_frames": 9}, ("give num_frames",)),
        ("diffusers", {"captions": "allow_empty"}, ("captions", "require")),
    ],
)
def test_what_breaks_a_rule_is_refused_with_the_rule_and_what_to_write(layout: str, parameters: dict[str, Any], texts: Any) -> None:
    message = problems(layout, **parameters)
    for text in texts:
        assert text in message


def test_a_model_decides_what_is_not_said() -> None:
    wan = target("finetrainers")
    assert (wan.fps, wan.sizes, wan.multiple) == (16, ((832, 480), (480, 832)), 16)
    assert [wan.num_frames(n) for n in (16, 17, 20, 21, 80, 500)] == [None, 17, 17, 21, 77, 81]
    cogvideo = target("diffusers")
    assert [cogvideo.num_frames(n) for n in (48, 49, 200)] == [None, 49, 49]
    longer = target("finetrainers", model="cogvideox1.5")
    assert [longer.num_frames(n) for n in (80, 81, 96, 97, 400)] == [None, 81, 81, 97, 161]


def test_what_is_said_overrides_within_the_rules() -> None:
    coarse = target("diffusion_pipe", frame_step=16, max_frames=65)
    assert [coarse.num_frames(n) for n in (16, 17, 32, 33, 70)] == [None, 17, 17, 33, 65]
    assert [target("musubi_tuner", num_frames=33).num_frames(n) for n in (32, 33, 80)] == [None, 33, 33]
    assert target("musubi_tuner", max_frames=9).num_frames(12) == 9
    own = target("musubi_tuner", max_pixels=90_000, multiple=24)
    assert (own.sizes, own.max_pixels, own.multiple) == ((), 90_000, 48)
    assert target("finetrainers", fps=24).fps == 24
