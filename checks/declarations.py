"""What is declared in YAML: read safely, typed, frozen; an unknown key is refused with the nearest known one."""

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hydrogate.checks.errors import BadParams, did_you_mean

# Of a declaration; the shipped ones hold 1,500. Nine aliases of nine aliases, twelve deep, hold 10^11.
MOST_VALUES = 100_000


class Section(BaseModel):
    """A frozen block of a declaration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Loader(yaml.SafeLoader):
    """Makes plain values alone; refuses what would be dropped, never end, or fill the memory when it is printed."""

    def construct_document(self, node: yaml.Node) -> Any:
        _unfolded(node, {})
        return super().construct_document(node)


def _unfolded(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """How many values ``node`` holds where each alias counts as what it stands for."""
    if node in known:
        if not known[node]:
            raise yaml.MarkedYAMLError(problem="holds itself by an alias", problem_mark=node.start_mark)
        return known[node]
    known[node] = 0
    held: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[tuple[str, str]] = set()
        for key, value in node.value:
            name = (key.tag, str(key.value))
            if isinstance(key, yaml.ScalarNode) and name in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} twice", problem_mark=key.start_mark)
            seen.add(name)
            held += [key, value]
    elif isinstance(node, yaml.SequenceNode):
        held = node.value
    known[node] = 1 + sum(_unfolded(one, known) for one in held)
    if known[node] > MOST_VALUES:
        raise yaml.MarkedYAMLError(problem=f"more than {MOST_VALUES} values", problem_mark=node.start_mark)
    return known[node]


def parse_yaml(text: str) -> Any:
    """What YAML ``text`` holds, through the safe loader.

    Raises
    ------
    yaml.YAMLError
        It is no YAML, names a key twice, holds itself, is nested too deeply, or unfolds to more than a declaration.
    """
    try:
        return yaml.load(text, _Loader)
    except (ValueError, RecursionError) as error:  # a date of the 32nd, a number of 5,000 digits; brackets in brackets
        raise yaml.YAMLError(str(error)) from error


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that must hold a mapping, through the safe loader."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadParams(f"{path}: no such file; run from the project's root, where params.yaml is") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParams(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        held = "nothing" if content is None else f"a {type(content).__name__}"
        raise BadParams(f"{path}: holds {held}, expected a mapping of sections")
    return content


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Each fault of ``error`` in one line: where, what is wrong, what was given."""
    return "; ".join(_explain(item, model) for item in error.errors())


def _explain(item: Any, model: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        given = "" if item["type"] == "missing" else f", got {item['input']!r:.200}"
        return f"{where}: {item['msg'].removeprefix('Value error, ')}{given}"
    for part in item["loc"][:-1]:
        held = {f.alias or name: f.annotation for name, f in model.model_fields.items()}[part]
        model = next(of for of in (held, *get_args(held)) if hasattr(of, "model_fields"))  # it may be optional
    return f"unknown key {where}{did_you_mean(item['loc'][-1], (f.alias or n for n, f in model.model_fields.items()))}"
