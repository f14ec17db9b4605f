"""Says what is wrong with a configuration so that the reader need not look anything up.

Every message names the key, its value, the rule that it breaks, unit and range, and what to write. The facts come from the JSON schema of
the configuration, the same document that `curate config schema` prints.
"""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from curate.decide.rules import rule_problem
from curate.errors import ConfigError

if TYPE_CHECKING:
    from curate.config import Config

Schema = dict[str, Any]
_JSON_NAMES = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false", "object": "a mapping"}
_MAX_SHOWN = 60


def inlined(schema: Schema) -> Schema:
    """The schema with every `$ref` replaced by what it names; nothing in a configuration contains itself."""
    definitions = schema.get("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            named = definitions[node["$ref"].rpartition("/")[2]]
            return resolve({**named, **{key: value for key, value in node.items() if key != "$ref"}})
        # "title" only repeats the key, but a property may be called so.
        return {
            key: {name: resolve(item) for name, item in value.items()} if key == "properties" else resolve(value)
            for key, value in node.items()
            if key not in ("$defs", "title")
        }

    found: Schema = resolve(schema)
    return found


def expectation(node: Schema) -> str:
    """What a value must be: `a whole number from 100 to 10000 ms`."""
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(expectation({**_facts(node), **one}) for one in node["anyOf"]))
    if "enum" in node or "const" in node:
        return "one of " + ", ".join(str(one) for one in node.get("enum", [node.get("const")]))
    if node.get("type") == "null":
        return "null"
    if node.get("type") == "array":
        items = node.get("items") or {}
        return f"a list of {expectation(items)}" if items.get("type") not in (None, "object") or "anyOf" in items else "a list"
    return " ".join(part for part in (_JSON_NAMES.get(node.get("type", ""), "a value"), _span(node), node.get("unit", "")) if part)


def _facts(node: Schema) -> Schema:
    return {key: value for key, value in node.items() if key == "unit"}


def _span(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    bottom = f"from {_number(low)}" if low is not None else f"above {_number(above)}" if above is not None else ""
    top = f"to {_number(high)}" if high is not None else f"below {_number(below)}" if below is not None else ""
    if bottom and top:
        return f"{bottom} {top}" if high is not None else f"{bottom} to {top}"
    if top:
        return f"up {top}" if high is not None else top
    return f"{bottom} on" if low is not None else bottom


def _number(value: Any) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def key_table(schema: Schema, above: str = "") -> str:
    """Markdown table of the keys of a schema and of its sections: key, what it must be, default, meaning."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"] if not above else []
    for name, node in keys_of(schema).items():
        if name == "rules" and not above:
            node = node["additionalProperties"]
            lines += key_table(node, "rules.NAME.").splitlines()
        elif name == "passes":
            lines += [_table_row(above + name, node), *key_table(node["items"], f"{above}{name}.N.").splitlines()]
        elif keys_of(node):
            lines += key_table(node, f"{above}{name}.").splitlines()
        elif node.get("type") != "object":
            lines.append(_table_row(above + name, node))
    return "\n".join(lines)


def _table_row(key: str, node: Schema) -> str:
    default = node.get("default")
    shown = "" if default is None or isinstance(default, list) else f"`{_shown(default)}`".replace("'", "")
    return f"| `{key}` | {expectation(node)} | {shown} | {node.get('description', '')} |"


def descend(schema: Schema, path: Sequence[int | str]) -> tuple[Schema | None, tuple[str, ...]]:
    """The node of the longest part of `path` that the schema knows, and that part."""
    node, known = schema, []
    for part in path:
        below = _child(node, part)
        if below is None:
            break
        node = below
        known.append(str(part))
    return node, tuple(known)


def _child(node: Schema, part: int | str) -> Schema | None:
    for one in (node, *node.get("anyOf", ())):
        if isinstance(part, int):
            places = one.get("prefixItems") or ()
            found = places[part] if part < len(places) else one.get("items")
        else:
            found = one.get("properties", {}).get(part, one.get("additionalProperties"))
        if isinstance(found, dict):
            return found
    return None


def keys_of(node: Schema) -> dict[str, Schema]:
    """The keys that may stand below a node."""
    found: dict[str, Schema] = {}
    for one in (node, *node.get("anyOf", ())):
        found |= one.get("properties", {})
    return found


class Checker:
    """Turns what pydantic found in `content` into one line each. `place(path)` says where a key was written, "" if unknown."""

    def __init__(
        self, content: Mapping[str, Any], place: Callable[[Sequence[str]], str] | None = None, schema: Schema | None = None
    ) -> None:
        self._content = content
        self._place = place
        self._schema = self._schema_of(content) if schema is None else schema

    @staticmethod
    def _schema_of(content: Mapping[str, Any]) -> Schema:
        from curate.config import config_schema

        named = content.get("scorers")
        loadable = []
        for name in named if isinstance(named, Mapping) else ():
            try:
                config_schema([name])
            except ConfigError:
                continue
            loadable.append(name)
        return config_schema(loadable)

    def explain(self, error: ValidationError) -> list[str]:
        return list(dict.fromkeys(self._line(found) for found in error.errors(include_url=False)))

    def rule_problems(self, config: "Config") -> list[str]:
        """Rules over columns that this configuration does not have, or that cannot hold."""
        columns = config.columns()
        lines = []
        for name, rule in config.rules.items():
            problem = rule_problem(name, rule, columns)
            if problem:
                key, text = problem
                hint = "" if rule.column in columns else _whose_column(rule.column, name, config)
                lines.append(f"{text}{hint}{self._at(('rules', name, key))}")
        from curate.decide.skip import skip_problems

        return lines or [f"{line}{self._at(('skip_models_when',))}" for line in skip_problems(config)]

    def _line(self, found: Any) -> str:
        loc: tuple[int | str, ...] = found["loc"]
        if found["type"] == "extra_forbidden":
            return self._unknown(loc)
        if found["type"] == "missing":
            return self._missing(loc)
        node, known = descend(self._schema, loc)
        path = ".".join(known)
        at = self._at(known)
        if found["type"] in ("value_error", "unknown_scorer", "mapping", "text", "assertion_error"):
            text = found["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            return (text if text.startswith(f"{path}.") else f"{path}: {text}") + at
        node = node or {}
        default = f" The default is {_shown(node['default'])}." if node.get("default") is not None else ""
        quotes = " Put it in quotes." if found["type"] == "string_type" and not isinstance(found["input"], dict | list | None) else ""
        shape = f" ({found['msg']})" if found["type"] in ("too_short", "too_long", "too_many_items") else ""
        return f"{path} = {_shown(found['input'])}: must be {expectation(node)}{shape}.{default}{quotes}{at}"

    def _unknown(self, loc: tuple[int | str, ...]) -> str:
        parent, known = descend(self._schema, loc[:-1])
        above = ".".join(known)
        keys = keys_of(parent or {})
        key = str(loc[-1])
        path = f"{above}.{key}" if above else key
        near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
        if elsewhere := self._elsewhere(key, cutoff=1.0 if near else 0.85):
            hint = f"Nearest: {elsewhere}"
        elif near:
            hint = f"Nearest: {self._described(above, near[0], keys[near[0]])}"
        else:
            hint = f"{above or 'The configuration'} has: {', '.join(keys)}"
        return f"{path}: unknown key. {hint}{self._at((*known, key))}"

    def _elsewhere(self, key: str, cutoff: float) -> str | None:
        """A key of about that name in another section: `min_clip_s` at the top belongs to `clips`."""
        for section, node in self._schema["properties"].items():
            keys = keys_of(node)
            if section not in ("scorers", "rules") and (near := difflib.get_close_matches(key, keys, n=1, cutoff=cutoff)):
                return self._described(section, near[0], keys[near[0]])
        return None

    def _described(self, above: str, key: str, node: Schema) -> str:
        default = f", default {_shown(node['default'])}" if node.get("default") is not None else ""
        simple = node.get("type") != "object"
        return f"{above + '.' if above else ''}{key}" + (f" ({expectation(node)}{default})" if simple else "")

    def _missing(self, loc: tuple[int | str, ...]) -> str:
        parent, known = descend(self._schema, loc)
        path = ".".join(str(part) for part in loc)
        text = f"{path}: is missing, must be {expectation(parent or {})}"
        if loc[0] == "rules" and len(loc) == 3:
            others = [name for name in self._content["rules"] if name != loc[1] and "column" in (self._content["rules"][name] or {})]
            near = difflib.get_close_matches(str(loc[1]), others, n=1, cutoff=0.5)
            text += f". Nearest rule: {near[0]}" if near else ""
        return text + self._at(known)

    def _at(self, path: Sequence[str]) -> str:
        place = self._place(path) if self._place else ""
        return f" [{place}]" if place else ""


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = repr(text) if isinstance(value, str) else text
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _whose_column(column: str, rule: str, config: "Config") -> str:
    """Names the scorer that writes the column, when it comes with the package and is not in the configuration."""
    from curate import scorers

    for name in scorers.names():
        if name not in config.scorers and column in scorers.load(name)().columns:
            return f". Scorer {name} writes it: add scorers.{name}, or set rules.{rule} to null"
    return ""
