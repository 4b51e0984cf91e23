"""Questions as a task of lmms-eval, scored by our rules.

lmms-eval (github.com/EvolvingLMMs-Lab/lmms-eval, 0.7.3) finds tasks by walking folders for YAML files: its own, and
those given by `--include_path` (`tasks/__init__.py`, TaskManager). `!function a.b.c` in such a file names a function,
looked for beside the file and then as an installed module (`utils.py`, import_function); a relative `data_files` is
looked for beside the file too. So a task is a folder of two files that can be moved: the YAML, and the questions as
JSON lines.

lmms-eval's `cluster_key` and `score_key` name the entries of a metric's value that its clustered standard error reads.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.control_tokens import PLAIN
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.prompts import render_messages

from ..answers.score import score_answer
from ..benchmark_questions import find_videos
from ..benchmark_score import SCORER_VERSION
from ..benchmarks.base import Benchmark, Item, item_to_row
from ..summary import macro_mean

_VIDEO = "<video>"
# As long as the answers of `eval run`; "until" keeps lmms-eval from cutting a response at its first blank line.
_MAX_TOKENS = {"direct": 16}
_MAX_TOKENS_DEFAULT = 1024
# What scoring needs of an item; the rest is empty when it is read back.
_KEPT = ("id", "clip", "options", "answer", "kind", "task", "splits", "value", "unit")
ACCURACY, OVER_VALID, INVALID, MACRO = "accuracy", "accuracy_over_valid", "invalid", "macro_accuracy"


@dataclass(frozen=True)
class ExportedTask:
    """What an export wrote.

    Attributes:
        name: of the task, for `--tasks`.
        folder: for `--include_path`; holds NAME.yaml and NAME.jsonl.
        questions: how many.
        num_frames: frames that the questions count in, for the model's arguments; None where they count in none, or
            in different numbers.
    """

    name: str
    folder: Path
    questions: int
    num_frames: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self.__dict__, "folder": str(self.folder)}


def export_task(
    benchmark: Benchmark, folder: str | Path, media_root: str | Path, template: str = "direct"
) -> ExportedTask:
    """Write a task for lmms-eval into `folder`.

    Args:
        benchmark: see `load_benchmark`.
        folder: gets the two files; others in it stay.
        media_root: folder of the videos; questions name them by their whole path.
        template: of the prompt, as in `data.prompt_template`. lmms-eval puts the video first, whatever its place in the
            template; a system turn stands before the question.

    Raises:
        InputError: videos are missing, or a question is about a part of its video, which not all models of lmms-eval
            can be given.
    """
    found = list(find_videos(benchmark, Path(media_root).expanduser()))
    name, folder = _task_name(benchmark), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / f"{name}.jsonl") as temporary:
        lines = (json.dumps(_doc(item, video, benchmark, template), ensure_ascii=False) for item, video in found)
        Path(temporary).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with atomic_path(folder / f"{name}.yaml") as temporary:
        Path(temporary).write_text(_yaml(name, benchmark, template), encoding="utf-8")
    counts = {item.num_frames for item, _ in found}
    return ExportedTask(name, folder, len(found), counts.pop() if len(counts) == 1 else None)


def doc_to_visual(doc: Mapping[str, Any]) -> list[str]:
    """The video's path; lmms-eval calls this."""
    return [doc["video"]]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Metrics of one response; lmms-eval calls this.

    Returns:
        Metric -> entry with the clip, and with a `score` in [0, 1] where the metric is about this response.
    """
    item = _item(json.loads(doc["item"]))
    score = score_answer(item, results[0])
    valid = score.verdict.is_valid
    shared = {"clip": item.clip, "task": item.task, "group": doc["group"]}
    scored = shared | {"score": score.correct}
    read = {"choice": score.verdict.choice, "number": score.verdict.number, "reason": score.verdict.reason}
    return {
        ACCURACY: scored | read,
        OVER_VALID: scored if valid else shared,
        INVALID: shared | {"score": float(not valid)},
        MACRO: scored,
        **{name: scored if name in _groups_of(item) else shared for name in json.loads(doc["group_metrics"])},
    }


def mean_score(entries: Sequence[Mapping[str, Any]]) -> float:
    """Mean of the entries that have a score, NaN without any; lmms-eval calls this."""
    scores = [entry["score"] for entry in entries if "score" in entry]
    return sum(scores) / len(scores) if scores else float("nan")


def macro_score(entries: Sequence[Mapping[str, Any]]) -> float:
    """Mean over tasks, see `benchmark_score.macro_mean`; lmms-eval calls this."""
    by_task: dict[str, list[float]] = defaultdict(list)
    groups = {}
    for entry in entries:
        by_task[entry["task"]].append(entry["score"])
        groups[entry["task"]] = entry["group"]
    return macro_mean({task: sum(scores) / len(scores) for task, scores in by_task.items()}, groups)


def _doc(item: Item, video: Path, benchmark: Benchmark, template: str) -> dict[str, Any]:
    if item.start_s is not None or item.end_s is not None:
        raise InputError(
            "the question is about a part of its video",
            file=benchmark.name,
            row=item.id,
            field="start_s",
            remedy="lmms-eval's models take whole videos: use `mllm4d eval run`",
        )
    messages = render_messages(item_to_row(item), template, special_tokens=PLAIN)  # one item must not end a benchmark
    prompt = "\n\n".join(message["content"].replace(_VIDEO, "").strip() for message in messages)
    return {
        "id": item.id,
        "video": str(video),
        "prompt": prompt,
        "target": item.answer,
        "group": benchmark.macro_groups.get(item.task, item.task),
        # As text: the columns of JSON lines must have one type in all rows, which options and splits have not.
        "item": json.dumps({key: getattr(item, key) for key in _KEPT}, ensure_ascii=False, default=dict),
        "group_metrics": json.dumps(_group_metrics(benchmark)),
    }


def _item(kept: dict[str, Any]) -> Item:
    return Item(**{**kept, "options": tuple(kept["options"])}, video="", question="")


def _groups_of(item: Item) -> list[str]:
    """Names of the metrics for the item's task and splits."""
    return [
        _safe(f"task_{item.task}"),
        *(_safe(f"split_{name}_{value}") for name, value in item.splits.items()),
    ]


def _group_metrics(benchmark: Benchmark) -> list[str]:
    return sorted({name for item in benchmark.items for name in _groups_of(item)})


def _task_name(benchmark: Benchmark) -> str:
    return _safe(f"mllm4d_{Path(benchmark.name).stem.removeprefix('mllm4d_')}")


def _safe(text: str) -> str:
    """lmms-eval parts task names at commas, and metrics from filters by one."""
    return re.sub(r"\W+", "_", text)


def _yaml(name: str, benchmark: Benchmark, template: str) -> str:
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": _Function(doc_to_visual),
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "process_results": _Function(process_results),
        "cluster_key": "clip",
        "score_key": "score",
        "generation_kwargs": {
            "max_new_tokens": _MAX_TOKENS.get(template, _MAX_TOKENS_DEFAULT),
            "temperature": 0,
            "do_sample": False,
            "until": [],
        },
        "metric_list": [
            {
                "metric": metric,
                "aggregation": _Function(macro_score if metric == MACRO else mean_score),
                "higher_is_better": metric != INVALID,
            }
            for metric in (ACCURACY, OVER_VALID, INVALID, MACRO, *_group_metrics(benchmark))
        ],
        "metadata": {
            "version": benchmark.version,
            "scorer": SCORER_VERSION,
            "template": template,
            "questions_sha256": benchmark.sha256,
            "content_sha256": benchmark.content_sha256,
        },
    }
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Function(str):
    """Name of a function, written behind lmms-eval's tag."""

    def __new__(cls, function: Any) -> _Function:
        return super().__new__(cls, f"{function.__module__}.{function.__name__}")


class _Dumper(yaml.SafeDumper):
    """With the tag; aliases would be read by nobody."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))
