"""Reads a task's configuration: task YAML, then the environment's YAML, then `--set key=value`."""

from __future__ import annotations

import dataclasses
import logging
import types
import typing
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

import dacite
import yaml

from booking_mlops.core.model.families import DEFAULT_KIND, family_type
from booking_mlops.core.model.families.family import ModelFamily
from booking_mlops.core.names import nearest
from booking_mlops.errors import ConfigError

log = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT")
Tree = dict[str, Any]

TASKS_SECTION = "tasks"
ENV_SECTION = "env"


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key written twice is an error rather than the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping as the parent does, and refuse a repeated key."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Tree:
    """Read a YAML file as a mapping; an empty file is an empty mapping.

    Raises: ConfigError when the file is missing, not YAML or not a mapping.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    # A date that does not exist is a ValueError.
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected keys and values at the top, found {type(tree).__name__}")
    return tree


def parse_setting(setting: str) -> tuple[list[str], Any]:
    """Split `model.max_depth=8` into its path and its YAML value.

    Raises: ConfigError when it is not `key=value`.
    """
    key, separator, text = setting.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set {setting}: expected key=value, such as --set model.max_depth=8")
    # Signs with which no value of YAML begins, but a pattern may.
    if text.startswith(("*", "%", "@", "`")):
        return parts, text
    try:
        value = yaml.safe_load(text)
        # Not a comment: `#` is a sign of a path like any other.
        plain = isinstance(value, str) and " #" in text and not text.lstrip().startswith(("'", '"'))
        return parts, text.strip() if plain else value
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--set {setting}: the value is not valid YAML") from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Lay `over` on `base`: mappings merge key by key, any other value replaces. Neither argument is changed."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _nested(parts: Sequence[str], value: Any) -> Tree:
    tree = value
    for part in reversed(parts):
        tree = {part: tree}
    return typing.cast(Tree, tree)


def renamed(tree: Mapping[str, Any], config_type: type, where: str) -> Tree:
    """Return `tree` with the keys of earlier releases under the names they have now.

    `config_type.RENAMED` maps an old key to its new path, such as `env.ranges`, or to '' when it has no effect any
    more. What is found is logged as a warning.

    Raises: ConfigError when a key is given under both names.
    """
    result = dict(tree)
    for old, new in getattr(config_type, "RENAMED", {}).items():
        if old not in result:
            continue
        value = result.pop(old)
        if not new:
            log.warning("%s: '%s' has no effect any more; remove it", where, old)
            continue
        moved = _nested(new.split("."), value)
        if new in result:
            raise ConfigError(f"{where}: '{old}' is the old name of '{new}', and both are given; keep '{new}'")
        log.warning("%s: '%s' is called '%s' now", where, old, new)
        result = merged(result, moved)
    return result


def _inner_dataclass(hint: Any, value: Mapping[str, Any]) -> type | None:
    """Return the dataclass that a mapping under a key becomes; of several kinds of model, the one it names."""
    for candidate in (hint, *typing.get_args(hint)):
        if candidate is ModelFamily:
            return family_type(str(value.get("kind", DEFAULT_KIND)))
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
            return candidate
    return None


def check_keys(
    tree: Mapping[str, Any], config_type: type, where: str, path: str = "", whole: Mapping[str, Any] | None = None
) -> None:
    """Refuse a key that `config_type` has no field for, at any depth.

    `whole` holds the values of all layers: it says which kind of model the keys of one layer are for.

    Raises: ConfigError that names the nearest known key.
    """
    whole = tree if whole is None else whole
    hints = field_types(config_type)
    for key, value in tree.items():
        full = f"{path}{key}"
        if key not in hints:
            raise ConfigError(f"{where}: unknown key '{full}'; {nearest(str(key), hints)}")
        if not isinstance(value, dict):
            continue
        inner_whole = whole.get(key)
        inner_whole = inner_whole if isinstance(inner_whole, dict) else value
        try:
            inner = _inner_dataclass(hints[key], inner_whole)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        if inner is not None:
            check_keys(value, inner, where, f"{full}.", inner_whole)


def field_types(config_type: type) -> dict[str, Any]:
    """Return the type of each field of a configuration class."""
    hints = typing.get_type_hints(config_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_type)}


def _whole(value: Any) -> Any:
    # YAML's true and false are ints to Python; a count of `true` is a mistake.
    if isinstance(value, bool):
        raise ConfigError(f"expected a whole number, found {str(value).lower()}")
    return value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _date(value: Any) -> Any:
    # A date with a time is a date to Python; text is a date that was recorded or quoted.
    if isinstance(value, (str, datetime)):
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            raise ConfigError(f"expected a date such as 2018-10-01, found '{value}'") from None
    return value


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_type_name, typing.get_args(hint)))
    names = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "NoneType": "empty",
             "date": "a date such as 2018-10-01"}  # fmt: skip
    name = getattr(hint, "__name__", str(hint))
    return names.get(name, str(hint).replace("typing.", "").replace("collections.abc.", ""))


def build(config_type: type[ConfigT], tree: Mapping[str, Any], where: str) -> ConfigT:
    """Return a typed config made of merged values.

    Raises: ConfigError for an unknown key, a missing one, a wrong type or a value out of bounds.
    """
    check_keys(tree, config_type, where)
    try:
        return _typed(config_type, _with_defaults(config_type, tree), "")
    except (ConfigError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _with_defaults(config_type: type, tree: Mapping[str, Any]) -> Tree:
    """Return `tree` with what it leaves out of a nested section: a section given in part keeps its other defaults."""
    result = dict(tree)
    for field in dataclasses.fields(config_type):
        value = result.get(field.name)
        if not isinstance(value, dict) or field.default_factory is dataclasses.MISSING:
            continue
        default: Any = field.default_factory()
        # The keys of a model depend on its kind; its class has a default for each.
        if dataclasses.is_dataclass(default) and not isinstance(default, (ModelFamily, type)):
            result[field.name] = merged(dataclasses.asdict(default), _with_defaults(type(default), value))
    return result


def _typed(config_type: type[ConfigT], tree: Mapping[str, Any], path: str) -> ConfigT:
    def family(value: Mapping[str, Any]) -> Any:
        return _typed(family_type(str(value.get("kind", DEFAULT_KIND))), value, "model.")

    hooks = {float: _number, int: _whole, date: _date, ModelFamily: family}
    try:
        rules = dacite.Config(strict=True, cast=[tuple], type_hooks=hooks)
        return typing.cast(ConfigT, dacite.from_dict(config_type, dict(tree), rules))
    except dacite.MissingValueError as error:
        raise ConfigError(f"'{path}{error.field_path}' is missing") from error
    except dacite.WrongTypeError as error:
        found = "nothing" if error.value is None else f"{type(error.value).__name__} ({error.value!r})"
        expected = _type_name(error.field_type)
        raise ConfigError(f"'{path}{error.field_path}' must be {expected}, found {found}") from error


def load_tree(
    config_type: type,
    task: str,
    task_file: Path,
    env_file: Path,
    settings: Sequence[str] = (),
    known_tasks: Iterable[str] = (),
) -> Tree:
    """Return a task's values from its files and settings, merged; every key is known.

    `task` is the task's key in YAML, such as `model_train`: the environment's file may override any of its values under
    `tasks: {model_train: …}`. Settings that begin with `env.` change the environment.

    Raises: ConfigError.
    """
    task_tree, env_tree = read_yaml(task_file), read_yaml(env_file)
    if ENV_SECTION in task_tree:
        raise ConfigError(f"{task_file}: 'env' does not belong here; a task's file says nothing about an environment")
    sections = _task_sections(env_tree.pop(TASKS_SECTION, None) or {}, env_file, {task, *known_tasks})
    section = sections.get(task, {})
    layers = [
        (str(task_file), "", renamed(task_tree, config_type, str(task_file))),
        (str(env_file), f"{TASKS_SECTION}.{task}.", renamed(section, config_type, str(env_file))),
        *((f"--set {setting}", "", _setting_tree(setting, config_type)) for setting in settings),
    ]
    tree: Tree = {ENV_SECTION: env_tree}
    for _, _, layer in layers:
        tree = merged(tree, layer)
    check_keys(env_tree, field_types(config_type)[ENV_SECTION], str(env_file))
    for where, path, layer in layers:
        check_keys(layer, config_type, where, path, whole=tree)
    return tree


def _task_sections(sections: Any, env_file: Path, known: Iterable[str]) -> Mapping[str, Tree]:
    if not isinstance(sections, dict):
        raise ConfigError(f"{env_file}: '{TASKS_SECTION}' must hold a mapping for each task")
    known = set(known)
    for name, section in sections.items():
        if name not in known:
            raise ConfigError(f"{env_file}: unknown task '{name}' under '{TASKS_SECTION}'; {nearest(str(name), known)}")
        if not isinstance(section, dict):
            raise ConfigError(f"{env_file}: '{TASKS_SECTION}.{name}' must be a mapping")
    return sections


def _setting_tree(setting: str, config_type: type) -> Tree:
    parts, value = parse_setting(setting)
    return renamed(_nested(parts, value), config_type, f"--set {setting}")


def load(
    config_type: type[ConfigT],
    task: str,
    task_file: Path,
    env_file: Path,
    settings: Sequence[str] = (),
    known_tasks: Iterable[str] = (),
) -> ConfigT:
    """Return a task's typed configuration: the values of `load_tree`, checked.

    Raises: ConfigError.
    """
    tree = load_tree(config_type, task, task_file, env_file, settings, known_tasks)
    return build(config_type, tree, _sources(settings, task_file, env_file))


def load_environment(env_type: type[ConfigT], env_file: Path, settings: Sequence[str] = ()) -> ConfigT:
    """Return an environment's typed configuration, for commands that need no task's.

    Every setting begins with `env.`.

    Raises: ConfigError.
    """
    tree = read_yaml(env_file)
    tree.pop(TASKS_SECTION, None)
    for setting in settings:
        parts, value = parse_setting(setting)
        if parts[0] != ENV_SECTION or len(parts) < 2:
            raise ConfigError(f"--set {setting}: this command needs the environment only; begin with env.")
        tree = merged(tree, _nested(parts[1:], value))
    return build(env_type, tree, _sources(settings, env_file))


def _sources(settings: Sequence[str], *files: Path) -> str:
    return " + ".join([*map(str, files), *(["--set"] if settings else [])])
