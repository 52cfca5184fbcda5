"""The reference of the command line, written from the commands themselves, and of the codes that they end with."""

from __future__ import annotations

import enum
import inspect
import re
from typing import Any

from typer.main import get_command

from oba import errors
from oba.cli import app
from oba.commands import PANEL
from oba.locks import LockedError
from oba.ranks import LostRankError


def commands() -> str:
    """Return the reference of all commands that people call, then of those of jobs, as Markdown."""
    root: Any = get_command(app)
    shown = [command for command in root.commands.values() if not command.hidden]
    lines = ["## For people", ""]
    for command in sorted((c for c in shown if c.rich_help_panel != PANEL), key=lambda c: c.name):
        if hasattr(command, "commands"):
            for inner in command.commands.values():
                lines += _command(f"{command.name} {inner.name}", inner)
        else:
            lines += _command(command.name, command)
    jobs = [c for c in shown if c.rich_help_panel == PANEL]
    lines += ["## For jobs", "", "Snakemake calls these; each is one stage, or the start or end of a run. All but the"]
    lines += ["last four take `--study`, `--model`, `--seed`, `--method`, `--schedule`, `--keep` and `--variant`.", ""]
    for command in jobs:
        lines += [f"`oba {command.name}`", f": {_text(command.help)}", ""]
    return "\n".join(lines)


def exit_codes() -> str:
    """Return a table of the codes that commands end with, as Markdown."""
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.Told)]
    kinds = {kind.exit_code: kind for kind in [*classes, LockedError, LostRankError]}
    lines = ["| code | name | meaning |", "|---:|---|---|", "| 0 | | done |", "| 1 | | a bug, with its traceback |"]
    lines += ["| 2 | | the command line itself is wrong |"]
    for code, kind in sorted(kinds.items()):
        if code > 1:
            lines.append(f"| {code} | `{kind.__name__}` | {_text((kind.__doc__ or '').split(';')[0]).rstrip('.')} |")
    return "\n".join(lines)


def _command(name: str, command: Any) -> list[str]:
    shown = [p for p in command.params if not getattr(p, "hidden", False)]
    arguments = [p for p in shown if not p.opts[0].startswith("-")]
    places = [p.metavar or p.name.upper() for p in arguments]
    usage = " ".join(["oba", name, *(f if p.required else f"[{f}]" for f, p in zip(places, arguments, strict=True))])
    more = command.context_settings.get("allow_extra_args", False)
    paragraphs = "\n\n".join(_text(paragraph) for paragraph in (command.help or "").split("\n\n"))
    lines = [f"### `oba {name}`", "", paragraphs, "", "```sh"]
    lines += [f"{usage}{' [OPTIONS]' if len(shown) > len(arguments) else ''}{' [SNAKEMAKE OPTIONS]' if more else ''}"]
    lines += ["```", ""]
    for parameter in shown:
        flags = [*parameter.opts, *parameter.secondary_opts]
        title = parameter.metavar or parameter.name.upper() if parameter in arguments else ", ".join(flags)
        lines += [f"`{title}`", f": {_text(parameter.help)}{_default(parameter)}", ""]
    return lines


def _default(parameter: Any) -> str:
    value = parameter.default.value if isinstance(parameter.default, enum.Enum) else parameter.default
    if parameter.required:
        return " **Required.**"
    return f" Default: `{value}`." if value not in (None, False, "") and not callable(value) else ""


def _text(text: str | None) -> str:
    """Return a help text as Markdown on one line: what stands in angle brackets is no tag."""
    return re.sub(r"(`[^`]*`)|<", lambda found: found[1] or "\\<", " ".join((text or "").replace("``", "`").split()))
