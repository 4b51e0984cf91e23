"""The task for lmms-eval, without lmms-eval: tests/e2e/test_lmms_eval.py runs it there."""

import importlib
import json
import math
from dataclasses import replace

import pytest
import yaml

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.benchmarks import Benchmark, Item
from mllm4d_verl.evaluation.ecosystem.lmms import doc_to_visual, export_task, macro_score, mean_score, process_results

ITEMS = (
    Item("q0", "a.mp4", "a", "Where to?", ("left", "right"), "A", "choice", "moves", {"view": "exo"}),
    Item("q1", "b.mp4", "b", "How far?", (), "2.0", "number", "how, far", {"view": "ego"}, 2.0, "meters"),
)


class Loader(yaml.SafeLoader):
    """Imports the functions that lmms-eval would."""


def function(loader, node):
    module, _, name = node.value.rpartition(".")
    return getattr(importlib.import_module(module), name)


Loader.add_constructor("!function", function)


@pytest.fixture
def exported(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.mp4").touch()
    task = export_task(Benchmark("some/mllm4d_test.parquet", "1", ITEMS, "abc"), tmp_path / "out", tmp_path)
    config = yaml.load((task.folder / f"{task.name}.yaml").read_text(), Loader)
    docs = [json.loads(line) for line in (task.folder / f"{task.name}.jsonl").read_text().splitlines()]
    return task, config, docs


def test_task_names_its_functions_metrics_and_questions(exported):
    task, config, docs = exported
    assert (task.name, task.questions, task.num_frames) == ("mllm4d_test", 2, None)
    assert config["task"] == task.name
    assert config["dataset_kwargs"] == {"data_files": {"test": "mllm4d_test.jsonl"}}
    assert config["doc_to_visual"] is doc_to_visual
    assert config["process_results"] is process_results
    assert config["generation_kwargs"]["until"] == []
    metrics = {metric["metric"]: metric for metric in config["metric_list"]}
    assert set(metrics) == {
        *("accuracy", "accuracy_over_valid", "invalid", "macro_accuracy"),
        *("task_moves", "task_how_far", "split_view_exo", "split_view_ego"),
    }
    assert [metrics[name]["higher_is_better"] for name in ("accuracy", "invalid")] == [True, False]
    assert metrics["macro_accuracy"]["aggregation"] is macro_score
    assert config["metadata"]["questions_sha256"] == "abc"
    assert len({tuple(doc) for doc in docs}) == 1
    assert {type(value) for doc in docs for value in doc.values()} == {str}


def test_prompt_has_no_placeholder(exported):
    _, _, docs = exported
    assert docs[0]["prompt"] == "Where to?\nA. left\nB. right\nAnswer with the option's letter directly."
    assert docs[1]["prompt"].startswith("How far?")
    assert doc_to_visual(docs[0])[0].endswith("a.mp4")


def test_results_follow_the_rules(exported):
    _, _, docs = exported
    right, several = (process_results(docs[0], [text]) for text in ("A. left", "left or right"))
    assert right["accuracy"] == {
        "clip": "a",
        "task": "moves",
        "group": "moves",
        "score": 1.0,
        "choice": "A",
        "number": None,
        "reason": "",
    }
    assert right["invalid"]["score"] == 0
    assert right["task_moves"]["score"] == right["split_view_exo"]["score"] == 1
    assert "score" not in right["task_how_far"]
    assert several["accuracy"]["score"] == 0
    assert several["invalid"]["score"] == 1
    assert "score" not in several["accuracy_over_valid"]
    near = process_results(docs[1], ["about 2.21 m"])
    assert near["accuracy"]["score"] == pytest.approx(0.8)


def test_means_leave_out_what_has_no_score():
    assert mean_score([{"score": 1.0}, {}, {"score": 0.0}]) == 0.5
    assert math.isnan(mean_score([{}]))


def test_macro_averages_groups_of_tasks_first():
    entries = [("a", "x", 1.0), ("a", "x", 0.0), ("b", "x", 1.0), ("c", "c", 0.0)]
    assert macro_score([dict(zip(("task", "group", "score"), entry, strict=True)) for entry in entries]) == 0.375


def test_part_of_a_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    part = Benchmark("bench", "1", (replace(ITEMS[0], start_s=1.0, end_s=2.0),), "")
    with pytest.raises(InputError, match="part of its video"):
        export_task(part, tmp_path / "out", tmp_path)
