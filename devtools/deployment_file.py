"""Read deployment.yml as dbx does: render it with Jinja, then parse the result as YAML."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import yaml

from booking_mlops.errors import ConfigError

Tree = dict[str, Any]

# That of libyaml, where PyYAML came with it: it takes a fraction of the time.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What a template can raise while it is rendered, such as a row with a value too many.
_RENDERING_ERRORS = (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError)


def read_deployment(path: Path) -> Tree:
    """Return the deployment file as the tree that dbx makes of it.

    dbx lets an undefined name become an empty text and the last of two equal keys win; here both are errors.

    Raises: ConfigError, in one line with the file, the line and the reason.
    """
    text = render(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        for mark, key in _repeated_keys(node):
            raise ConfigError(f"{_place(path, text, mark)}: the key '{key}' is there twice")
        tree = loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        place = _place(path, text, error.problem_mark) if error.problem_mark else str(path)
        raise ConfigError(f"{place}: not valid YAML: {error.problem}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected keys and values at the top, found {type(tree).__name__}")
    return tree


def render(path: Path) -> str:
    """Return the text that Jinja makes of the file, with the loader and the variables that dbx gives it.

    Raises: ConfigError for a missing file, a syntax error, an undefined name or a failing expression.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.absolute().parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 (the result is YAML)
    )
    try:
        return environment.get_template(path.name).render(env=os.environ, var={})
    except jinja2.TemplateNotFound as error:
        raise ConfigError(f"{path.parent / str(error.name)}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{error.filename or path}, line {error.lineno}: {error.message}") from error
    except _RENDERING_ERRORS as error:
        # Jinja puts the template's own lines into the traceback; the last one is where it happened.
        folder = path.absolute().parent
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == folder]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise ConfigError(f"{path}{line}: {error}") from error


def _place(path: Path, text: str, mark: yaml.Mark) -> str:
    # A loop makes many lines of one, so the line itself tells more than its number.
    line = text.splitlines()[mark.line].strip() if mark.line < len(text.splitlines()) else "the end"
    return f"{path}, line {mark.line + 1} as rendered ({line})"


def _repeated_keys(node: yaml.Node | None) -> Iterator[tuple[yaml.Mark, str]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark, key.value
            seen.add(key.value)
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated_keys(value)
