"""What comes from files and models is text on a terminal, whatever it holds."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from mllm4d_verl.terminal import PlainConsole, say, visible

HOSTILE = [
    ("\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "http://evil"),
    ("\x1b[2J\x1b[1;1H", "[2J"),
    ("\x9b2J", "2J"),
    ("fine\rBAD", "fine"),
    ("a\u202etxt.exe", "txt.exe"),
    ("\x07\x00\x08", ""),
]


@pytest.mark.parametrize(("text", "kept"), HOSTILE)
def test_shows_control_characters_and_keeps_the_rest(text, kept):
    shown = visible(text)
    assert kept in shown
    assert shown.isprintable()


@given(st.text())
def test_leaves_what_no_terminal_obeys(text):
    ordinary = "".join(c for c in text if c.isprintable() or c in "\n\t")
    assert visible(ordinary) == ordinary


@pytest.mark.parametrize(("text", "_"), HOSTILE)
def test_a_console_shows_markup_and_control_characters_in_lines_and_cells(text, _):
    stream = io.StringIO()
    console = PlainConsole(file=stream, width=200, force_terminal=True, color_system=None)
    table = Table("a", box=None)
    table.add_row(f"[red]{text}[/red] :smile:")
    console.print(table)
    console.print(f"[link=http://x]{text}", style="bold")
    output = stream.getvalue()
    assert "[red]" in output
    assert ":smile:" in output
    assert "[link=http://x]" in output
    assert not set(output) & set("\x07\x00\x08\r\x9b\u202e")
    assert "\x1b]" not in output
    assert "\x1b[2J" not in output


def test_a_line_that_is_said(capsys):
    say("a\x1b[31mred")
    assert capsys.readouterr().out == "a\\x1b[31mred\n"
