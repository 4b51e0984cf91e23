"""`mllm4d doctor`: what fits and what does not, as a table; exit code 1 where something does not."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from mllm4d_verl.doctor import Check

app = typer.Typer(add_completion=False)

_STYLE = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


class Attention(str, Enum):
    """Attention that training will use."""

    flash_attention_2 = "flash_attention_2"
    sdpa = "sdpa"


@app.command()
def doctor(
    model: Annotated[
        str | None, typer.Option(help="Checkpoint whose prompts are compared; default: tiny models made on the spot.")
    ] = None,
    ray: Annotated[
        bool, typer.Option(help="Also check in a Ray actor: on every node of RAY_ADDRESS, else in a Ray of its own.")
    ] = True,
    vllm: Annotated[bool, typer.Option(help="Also check vLLM: its adaptations, and the prompts it makes.")] = True,
    attention: Annotated[
        Attention, typer.Option(help="Attention of your runs. On GPUs, flash_attention_2 asks for flash-attn.")
    ] = Attention.flash_attention_2,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of the table.")] = False,
) -> None:
    """Check that plugin, versions, reward, dataset and prompts fit together."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from mllm4d_verl import doctor as library
    from mllm4d_verl.cli.output import emit_json

    with contextlib.redirect_stdout(sys.stderr):  # verl and vLLM print while they load
        checks = library.examine(model, ray=ray, vllm=vllm, attention=attention.value)
    healthy = library.healthy(checks)
    if json:
        emit_json({"healthy": healthy, "checks": [asdict(check) for check in checks]})
    else:
        from mllm4d_verl.terminal import PlainConsole

        PlainConsole().print(table_of(checks))
    raise typer.Exit(0 if healthy else 1)


def table_of(checks: list[Check]) -> Table:
    """One line for each distinct result, under a heading that names the processes that found it."""
    from rich.table import Table
    from rich.text import Text

    from mllm4d_verl.doctor import folded, places

    sections: dict[str, list[Check]] = {}
    for group, check in folded(checks):
        sections.setdefault(places(group), []).append(check)
    table = Table(title="mllm4d doctor", title_justify="left")
    for column in ("check", "status", "what was found"):
        table.add_column(column, overflow="fold")  # names of functions are longer than a narrow column
    for heading, found in sections.items():
        table.add_section()
        table.add_row(Text(heading, style="bold"), "", "")
        for check in found:
            detail = f"{check.detail}\n-> {check.remedy}" if check.remedy else check.detail
            table.add_row(f"  {check.name}", Text(check.status, style=_STYLE[check.status]), Text(detail))
    return table
