"""The recipe book: find a recipe by name or path, apply ``key=value`` overrides, say clearly what is wrong.

1. A recipe is one of the shipped names, or a YAML file.
2. An override names a key by its path (``optimizer.lr=1e-3``) or, where only one section has it, by its last part
   (``lr=1e-3``). The value is read as YAML.
3. The result is validated; the first mistake becomes one sentence.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from retriever.errors import RecipeError
from retriever.training.recipe import Recipe

SHIPPED = Path(__file__).with_name("recipes")


def names() -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def source(name_or_path: str | Path) -> Path:
    """The YAML file of a shipped recipe, or the path itself.

    Raises:
        RecipeError: There is neither.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise RecipeError(f"There is no recipe file {path}; `retriever recipes ls` lists the shipped ones.")
    if str(name_or_path) in names():
        return SHIPPED / f"{name_or_path}.yaml"
    raise RecipeError(
        f"There is no recipe {str(name_or_path)!r}{_nearest(str(name_or_path), names())}; "
        f"choose one of {', '.join(names())}, or give a .yaml file."
    )


def read(name_or_path: str | Path) -> str:
    """The YAML of a recipe, comments and all.

    Raises:
        RecipeError: There is no such recipe, or it cannot be read.
    """
    path = source(name_or_path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        name_or_path: A shipped name or a YAML file.
        overrides: ``key=value`` strings, or key → value.

    Raises:
        RecipeError: No such recipe, no such key, or a value that cannot be.
    """
    try:
        values = yaml.safe_load(read(name_or_path))
    except yaml.YAMLError as error:
        raise _unreadable(name_or_path, error) from error
    if not isinstance(values, dict):
        raise RecipeError(
            f"The recipe {name_or_path} is no mapping of keys; `retriever recipes show contriever-cpu` shows one."
        )
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(_parse, overrides)
    for key, value in pairs:
        _assign(values, key, value)
    return _validate(values, str(name_or_path))


def refuse_settings(recipe: Recipe | str | Path, settings: Mapping[str, Any]) -> None:
    """See that nothing is to be changed in a recipe that is resolved already.

    Raises:
        RecipeError: Something is.
    """
    if isinstance(recipe, Recipe) and settings:
        raise RecipeError(
            f"A resolved recipe takes no settings, and {', '.join(settings)} would be lost: give them to load_recipe."
        )


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe, defaults included, as YAML that :func:`load_recipe` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _unreadable(recipe: str | Path, error: Exception) -> RecipeError:
    return RecipeError(f"The recipe {recipe} cannot be read: {' '.join(str(error).split())}")


def _parse(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"The override {override!r} is not of the form key=value, such as lr=0.001.")
    try:
        return key.strip(), _plain(yaml.safe_load(text), text)
    except yaml.YAMLError as error:
        raise RecipeError(f"The value of {key} is no YAML: {text!r}.") from error


def _plain(value: Any, text: str) -> Any:  # noqa: ANN401 — any YAML value
    """What people mean: 1e-3 is a number, ``query: `` is a prompt with a blank at its end and not a mapping."""
    if text.startswith(("'", '"', "{")) or not isinstance(value, (str, dict)):
        return value
    try:
        return float(text)
    except ValueError:
        return text


def _assign(values: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401 — any YAML value
    """Set a key, named by its path or by its last part, which must be unique among the sections the recipe has."""
    known = _paths(Recipe, values)
    matches = [path for path in known if path == key] or [path for path in known if path.endswith(f".{key}")]
    if not matches:  # an entry of a mapping, such as mixing.weights.NAME
        parent, _, entry = key.rpartition(".")
        matches = [f"{path[:-1]}{entry}" for path in known if f".{path}".endswith(f".{parent}.*")]
    if len(matches) > 1:
        matches = [path for path in matches if path.split(".")[0] in values] or matches
    if len(matches) > 1:
        raise RecipeError(f"The key {key} is in several places; choose {' or '.join(matches)}.")
    if not matches:
        raise RecipeError(f"There is no key {key}{_nearest(key, known)}; `retriever recipes show` lists the keys.")
    *sections, last = matches[0].split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"The section {section} of the recipe is no mapping of keys.")
        values = inner
    values[last] = copy.deepcopy(value)  # later overrides may change it


def _paths(model: type[BaseModel], values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted paths of all keys; of the encoder families, those of the family chosen."""
    found = []
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        found.append(path)
        if get_origin(field.annotation) is dict:
            found.append(f"{path}.*")
        inner = _section_model(field.annotation, values.get(name))
        if inner is not None:
            given = values.get(name)
            found += _paths(inner, given if isinstance(given, dict) else {}, f"{path}.")
    return found


def _section_model(annotation: Any, given: Any) -> type[BaseModel] | None:  # noqa: ANN401 — a type, any value
    """The section class a field holds, if it holds one."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    families = [kind for kind in getattr(annotation, "__args__", ()) if isinstance(kind, type)]
    sections = [kind for kind in families if issubclass(kind, BaseModel)]
    if len(sections) == 1:  # a section that may be absent
        return sections[0]
    for kind in sections:
        family = kind.model_fields.get("family")
        if family and isinstance(given, dict) and [given.get("family")] == list(get_args(family.annotation)):
            return kind
    return None


def _validate(values: dict[str, Any], name: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part not in ("static", "small", "pretrained")]
        key = ".".join(place)
        if first["type"] == "extra_forbidden":
            siblings = [path for path in _paths(Recipe, values) if path.split(".")[:-1] == place[:-1]]
            raise RecipeError(
                f"Recipe {name}: there is no key {key}{_nearest(key, siblings)}; choose from "
                f"{', '.join(path.split('.')[-1] for path in siblings)}."
            ) from error
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        given = (
            "" if isinstance(first["input"], dict) or first["type"] == "missing" else f" (given: {first['input']!r})"
        )
        where = f"{key}: " if key else ""  # settings of several sections have no one key
        raise RecipeError(f"Recipe {name}: {where}{message}{given}.") from error


def _nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)``, or nothing."""
    by_last = {path.split(".")[-1]: path for path in known}
    candidates = {**{path: path for path in known}, **by_last}
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return f" (did you mean {candidates[close[0]]}?)" if close else ""
