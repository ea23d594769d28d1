"""Reads a task's configuration: task YAML, then the environment's YAML, then `--set key=value`."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import dacite
import yaml

from booking_mlops.errors import ConfigError

ConfigT = TypeVar("ConfigT")
Tree = dict[str, Any]

TASKS_SECTION = "tasks"
ENV_SECTION = "env"


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key written twice is an error rather than the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As the parent, after looking for a repeated key."""
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
    """A YAML file as a mapping; an empty file is an empty mapping.

    Raises: ConfigError when the file is missing, not YAML or not a mapping.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected keys and values at the top, found {type(tree).__name__}")
    return tree


def parse_setting(setting: str) -> tuple[list[str], Any]:
    """`forest.max_depth=8` as a path and a YAML value.

    Raises: ConfigError when it is not `key=value`.
    """
    key, separator, text = setting.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set {setting}: expected key=value, such as --set forest.max_depth=8")
    try:
        return parts, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting}: the value is not valid YAML") from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`over` on top of `base`: mappings merge key by key, anything else replaces. Neither is changed."""
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


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"


def _dataclass_within(hint: Any) -> type | None:
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
            return candidate
    return None


def check_keys(tree: Mapping[str, Any], config_type: type, where: str, path: str = "") -> None:
    """Refuse a key that `config_type` has no field for, at any depth.

    Raises: ConfigError that names the nearest known key.
    """
    hints = typing.get_type_hints(config_type)
    for key, value in tree.items():
        full = f"{path}{key}"
        if key not in hints:
            raise ConfigError(f"{where}: unknown key '{full}'; {nearest(str(key), hints)}")
        inner = _dataclass_within(hints[key])
        if inner is not None and isinstance(value, dict):
            check_keys(value, inner, where, f"{full}.")


def _whole(value: Any) -> Any:
    # YAML's true and false are ints to Python; a count of `true` is a mistake.
    if isinstance(value, bool):
        raise ConfigError(f"expected a whole number, found {str(value).lower()}")
    return value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_type_name, typing.get_args(hint)))
    names = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "NoneType": "empty"}
    name = getattr(hint, "__name__", str(hint))
    return names.get(name, str(hint).replace("typing.", "").replace("collections.abc.", ""))


def build(config_type: type[ConfigT], tree: Mapping[str, Any], where: str) -> ConfigT:
    """A typed config from merged values.

    Raises: ConfigError for an unknown key, a missing one, a wrong type or a value out of bounds.
    """
    check_keys(tree, config_type, where)
    rules = dacite.Config(strict=True, cast=[tuple], type_hooks={float: _number, int: _whole})
    try:
        return typing.cast(ConfigT, dacite.from_dict(config_type, dict(tree), rules))
    except dacite.MissingValueError as error:
        raise ConfigError(f"{where}: '{error.field_path}' is missing") from error
    except dacite.WrongTypeError as error:
        found = "nothing" if error.value is None else f"{type(error.value).__name__} ({error.value!r})"
        expected = _type_name(error.field_type)
        raise ConfigError(f"{where}: '{error.field_path}' must be {expected}, found {found}") from error
    except (ConfigError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def load_tree(
    config_type: type,
    task: str,
    task_file: Path,
    env_file: Path,
    settings: Sequence[str] = (),
    known_tasks: Iterable[str] = (),
) -> Tree:
    """A task's values from its files and settings, merged; every key is known.

    `task` is the task's key in YAML, such as `model_train`: the environment's file may override
    any of its values under `tasks: {model_train: …}`. Settings that begin with `env.` change the
    environment.

    Raises: ConfigError.
    """
    task_tree, env_tree = read_yaml(task_file), read_yaml(env_file)
    if ENV_SECTION in task_tree:
        raise ConfigError(f"{task_file}: 'env' does not belong here; a task's file says nothing about an environment")
    overrides = env_tree.pop(TASKS_SECTION, None) or {}
    if not isinstance(overrides, dict):
        raise ConfigError(f"{env_file}: '{TASKS_SECTION}' must hold a mapping for each task")
    known = {task, *known_tasks}
    for name, section in overrides.items():
        if name not in known:
            raise ConfigError(f"{env_file}: unknown task '{name}' under '{TASKS_SECTION}'; {nearest(str(name), known)}")
        if not isinstance(section, dict):
            raise ConfigError(f"{env_file}: '{TASKS_SECTION}.{name}' must be a mapping")
    env_type = typing.get_type_hints(config_type)[ENV_SECTION]
    check_keys(task_tree, config_type, str(task_file))
    check_keys(env_tree, env_type, str(env_file))
    section = overrides.get(task, {})
    check_keys(section, config_type, str(env_file), f"{TASKS_SECTION}.{task}.")
    tree = merged(merged(task_tree, section), {ENV_SECTION: env_tree})
    for setting in settings:
        parts, value = parse_setting(setting)
        check_keys(_nested(parts, value), config_type, f"--set {setting}")
        tree = merged(tree, _nested(parts, value))
    return tree


def load(
    config_type: type[ConfigT],
    task: str,
    task_file: Path,
    env_file: Path,
    settings: Sequence[str] = (),
    known_tasks: Iterable[str] = (),
) -> ConfigT:
    """A task's typed configuration: the values of `load_tree`, checked.

    Raises: ConfigError.
    """
    tree = load_tree(config_type, task, task_file, env_file, settings, known_tasks)
    where = f"{task_file} + {env_file}" + (" + --set" if settings else "")
    return build(config_type, tree, where)
