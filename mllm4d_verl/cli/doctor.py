"""`mllm4d doctor`: what fits and what does not, as a table; exit code 1 where something does not."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)

_STYLE = {"ok": "green", "failed": "bold red", "skipped": "yellow"}


@app.command()
def doctor(
    model: Annotated[
        str | None, typer.Option(help="Checkpoint whose prompts are compared; default: tiny models made on the spot.")
    ] = None,
    ray: Annotated[bool, typer.Option(help="Also check inside a Ray actor.")] = True,
    vllm: Annotated[bool, typer.Option(help="Also compare prompts with vLLM.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of the table.")] = False,
) -> None:
    """Check that plugin, versions, reward, dataset and prompts fit together."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from mllm4d_verl import doctor as library
    from mllm4d_verl.cli.output import emit_json

    with contextlib.redirect_stdout(sys.stderr):  # verl and vLLM print while they load
        checks = library.examine(model, ray=ray, vllm=vllm)
    healthy = library.healthy(checks)
    if json:
        emit_json({"healthy": healthy, "checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    raise typer.Exit(0 if healthy else 1)


def _print(checks) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("where", "check", "status", "what was found", title="mllm4d doctor", title_justify="left")
    for check in checks:
        found = f"{check.detail}\n-> {check.remedy}" if check.remedy else check.detail
        table.add_row(check.where, check.name, Text(check.status, style=_STYLE[check.status]), Text(found))
    Console().print(table)
