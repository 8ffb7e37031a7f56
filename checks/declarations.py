"""Declarations in YAML: read with a safe loader, typed and frozen. An unknown key is rejected with a suggestion."""

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hydrogate.checks.errors import BadParams, did_you_mean

# Upper limit for one declaration. The shipped ones have 1,500 values; nine aliases of nine aliases, twelve levels
# deep, expand to 10^11.
MOST_VALUES = 100_000


class Section(BaseModel):
    """Frozen section of a declaration that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Loader(yaml.SafeLoader):
    """YAML loader that builds plain values only.

    It rejects duplicate keys, which YAML drops, recursive aliases, which never end, and documents that would fill the
    memory when they are expanded.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        _unfolded(node, {})
        return super().construct_document(node)


def _unfolded(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Return the number of values in ``node``, with each alias counted as the node that it refers to."""
    if node in known:
        if not known[node]:
            raise yaml.MarkedYAMLError(
                problem="recursive alias: the value contains itself", problem_mark=node.start_mark
            )
        return known[node]
    known[node] = 0
    held: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[tuple[str, str]] = set()
        for key, value in node.value:
            name = (key.tag, str(key.value))
            if isinstance(key, yaml.ScalarNode) and name in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
            seen.add(name)
            held += [key, value]
    elif isinstance(node, yaml.SequenceNode):
        held = node.value
    known[node] = 1 + sum(_unfolded(one, known) for one in held)
    if known[node] > MOST_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"more than {MOST_VALUES} values after expanding aliases", problem_mark=node.start_mark
        )
    return known[node]


def parse_yaml(text: str) -> Any:
    """Parse YAML ``text`` with the safe loader.

    Raises
    ------
    yaml.YAMLError
        The text is not valid YAML, has a duplicate key or a recursive alias, is nested too deeply, or expands to more
        than ``MOST_VALUES`` values.
    """
    try:
        return yaml.load(text, _Loader)
    except (ValueError, RecursionError) as error:  # e.g. day 32, a number of 5,000 digits, or deeply nested brackets
        raise yaml.YAMLError(str(error)) from error


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file with the safe loader; its top level must be a mapping.

    Raises
    ------
    BadParams
        The file is missing, is not readable as YAML, or its top level is not a mapping.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadParams(f"{path}: no such file; run the command in the project root, where params.yaml is") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParams(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        held = "nothing" if content is None else f"a {type(content).__name__}"
        raise BadParams(f"{path}: contains {held}, expected a mapping of sections")
    return content


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return one line for all faults in ``error``: key, fault and given value of each."""
    return "; ".join(_explain(item, model) for item in error.errors())


def _explain(item: Any, model: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        given = "" if item["type"] == "missing" else f", got {item['input']!r:.200}"
        return f"{where}: {item['msg'].removeprefix('Value error, ')}{given}"
    for part in item["loc"][:-1]:
        held = {f.alias or name: f.annotation for name, f in model.model_fields.items()}[part]
        model = next(of for of in (held, *get_args(held)) if hasattr(of, "model_fields"))  # the section may be optional
    return f"unknown key {where}{did_you_mean(item['loc'][-1], (f.alias or n for n, f in model.model_fields.items()))}"
