"""`mllm4d data blind`: what a model that sees no video scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllm4d_verl.cli.output import emit_json
from mllm4d_verl.terminal import say


def blind(
    qa: Annotated[Path, typer.Argument(metavar="QA", help="QA parquet, or a folder of train, val and test.")],
    rebalance: Annotated[
        Path | None, typer.Option(help="Write the rows without the most predictable ones here.", show_default=False)
    ] = None,
    max_drop: Annotated[float, typer.Option(help="Share of a task's rows that may go.", min=0, max=0.9)] = 0.4,
    seed: Annotated[int, typer.Option(help="Parts the clips.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Guess answers from text alone, on held-out clips; names tasks guessed more than 3 points over chance."""
    from dataclasses import asdict

    import numpy as np

    from mllm4d_verl.data_tools.blind import blind_accuracy, read_blind_rows
    from mllm4d_verl.data_tools.blind import rebalance as choose

    rows = read_blind_rows(qa, max_rows=None if rebalance else 20_000, seed=seed)
    before = blind_accuracy(rows, seed)
    results = {"before": before}
    if rebalance is not None:
        from mllm4d_verl.data_tools.mixes.copying import copy_rows

        keep = choose(rows, seed + 1, max_drop)
        results["after"] = blind_accuracy(rows.take(np.flatnonzero(keep)), seed)
        dropped = set(rows.ids[~keep])
        copy_rows(qa, rebalance, lambda batch: [name not in dropped for name in batch.column("id").to_pylist()])
        say(f"{int(keep.sum())} of {len(rows)} rows in {rebalance}")
    for stage, tasks in results.items():
        for task, found in tasks.items():
            say(
                f"{stage} {task}: {100 * found.accuracy:.1f} +- {100 * found.interval:.1f} %, chance "
                f"{100 * found.chance:.1f} %, {found.verdict} ({found.best}, {found.rows} rows)"
            )
    if json:
        emit_json(
            {s: {t: {**asdict(f), "verdict": f.verdict} for t, f in tasks.items()} for s, tasks in results.items()}
        )
