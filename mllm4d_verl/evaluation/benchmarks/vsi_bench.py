"""VSI-Bench (arXiv 2412.14171, huggingface.co/datasets/nyu-visionx/VSI-Bench): indoor space from egocentric scans.

A record of test.jsonl, or of the parquet files made from it: id (integer), dataset ("arkitscenes", "scannet",
"scannetpp"), scene_name, question_type, question, options (list "A. chair", null for numbers), ground_truth (a letter,
or a number as text), pruned (in later revisions: taken out of the debiased set of arXiv 2511.04655).

Six question types are multiple choice, four ask for a number and are scored by mean relative accuracy. The published
average counts the three difficulties of relative direction as one task; `macro_groups` does so.
"""

from __future__ import annotations

from collections.abc import Sequence

from mllm4d_verl.data_tools.schema import LETTERS
from mllm4d_verl.reward.truth import strip_letter

from .base import CHOICE, NUMBER, Item
from .records import Record, read_items
from .registry import Source

CHOICE_TYPES = frozenset(
    {
        "object_rel_direction_easy",
        "object_rel_direction_medium",
        "object_rel_direction_hard",
        "object_rel_distance",
        "route_planning",
        "obj_appearance_order",
    }
)
#: Question type -> unit that the question asks for.
NUMBER_UNITS: dict[str, str | None] = {
    "object_abs_distance": "m",
    "object_counting": None,
    "object_size_estimation": "cm",
    "room_size_estimation": "m2",
}

_RECORD_KEYS = frozenset({"scene_name", "question_type", "question", "ground_truth"})


def to_items(records: Sequence[Record]) -> list[Item]:
    """Items of VSI-Bench records."""
    return read_items(records, _item, task_key="question_type")


def _item(record: Record) -> Item:
    task, dataset, scene = record.text("question_type"), record.text("dataset"), record.text("scene_name")
    splits = {"dataset": dataset}
    if isinstance(record.fields.get("pruned"), bool):
        splits["set"] = "pruned" if record.fields["pruned"] else "debiased"
    common = {
        "id": record.text("id"),
        "video": f"{dataset}/{scene}.mp4",
        "clip": f"{dataset}/{scene}",
        "question": record.text("question"),
        "task": task,
        "splits": splits,
    }
    if task in NUMBER_UNITS:
        answer, value = record.text("ground_truth"), record.number("ground_truth")
        return Item(**common, options=(), answer=answer, kind=NUMBER, value=value, unit=NUMBER_UNITS[task])
    if task not in CHOICE_TYPES:
        raise record.error(
            f"unknown question type {task!r}",
            "question_type",
            f"Known: {', '.join(sorted([*CHOICE_TYPES, *NUMBER_UNITS]))}",
        )
    options = record.get("options")
    if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
        raise record.error("a list of options is expected", "options")
    answer = record.text("ground_truth").upper()
    if len(answer) != 1 or answer not in LETTERS[: len(options)]:
        raise record.error(f"{answer!r} is not the letter of an option", "ground_truth")
    texts = tuple(strip_letter(str(option)) for option in options)
    return Item(**common, options=texts, answer=answer, kind=CHOICE)


VSI_BENCH = Source(
    name="vsi_bench",
    version="1",
    files=("test.jsonl",),
    homepage="https://huggingface.co/datasets/nyu-visionx/VSI-Bench",
    to_items=to_items,
    record_keys=_RECORD_KEYS,
    macro_groups={
        f"object_rel_direction_{difficulty}": "object_rel_direction" for difficulty in ("easy", "medium", "hard")
    },
)
