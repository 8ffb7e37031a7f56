"""What is declared in YAML: read safely, typed, frozen; an unknown key is refused with the nearest known one."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class BadParams(ValueError):
    """A declaration cannot be used; the message names the key, what it holds and what it may hold."""


class Section(BaseModel):
    """A frozen block of a declaration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that must hold a mapping, through the safe loader."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadParams(f"{path}: no such file; run from the project's root or name a file with --params") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParams(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise BadParams(f"{path}: holds a {type(content).__name__}, expected a mapping of sections")
    return content


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Each fault of ``error`` in one line: where, what is wrong, what was given."""
    return "; ".join(_explain(item, model) for item in error.errors())


def _explain(item: Any, model: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"{where}: {item['msg']}, got {item['input']!r}"
    for part in item["loc"][:-1]:
        model = {f.alias or name: f.annotation for name, f in model.model_fields.items()}[part]
    return f"unknown key {where}{did_you_mean(item['loc'][-1], (f.alias or n for n, f in model.model_fields.items()))}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """'; did you mean x?' where a known name is near, else the list of known names."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
