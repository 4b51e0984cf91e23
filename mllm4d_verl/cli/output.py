"""How every command speaks: tables for people, one JSON line for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mllm4d_verl.data_tools.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 120  # pipes and CI logs report 80 columns, which would wrap the names of the tasks


def emit_json(record: dict[str, Any]) -> None:
    """Print `record` as one line of JSON: with `--json`, the last line of standard output."""
    print(json.dumps(record, sort_keys=True, default=_plain, allow_nan=False), flush=True)


def open_console() -> Console:
    """Standard output for tables; wide enough for them where it is no terminal. Strings are text, not markup."""
    from mllm4d_verl.terminal import PlainConsole

    console = PlainConsole()
    return console if console.is_terminal else PlainConsole(width=_WIDTH_WITHOUT_TERMINAL)


@contextmanager
def progress_bar(
    console: Console, description: str, waiting: str | None = None
) -> Iterator[Callable[[int, int | None], None]]:
    """A bar with the time that is left on a terminal, silence elsewhere; called as progress(done, total).

    Args:
        description: in front of the bar.
        waiting: shown instead as long as the total is None.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    times = (TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(waiting or description, total=None)

        def update(done: int, total: int | None) -> None:
            text = description if total is not None or waiting is None else waiting
            bar.update(task, completed=done, total=total, description=text)

        yield update


_WORDS = {"True": True, "False": False, "None": None}


def key_values(pairs: list[str] | None, option: str) -> dict[str, Any]:
    """`["a=1", "b=x", "c=[x,y]"]` as {"a": 1, "b": "x", "c": ["x", "y"]}.

    Values are JSON where they parse as JSON, else text; lists and mappings may do without quotes, as for Hydra.
    """
    values: dict[str, Any] = {}
    for pair in pairs or []:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise InputError(f"expected KEY=VALUE, got {pair!r}", field=option)
        try:
            values[key] = json.loads(text)
        except json.JSONDecodeError:
            values[key] = _unquoted(text) if text[:1] in ("[", "{") else _WORDS.get(text, text)
    return values


def _unquoted(text: str) -> Any:
    """A YAML flow list or mapping; the text itself where it is none."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _plain(value: Any) -> Any:
    # numpy scalars and arrays, paths, dataclass leaves
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
