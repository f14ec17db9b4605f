"""A configuration as text: a YAML file, then `key=value` words that change it. Nothing is checked here but the form.

YAML as people expect it: a key that stands twice is an error, `1e-3` is a number, a date is text, an entry without a value is an error
(write `{}` for defaults, `null` for none). Every value remembers where it stands, for messages.
"""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from curate.errors import ConfigError

VERBATIM = ("input", "output", "models", "ray_address", "manifest", "out", "layout", "name", "licence", "data", "init", "motion_buckets")
"""Keys whose words are taken as they are: a path may hold what YAML would read as syntax. Not those that may be swept over a list."""

MAX_DEPTH = 20

_PARTNER = {"min": "min_percentile", "max": "max_percentile", "min_percentile": "min", "max_percentile": "max"}


@dataclass(slots=True)
class ConfigText:
    """What was read so far: plain values, where each stands, and what is wrong with the form."""

    content: dict[str, Any]
    origin: str
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    words: dict[tuple[str, ...], str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def place(self, path: Sequence[str]) -> str:
        """`lvd.yaml line 12` or `the word scorers.text.reader=x` of a key, or of the nearest key above it; "" for none."""
        for length in range(len(path), 0, -1):
            key = tuple(path[:length])
            if key in self.words:
                return f"the word {self.words[key]}"
            if key in self.lines:
                return f"{self.origin} line {self.lines[key]}"
        return ""


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's numbers and no dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("timestamp", "float", "int")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"([-+]?([0-9]*\.[0-9]+|[0-9]+\.)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)


def shipped() -> dict[str, Path]:
    """Returns the configurations that come with the package, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "configs").glob("*.yaml"))}


def located(path: str | Path) -> Path:
    """Returns the file at a path, or the shipped configuration of that name; a file that is called so goes first."""
    given = Path(path)
    return shipped().get(str(path), given) if given.is_dir() or not given.exists() else given


def read_yaml(path: str | Path | None) -> ConfigText:
    """The file, or the shipped configuration of that name, as plain values; None is an empty one.

    Raises `ConfigError` where it cannot be read as a mapping.
    """
    if path is None:
        return ConfigText({}, "")
    text = ConfigText({}, str(path))
    try:
        source = located(path).read_text(encoding="utf-8")
        node = yaml.compose(source, Loader=_Loader)
        text.content = {} if node is None else _Reader(text).value(node, ())
    except FileNotFoundError as error:
        raise ConfigError(f"configuration {path}: there is no such file{_siblings(Path(path))}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {path}: {_yaml_message(error)}") from error
    if not isinstance(text.content, dict):
        raise ConfigError(f"configuration {path}: holds no `key: value` lines; `curate config show quickstart` shows the form")
    return text


def _siblings(path: Path) -> str:
    if path.parent == Path() and path.suffix not in (".yaml", ".yml"):
        return f" and no shipped configuration of that name; there are: {', '.join(shipped())}"
    found = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f"; in {path.parent} there are: {', '.join(found)}" if found else ""


def _yaml_message(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: is not YAML: {what}" if mark else f"is not YAML: {what}"


class _Reader:
    """Turns YAML nodes into plain values and notes lines, double keys and entries without a value."""

    def __init__(self, text: ConfigText) -> None:
        self._text = text
        self._loader = _Loader("")

    def value(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        if len(path) > MAX_DEPTH:
            raise ConfigError(f"configuration {self._text.origin}: {'.'.join(path[:3])}... goes more than {MAX_DEPTH} levels deep")
        if isinstance(node, yaml.CollectionNode) and node.tag.rpartition(":")[2] not in ("map", "seq"):
            raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is not understood", node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, str(i))) for i, item in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:null" and node.value == "" and len(path) > 1:
            text = f"{'.'.join(path)}: has no value ({self._at(node)}); write {{}} for defaults or null to leave it out"
            self._text.problems.append(text)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in reversed(parts):
                    merged |= self.value(part, path)
                continue
            key = self._key(key_node, path)
            if key in own:
                self._text.problems.append(f"{'.'.join((*path, key))}: stands twice ({self._at(key_node)}); remove one")
            self._text.lines[(*path, key)] = key_node.start_mark.line + 1
            own[key] = self.value(value_node, (*path, key))
        return {**merged, **own}

    def _key(self, node: yaml.Node, path: tuple[str, ...]) -> str:
        key: Hashable = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            shown = node.value if isinstance(node, yaml.ScalarNode) else "..."
            name = ".".join((*path, str(shown)))
            self._text.problems.append(f"{name}: YAML reads this key as no text ({self._at(node)}); put it in quotes")
            return str(shown)
        return key

    def _scalar(self, node: yaml.Node) -> Any:
        return self._loader.construct_object(node)

    def _at(self, node: yaml.Node) -> str:
        return f"{self._text.origin} line {node.start_mark.line + 1}"


def apply_overrides(text: ConfigText, words: Sequence[str]) -> None:
    """Changes `text` by `a.b.c=value` words in their order; a value is YAML. `null` removes a scorer or a rule.

    Giving one of a rule's `min` and `min_percentile` (`max`, `max_percentile`) takes the place of the other.
    """
    for word in words:
        key, equals, raw = word.partition("=")
        if not equals or not key:
            text.problems.append(f"the word {word!r}: expected key=value, e.g. clips.min_clip_s=3")
            continue
        if raw == "":
            text.problems.append(f"the word {word!r}: has no value; write {key}=null to clear it")
            continue
        path = _split_key(key, text.content)
        try:
            value = _word_value(path, raw)
        except yaml.YAMLError as error:
            text.problems.append(f"the word {word!r}: {_yaml_message(error)}")
            continue
        _set(text, path, value, word)


def _split_key(key: str, content: dict[str, Any]) -> tuple[str, ...]:
    """A user's own scorer has dots in its name, so the names that are there are tried first."""
    scorers = content.get("scorers")
    if key.startswith("scorers.") and isinstance(scorers, dict):
        rest = key.removeprefix("scorers.")
        for name in sorted(scorers, key=len, reverse=True):
            if rest == name or rest.startswith(f"{name}."):
                return ("scorers", name, *(part for part in rest[len(name) + 1 :].split(".") if part))
    return tuple(key.split("."))


def _word_value(path: tuple[str, ...], raw: str) -> Any:
    if len(path) == 1 and path[0] in VERBATIM:
        return None if raw == "null" else raw
    inner = ConfigText({}, "")
    node = yaml.compose(raw, Loader=_Loader)
    return None if node is None else _Reader(inner).value(node, path)


def _set(text: ConfigText, path: tuple[str, ...], value: Any, word: str) -> None:
    place: Any = text.content
    for depth, part in enumerate(path):
        above = ".".join(path[:depth])
        if isinstance(place, list) and not (part.isdecimal() and int(part) < len(place)):
            text.problems.append(f"the word {word!r}: {above} is a list of {len(place)}; name an entry by its number from 0")
            return
        if not isinstance(place, dict | list):
            text.problems.append(f"the word {word!r}: {above} has no keys below it; give the whole value in its place")
            return
        key: Any = int(part) if isinstance(place, list) else part
        if depth == len(path) - 1:
            if isinstance(place, dict) and len(path) == 3 and path[0] == "rules" and part in _PARTNER and value is not None:
                place.pop(_PARTNER[part], None)
            place[key] = value
        elif isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[key]
    text.words[path] = word
