"""Text from files and models, shown on a terminal: it can neither colour, move the cursor, nor hide what it says."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

# C0 and C1 control characters but tab and line feed, and the marks that turn the direction of writing. A terminal
# obeys the former ("ESC ]8;;" makes a link, "ESC [2J" clears the screen); the latter show a text in another order.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text with each character that a terminal obeys written as its escape, `\\x1b` or `\\u202e`."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class PlainConsole(Console):
    """A rich console that takes strings for text: no markup, no emoji codes, control characters visible.

    Styles come from `style=` and from `rich.text.Text`.
    """

    def __init__(self, *, markup: bool = False, emoji: bool = False, **options: Any) -> None:
        super().__init__(markup=markup, emoji=emoji, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text to standard output, or to standard error, with a line feed unless `nl` is False."""
    import typer

    typer.echo(visible(text), err=err, nl=nl)
