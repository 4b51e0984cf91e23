"""The seven 4D questions: our own bench (`mllm4d eval build-bench`), any file of question rows, the released layouts.

Read by `datasets.reader`: QARow parquet, RFT JSONL (`messages`, `videos`, `solution`), conversation JSON. The bench is
named `mllm4d`; a file that is given by its path is named by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import LETTERS, TASKS, QARow
from mllm4d_verl.datasets.options import PromptOptions
from mllm4d_verl.datasets.reader import FileKind, as_file_list, file_kind, ground_truth, read_rows

from .base import CHOICE, NUMBER, Item
from .records import Record
from .registry import Source

BENCH_FILE = "mllm4d_bench.parquet"
#: Our task -> task of the published bench, which counts the two kinds of relative direction as one.
GROUPS = {task: task.removesuffix("_lateral").removesuffix("_longitudinal") for task in TASKS}


def row_to_item(row: QARow) -> Item:
    """A question row as an item. Rows without options and with a value ask for a number."""
    is_number = not row.options and row.value is not None
    bare = not row.options and not (len(row.answer) == 1 and row.answer in LETTERS)
    return Item(
        id=row.id,
        video=row.video,
        clip=row.clip_id,
        question=row.question,
        options=tuple(row.options),
        answer=row.answer,
        kind=NUMBER if is_number and bare else CHOICE,
        task=row.meta.get("benchmark_task") or row.task,
        splits={**row.meta.get("splits", {}), **({"source": row.meta["source"]} if "source" in row.meta else {})},
        value=row.value if is_number and bare else None,
        unit=row.unit,
        num_frames=row.num_frames,
        start_frame=row.start_frame,
        end_frame=row.end_frame,
        truth=ground_truth(row),
        messages=tuple(row.meta["messages"]) if row.meta.get("messages") else None,
    )


def read(path: Path) -> list[Item]:
    """Items of a file of question rows or of the released layouts."""
    files = as_file_list(path)
    if file_kind(files[0]) is FileKind.VERL:
        raise InputError(
            "the file holds verl rows, which do not say task and clip",
            file=path,
            remedy="Give the question rows they were made from",
        )
    return [row_to_item(source.row) for source in read_rows(files, PromptOptions())]


def to_items(records: Sequence[Record]) -> list[Item]:
    """Refused: these records carry no right answers of their own outside their question file."""
    raise InputError(
        "the responses are no record of `mllm4d eval run`, and the questions are not given",
        file=records[0].file if records else None,
        field="--benchmark",
        remedy="Give the question file: `--benchmark questions.parquet`",
    )


MLLM4D = Source(
    name="mllm4d",
    version="1",
    files=(BENCH_FILE,),
    homepage="`mllm4d eval build-bench`",
    to_items=to_items,
    read=read,
    macro_groups={task: group for task, group in GROUPS.items() if task != group},
)
