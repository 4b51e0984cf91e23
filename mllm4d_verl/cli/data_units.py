"""`mllm4d data units`: some distances and speeds asked in centimeters or feet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json
from mllm4d_verl.terminal import say


def units(
    qa: Annotated[Path, typer.Argument(help="Question rows, such as train.parquet.")],
    out: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    unit: Annotated[
        list[str] | None, typer.Option(help="centimeters or feet; repeat the option.", show_default="both")
    ] = None,
    share: Annotated[float, typer.Option(help="Share of the questions about meters that get another unit.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Decides which.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Ask for some distances and speeds in centimeters or feet instead of meters.

    Question, options and value change, letters and centres stay. Rows with a response are copied as they are.
    """
    from mllm4d_verl.data_tools.questions.units import UnitsConfig, write_with_units

    config = UnitsConfig(share=share, seed=seed, **({"units": tuple(unit)} if unit else {}))
    counts = write_with_units(qa, out, config)
    say(f"{sum(counts.values())} questions in {out}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    if json:
        emit_json({"out": str(out), "units": counts})
