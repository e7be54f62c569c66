"""Writes the reference from the code, as an extension of Sphinx.

A page asks for a part of it by a line `<!-- reference: settings -->`.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from enum import Enum
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from tci_kernel import TCIClient, api, errors, run
from tci_kernel.cli import app
from tci_kernel.magics.verbs import VERBS
from tci_kernel.settings import Settings
from tci_kernel.transport import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sphinx.application import Sphinx

_MARK = re.compile(r"^<!-- reference: (\w+) -->$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Have Sphinx call `fill` for each page that it reads."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True}


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    """Put each part of the reference in the place of its mark; raises KeyError for one unknown."""
    del app, page
    source[0] = _MARK.sub(lambda mark: PARTS[mark[1]](), source[0])


def settings() -> str:
    """Return a table of all settings."""
    rows = [
        (f"`TCI_{name.upper()}`", _value(field.default), str(field.description))
        for name, field in Settings.model_fields.items()
    ]
    return _table(("Variable", "Default", "Meaning"), rows)


def commands() -> str:
    """Return a section for each command, with its options."""
    group: Any = get_command(app)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def verbs() -> str:
    """Return a table of the verbs of `%tci`, as its own help has it."""
    return _table(("Line", "Meaning"), [(f"`{verb.usage}`", verb.help) for verb in VERBS.values()])


def tree() -> str:
    """Return the tree of errors, and what each of them says of itself."""
    drawn = inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1]
    sections = [f"```text\n{inspect.cleandoc(drawn)}\n```"]
    sections += [f"## {kind.__name__}\n\n{_text(kind)}" for kind in _kinds()]
    return "\n\n".join(sections)


def functions() -> str:
    """Return a section for each public function and method of the client."""
    shown: list[tuple[str, Callable[..., Any]]] = [
        ("tci_kernel.run", run),
        ("TCIClient.execute", TCIClient.execute),
        ("TCIClient.sessions", TCIClient.sessions),
        ("TCIClient.close", TCIClient.close),
    ]
    return "\n\n".join(
        f"## {name}\n\n```python\n{_signature(function)}\n```\n\n{_text(function)}"
        for name, function in shown
    )


def models() -> str:
    """Return a section for each model of what goes to a service and comes from it."""
    shown = (api.ExecuteResponse, api.Execution, api.Output, api.File, api.SessionInfo)
    return "\n\n".join(_model(model) for model in shown)


PARTS = {
    "settings": settings,
    "commands": commands,
    "verbs": verbs,
    "tree": tree,
    "functions": functions,
    "models": models,
}


def _command(name: str, command: Any) -> str:
    options = [option for option in command.params if not option.hidden]
    rows = [(_option(option), _value(option.default), option.help) for option in options]
    table = _table(("Option", "Default", "Meaning"), rows) if rows else ""
    return f"## tci-kernel {name}\n\n{command.help}\n\n{table}"


def _option(option: Any) -> str:
    names = " ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return f"{names} or `{option.envvar}`" if option.envvar else names


def _value(default: Any) -> str:
    """Return a default as a person writes it; nothing for what is unset."""
    if isinstance(default, Enum):
        default = default.value
    if default is None or default is False or default in ((), []):
        return ""
    if default is True:
        return "`true`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _kinds() -> Iterator[type]:
    """Yield the errors in the order of the tree."""
    for name in re.findall(r"^ *[│├└─ ]*(\w+)", errors.__doc__ or "", re.MULTILINE):
        kind = getattr(errors, name, None) or getattr(frames, name, None)
        if isinstance(kind, type):
            yield kind


def _model(model: type) -> str:
    """Return a model's section: what it is, its fields, and what it makes of them."""
    lines = [f"* `{name}: {kind}`" for name, kind in inspect.get_annotations(model).items()]
    lines += [
        f"* `{name}`: {_text(member)}"
        for name, member in vars(model).items()
        if isinstance(member, property)
    ]
    fields = "\n".join(lines)
    return f"## {model.__name__}\n\n{_text(model)}\n\n{fields}"


def _signature(function: Callable[..., Any]) -> str:
    """Return how a function is defined, as the code has it."""
    defined = re.match(r"(?s).*?\) -> [^\n]+(?=:\n)", textwrap.dedent(inspect.getsource(function)))
    return defined[0] if defined else ""


def _text(thing: Any) -> str:
    return inspect.getdoc(thing) or ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
