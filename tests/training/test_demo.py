"""The demo's parts that need no training: settings, stamps of stages, table, curve."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("verl")

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation import ResponseRecord, score_records
from mllm4d_verl.evaluation.named_runs import NamedRun
from mllm4d_verl.evaluation.successive import successive_runs
from mllm4d_verl.training.demo import (
    annotation_config,
    demo_settings,
    question_config,
    text_only_intervals,
)
from mllm4d_verl.training.demo_check import check_rows, demo_check
from mllm4d_verl.training.demo_curve import held_out_curve, plot_curve, task_curves
from mllm4d_verl.training.demo_table import demo_comparison, demo_table
from mllm4d_verl.training.recipe import STAGES, find_recipe
from mllm4d_verl.training.stages import StageLog, covered_seconds


class TestSettings:
    def test_a_scale_changes_only_what_it_names(self):
        full, quick = (demo_settings(find_recipe("tiny_cpu"), scale) for scale in ("full", "quick"))
        assert quick["world"]["clips"] < full["world"]["clips"]
        assert quick["world"]["num_frames"] == full["world"]["num_frames"]
        assert quick["model"] == full["model"]

    @pytest.mark.parametrize("scale", ["full", "quick"])
    def test_settings_are_accepted_by_what_they_configure(self, scale):
        from mllm4d_verl.data_tools.synthetic import world_preset

        recipe = find_recipe("tiny_cpu")
        settings = demo_settings(recipe, scale)
        assert question_config(settings["questions"], seed=0).num_frames <= settings["world"]["num_frames"]
        assert world_preset(settings["world"]["preset"])
        assert annotation_config(settings["annotate"]).frames.min_frames <= settings["world"]["num_frames"]
        assert settings["check"]["clips"] <= settings["world"]["clips"]
        for stage in STAGES:
            recipe.compose(stage, settings["training"][stage])

    def test_prompt_and_response_fit_the_engine(self):
        recipe = find_recipe("tiny_cpu")
        assert recipe.compose("grpo").actor_rollout_ref.rollout.max_model_len >= (
            recipe.compose("grpo").data.max_prompt_length + recipe.compose("grpo").data.max_response_length
        )

    def test_unknown_scale(self):
        with pytest.raises(InputError, match="Known: full, quick"):
            demo_settings(find_recipe("tiny_cpu"), "huge")

    def test_recipe_without_a_demo(self):
        with pytest.raises(InputError, match="has no demo"):
            demo_settings(find_recipe("qwen3_vl_8b"), "full")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """World, estimated clips and questions of five clips, made with the demo's settings by two processes."""
    return make_data(tmp_path_factory.mktemp("demo") / "twice", workers=2)


def make_data(folder: Path, workers: int) -> Path:
    from mllm4d_verl.data_tools.annotation.run import annotate, find_source
    from mllm4d_verl.data_tools.questions import write_questions
    from mllm4d_verl.data_tools.synthetic import write_world

    settings = demo_settings(find_recipe("tiny_cpu"), "quick")
    world = {**settings["world"], "clips": 5}
    write_world(folder / "world", config=world.pop("preset"), dense=False, **world)
    source = find_source(folder / "world")
    annotate(source, folder / "clips", annotation_config(settings["annotate"]), workers=workers)
    write_questions(folder / "clips", folder / "qa", question_config(settings["questions"], seed=0))
    return folder


class TestData:
    def test_the_same_bytes_whatever_the_workers(self, data, tmp_path):
        again = make_data(tmp_path / "once", workers=1)
        digests = [
            {
                str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in folder.rglob("*")
                if path.is_file()
            }
            for folder in (data, again)
        ]
        assert digests[0] == digests[1]
        assert {"qa/train.parquet", "qa/test.parquet", "clips/clip4d/clip_00000.npz"} <= digests[0].keys()

    def test_estimates_are_kept_and_answer_as_the_truth_does(self, data):
        from mllm4d_verl.data_tools.schema import read_clip_index, read_qa

        assert len(read_clip_index(data / "clips")) >= 4
        rows = [row for split in ("train", "val", "test") for row in read_qa(data / "qa" / f"{split}.parquet")]
        answers = check_rows(rows, data / "clips", data / "world")
        assert answers["all"]["questions"] == len(rows)
        # Five clips; either the camera moves, or the object.
        assert {"camera_relative_direction", "object_camera_relative_distance"} <= answers["all"]["tasks"].keys()
        assert answers["directions"]["agreement"] >= 0.9

    def test_truth_agrees_with_itself(self, data):
        from mllm4d_verl.data_tools.questions import build_questions
        from mllm4d_verl.data_tools.schema import iter_clips

        questions = demo_settings(find_recipe("tiny_cpu"), "quick")["questions"]
        rows = build_questions(iter_clips(data / "world"), question_config(questions, seed=0))
        assert check_rows(rows, data / "world", data / "world")["all"]["agreement"] == 1

    def test_check_in_words(self):
        figures = {
            "clips": 60,
            "depth_error": 0.0186,
            "camera_error_m": 0.0172,
            "object_recall": 1.0,
            "questions": 700,
            "agreement": 0.961,
            "direction_agreement": None,
        }
        text = demo_check(figures)
        assert "60 clips: depth off by 1.9%, the camera by 1.7 cm" in text
        assert "96% of the answers are the truth's, - of those in words" in text


class TestStageLog:
    def test_work_is_done_once(self, tmp_path):
        calls = []
        for _ in range(2):
            record = StageLog(tmp_path).run("a", {"n": 1}, (), tmp_path, lambda: calls.append(1))
        assert (len(calls), record["reused"]) == (1, True)

    def test_changed_settings_or_earlier_stage_repeat_it(self, tmp_path):
        calls = []

        def both(first: int, second: int) -> None:
            log = StageLog(tmp_path)
            log.run("a", first, (), tmp_path, lambda: calls.append("a"))
            log.run("b", second, ("a",), tmp_path, lambda: calls.append("b"))

        both(1, 1)
        both(1, 2)
        assert calls == ["a", "b", "b"]
        both(2, 2)
        assert calls == ["a", "b", "b", "a", "b"]

    def test_a_deleted_product_is_made_again(self, tmp_path):
        product = tmp_path / "product"
        for _ in range(2):
            record = StageLog(tmp_path / "stamps").run("a", 1, (), product, lambda: product.touch())
            product.unlink()
        assert not record["reused"]

    def test_a_failed_stage_leaves_no_stamp(self, tmp_path):
        def fail() -> None:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            StageLog(tmp_path).run("a", 1, (), tmp_path, fail)
        assert not StageLog(tmp_path).run("a", 1, (), tmp_path, lambda: {"x": 1})["reused"]

    def test_figures_survive(self, tmp_path):
        StageLog(tmp_path).run("a", 1, (), tmp_path, lambda: {"x": 1})
        record = StageLog(tmp_path).run("a", 1, (), tmp_path, lambda: None)
        assert record["figures"] == {"x": 1}
        assert record["peak_memory_bytes"] > 0


class TestCoveredSeconds:
    def test_stages_beside_each_other_count_once_and_pauses_do_not_count(self):
        stages = [(0.0, 10.0), (2.0, 5.0), (8.0, 4.0), (100.0, 3.0)]
        records = [{"started": started, "seconds": seconds} for started, seconds in stages]
        assert covered_seconds(reversed(records)) == pytest.approx(12.0 + 3.0)
        assert covered_seconds([]) == 0


def run_of(name: str, rights: list[bool], control: str | None = None) -> NamedRun:
    """A run over questions of one clip each, with the right letter or a wrong one."""
    truth = {"answer": "A", "options": ["left", "right"]}
    records = [
        ResponseRecord(
            id=f"q{number}",
            task="camera_relative_direction",
            clip_id=f"clip{number}",
            truth=truth,
            response=f"<answer>{'A' if right else 'B'}</answer>",
        )
        for number, right in enumerate(rights)
    ]
    return NamedRun(name, score_records(records), {"control": control, "template": "st_cot_short"})


class TestTable:
    @pytest.fixture(scope="class")
    def results(self):
        base, grpo = [number < 10 for number in range(40)], [number < 30 for number in range(40)]
        return successive_runs(
            [run_of("base", base), run_of("GRPO", grpo)],
            [run_of("GRPO blind", base, "blind")],
            text_only_intervals(
                {"camera_relative_direction": {"accuracy": 0.475, "interval": 0.05, "rows": 200, "clips": 40}}
            ),
        )

    def test_shows_models_steps_and_tasks_in_80_columns(self, results):
        console = Console(record=True, width=80, file=io.StringIO())
        console.print(demo_table(results))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= 80
        assert "Held-out clips, 40 questions" in text
        assert "without video, 47.5 (42-52)" in " ".join(text.split())
        assert "st_cot_short: prompt of base, GRPO" in " ".join(text.split())
        assert re.search(r"GRPO +75\.0 \(\d+-\d+\)(?: \?)? +50\.0 +47\.5", text)
        assert re.search(r"base → GRPO +\+50\.0 \(\+\d+, \+\d+\) +0 / 20 +<0\.001", text)
        assert re.search(r"GRPO → blind +-50\.0 \(-\d+, -\d+\) +20 / 0 +<0\.001", text)
        assert re.search(r"camera relative direction +40 +50\.0 +47\.5 +25\.0 +75\.0 +25\.0", text)

    def test_all_of_it_is_in_the_summary(self, results):
        content = json.loads(json.dumps(results.to_dict(), allow_nan=False))
        assert [name for name, run in content["runs"].items() if run["control"]] == ["GRPO blind"]
        assert content["runs"]["GRPO"]["template"] == "st_cot_short"
        assert content["runs"]["GRPO"]["overall"]["accuracy"]["estimate"] == 0.75
        assert [(step["before"], step["after"]) for step in content["steps"]] == [
            ("base", "GRPO"),
            ("GRPO", "GRPO blind"),
        ]
        assert content["steps"][0]["overall"]["mcnemar_p"] == pytest.approx(2**-19)
        own = content["text_only"]["tasks"]["camera_relative_direction"]
        assert (own["estimate"], own["low"], own["high"]) == pytest.approx((0.475, 0.425, 0.525))
        overall = content["text_only"]["overall"]
        assert [overall[key] for key in ("estimate", "low", "high")] == pytest.approx([0.475, 0.425, 0.525])

    def test_a_task_without_a_text_only_guess_has_no_overall_one(self, results):
        assert replace(results, text_only={}).text_only_accuracy is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0105, 0.0482, "ST-reward +0.029 (+0.011 to +0.048), accuracy -3.0 points"), (None, None, "ST-reward +0.029, ")],
)
def test_comparison_says_what_grpo_brought(low, high, expected):
    reward = {"estimate": 0.0294, "low": low, "high": high}
    accuracy = {"estimate": -0.03, "low": None, "high": None}
    text = demo_comparison({"comparison": {"overall": {"questions": 585, "reward": reward, "accuracy": accuracy}}})
    assert "585 held-out questions" in text
    assert expected in text


def write_dump(folder: Path, step: int, samples: list[tuple[str, str, float]]) -> None:
    """What verl writes of a step: question, task and score of each answer."""
    folder.mkdir(exist_ok=True)
    lines = [
        {"input": question, "output": "", "gts": {"task": task}, "score": score, "acc": float(score > 0), "step": step}
        for question, task, score in samples
    ]
    (folder / f"{step}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


class TestCurve:
    def test_held_out_intervals_resample_questions(self, tmp_path):
        for step, right in ((10, 0.9), (0, 0.0), (2, 0.5)):
            # 40 questions, two answers each that are always alike: 40 independent values, not 80.
            samples = [(f"q{number}", "any", float(number < 40 * right)) for number in range(40) for _ in range(2)]
            write_dump(tmp_path / "held_out", step, samples)
        points = held_out_curve(tmp_path / "held_out")
        assert [point.step for point in points] == [0, 2, 10]
        assert [point.accuracy.estimate for point in points] == pytest.approx([0.0, 0.5, 0.9])
        middle = points[1].accuracy
        assert middle.clusters == 40
        assert middle.high - middle.low == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.2)

    def test_training_rewards_by_task(self, tmp_path):
        write_dump(tmp_path / "rollouts", 1, [("a", "near", 1.0), ("b", "far", 0.0), ("c", "near", 0.0)])
        write_dump(tmp_path / "rollouts", 2, [("a", "near", 1.0)])
        assert task_curves(tmp_path / "rollouts") == {"far": [(1, 0.0)], "near": [(1, 0.5), (2, 1.0)]}

    def test_no_dumps(self, tmp_path):
        assert held_out_curve(tmp_path / "none") == []
        assert task_curves(tmp_path / "none") == {}

    @pytest.mark.parametrize("training", [[], [(1, 0.1), (2, 0.4), (3, 0.2)]])
    def test_is_drawn(self, tmp_path, training):
        write_dump(tmp_path / "held_out", 0, [("a", "near", 1.0), ("b", "far", 0.0)])
        plot_curve(held_out_curve(tmp_path / "held_out") if training else [], training, tmp_path / "reward.png")
        assert (tmp_path / "reward.png").read_bytes().startswith(b"\x89PNG")
