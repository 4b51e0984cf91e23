"""`mllm4d data cot`: from question rows to a file that SFT takes, with the figures of each task."""

import json
import os
from dataclasses import replace

import pytest
from cot_server import Server, good_path

from mllm4d_verl.cold_start import CotConfig, EndpointConfig, SelectionConfig, make_cold_start
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import read_qa, write_qa
from mllm4d_verl.datasets.reader import ground_truth
from mllm4d_verl.prompts import render_conversation
from mllm4d_verl.reward import STReward

ALL = SelectionConfig(max_per_sample=0)


class TestByRule:
    def test_rows_are_ready_for_sft(self, qa_file, tmp_path):
        qa = qa_file(6)
        report = make_cold_start(qa, tmp_path / "out", CotConfig(selection=ALL))
        rows = read_qa(tmp_path / "out" / "cold_start.parquet")
        assert report.rows == len(rows) == 18
        assert len({row.response for row in rows}) == 18
        originals = {row.id: row for row in read_qa(qa)}
        for row in rows:
            assert STReward()(row.response, ground_truth(row))["score"] > 0.999
            assert render_conversation(row, "st_cot")[-1]["content"] == row.response
            assert os.path.samefile(
                tmp_path / "out" / row.video, qa.parent / originals[row.meta["cot"]["question_id"]].video
            )
            original = originals[row.meta["cot"]["question_id"]]
            assert replace(row, id=original.id, meta=original.meta, video=original.video, response=None) == original

    def test_the_same_bytes_whatever_the_workers(self, qa_file, tmp_path, monkeypatch):
        monkeypatch.setattr("mllm4d_verl.cold_start.run._CHUNK", 2)
        qa = qa_file(6)
        make_cold_start(qa, tmp_path / "a", CotConfig())
        make_cold_start(qa, tmp_path / "b", CotConfig(workers=2))
        make_cold_start(qa, tmp_path / "c", CotConfig(seed=1))
        one, two, other = (read_qa(tmp_path / name / "cold_start.parquet") for name in "abc")
        assert one == two
        assert (tmp_path / "a" / "cold_start.parquet").read_bytes() == (
            tmp_path / "b" / "cold_start.parquet"
        ).read_bytes()
        assert [row.response for row in one] != [row.response for row in other]

    def test_some_questions_of_each_task_and_some_texts(self, qa_file, tmp_path):
        config = CotConfig(samples_per_task=3, selection=SelectionConfig(target=4))
        report = make_cold_start(qa_file(12), tmp_path / "out", config)
        assert report.rows == 4
        assert {task: (figures.samples, figures.kept) for task, figures in report.tasks.items()} == {
            "camera_absolute_distance": (3, 2),
            "object_camera_relative_distance": (3, 2),
        }

    def test_only_train_rows(self, tmp_path, make_rows):
        rows = make_rows(4)
        rows[1].split = "test"
        write_qa(tmp_path / "mixed.parquet", rows)
        report = make_cold_start(tmp_path / "mixed.parquet", tmp_path / "out", CotConfig())
        assert (report.left_out, report.rows) == (1, 3)
        write_qa(tmp_path / "test.parquet", make_rows(2, split="test"))
        with pytest.raises(InputError, match="no row of the split train"):
            make_cold_start(tmp_path / "test.parquet", tmp_path / "out", CotConfig())

    def test_rows_without_cues(self, tmp_path, make_rows):
        rows = make_rows(3)
        rows[2].meta = {}
        write_qa(tmp_path / "bare.parquet", rows)
        with pytest.raises(InputError, match=r"bare\.parquet, row row-002, field meta: the row carries no visual cues"):
            make_cold_start(tmp_path / "bare.parquet", tmp_path / "out", CotConfig())

    @pytest.mark.parametrize("preset", ["official", "paper"])
    def test_other_presets_score(self, qa_file, tmp_path, preset):
        report = make_cold_start(qa_file(4), tmp_path / "out", CotConfig(preset=preset))
        assert report.rows == 4


class TestByEndpoint:
    def test_the_better_paths_are_kept(self, qa_file, tmp_path):
        """Seeds decide how good a path is: 0 is right, 1 is a metre off, 2 is wrong."""

        def reply(number, body):
            seed = body["seed"]
            return good_path(body, shift=float(seed == 1), answer="C" if seed == 2 else None)

        with Server(reply).running() as server:
            config = CotConfig(writer="endpoint", selection=ALL, endpoint=EndpointConfig(server.url, "m", workers=2))
            report = make_cold_start(qa_file(4), tmp_path / "out", config)
        rows = read_qa(tmp_path / "out" / "cold_start.parquet")
        assert {row.id for row in rows} == {f"row-{number:03d}-p0" for number in range(4)}
        assert {row.meta["cot"]["writer"] for row in rows} == {"endpoint m"}
        for figures in report.tasks.values():
            assert (figures.paths, figures.passing_paths, figures.kept) == (6, 2, 2)
            assert figures.right_share == pytest.approx(2 / 3)
            assert figures.threshold > 0.999
        record = json.loads((tmp_path / "out" / "cold_start.json").read_text())
        assert record["report"]["asked"] == 12
        assert record["config"]["endpoint"]["model"] == "m"

    def test_a_hard_task_keeps_what_an_easy_one_drops(self, qa_file, tmp_path):
        def reply(number, body):
            hard = "The object is" in body["messages"][1]["content"][-1]["text"]
            return good_path(body, shift=1.0 if hard else float(body["seed"] > 0))

        with Server(reply).running() as server:
            config = CotConfig(writer="endpoint", paths=2, selection=ALL, endpoint=EndpointConfig(server.url, "m"))
            report = make_cold_start(qa_file(2), tmp_path / "out", config)
        easy, hard = report.tasks["camera_absolute_distance"], report.tasks["object_camera_relative_distance"]
        assert (easy.kept, hard.kept) == (1, 2)
        assert hard.threshold < 0.9 < easy.threshold

    def test_nothing_at_all_says_why(self, qa_file, tmp_path):
        endpoint = EndpointConfig("http://127.0.0.1:9/v1", "m", max_retries=0, max_unanswered=1)
        with pytest.raises(InputError, match="not one path was written: not asked: 1 paths in a row got no answer"):
            make_cold_start(qa_file(2), tmp_path / "out", CotConfig(writer="endpoint", endpoint=endpoint))
        assert not (tmp_path / "out" / "cold_start.parquet").exists()

    def test_a_model_that_cannot_keep_the_form(self, qa_file, tmp_path):
        with Server(lambda number, body: "It is A.").running() as server:
            config = CotConfig(writer="endpoint", endpoint=EndpointConfig(server.url, "m", max_retries=0))
            with pytest.raises(InputError, match="take a stronger one"):
                make_cold_start(qa_file(2), tmp_path / "out", config)


class TestCommand:
    def test_by_rule(self, mllm4d, qa_file, tmp_path):
        run = mllm4d("data", "cot", qa_file(4), tmp_path / "out", "--paths", "2", "--keep-per-sample", "0", "--json")
        assert run.returncode == 0, run.stderr
        told = json.loads(run.stdout.splitlines()[-1])
        assert told["rows"] == 8
        assert told["tasks"]["camera_absolute_distance"]["passing_share"] == 1.0
        assert "threshold" in run.stdout
        assert len(read_qa(told["out"])) == 8

    def test_compact(self, mllm4d, qa_file, tmp_path):
        run = mllm4d("data", "cot", qa_file(2), tmp_path / "out", "--style", "compact", "--decimals", "1")
        assert run.returncode == 0, run.stderr
        assert all(len(row.response.split()) < 90 for row in read_qa(tmp_path / "out" / "cold_start.parquet"))

    def test_a_dead_endpoint_leaves_what_is_there(self, mllm4d, qa_file, tmp_path):
        def reply(number, body):
            return good_path(body) if number < 2 else (404, {}, "gone")

        qa = qa_file(6)
        options = ("--writer", "endpoint", "--model", "m", "--paths", 1, "--max-unanswered", 2)
        with Server(reply).running() as server:
            run = mllm4d("data", "cot", qa, tmp_path / "out", *options, "--base-url", server.url, "--json")
        assert run.returncode == 1
        assert "given up" in run.stderr
        assert "gone" in run.stderr
        assert json.loads(run.stdout.splitlines()[-1])["asked"] == 2
        with Server(lambda number, body: good_path(body)).running() as server:
            run = mllm4d("data", "cot", qa, tmp_path / "out", *options, "--base-url", server.url)
        assert run.returncode == 0
        assert "4 paths written now, 2 were there already" in run.stdout
        assert len(read_qa(tmp_path / "out" / "cold_start.parquet")) == 6

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            (("--writer", "endpoint"), "--base-url: an endpoint is needed"),
            (("--preset", "best"), "unknown reward preset"),
            (("--writer", "endpoint", "--base-url", "http://x/v1"), "--model: is empty"),
        ],
    )
    def test_bad_options(self, mllm4d, qa_file, tmp_path, options, problem):
        run = mllm4d("data", "cot", qa_file(2), tmp_path / "out", *options)
        assert run.returncode == 2
        assert problem in run.stderr


def test_cues_come_from_the_clips_where_rows_have_none(tmp_path, mllm4d):
    from mllm4d_verl.data_tools.questions import QuestionConfig, write_questions
    from mllm4d_verl.data_tools.synthetic import write_world

    write_world(tmp_path / "world", clips=3, seed=0, width=64, height=64, num_frames=8, fps=8.0, dense=False)
    config = QuestionConfig(num_frames=8, val_fraction=0, test_fraction=0)
    write_questions(tmp_path / "world", tmp_path / "qa", config)
    rows = read_qa(tmp_path / "qa" / "train.parquet")
    bare = [replace(row, meta={k: v for k, v in row.meta.items() if k != "cues"}) for row in rows]
    write_qa(tmp_path / "qa" / "bare.parquet", bare)
    with_cues = make_cold_start(tmp_path / "qa" / "train.parquet", tmp_path / "a", CotConfig())
    without = make_cold_start(tmp_path / "qa" / "bare.parquet", tmp_path / "b", CotConfig(), clips=tmp_path / "world")
    assert without == with_cues
    texts = [[row.response for row in read_qa(tmp_path / name / "cold_start.parquet")] for name in "ab"]
    if all("cues" in row.meta for row in rows):
        assert texts[0] == texts[1]
    run = mllm4d("data", "cot", tmp_path / "qa" / "bare.parquet", tmp_path / "c", "--clips", tmp_path / "qa")
    assert run.returncode == 2
    assert "clips.parquet" in run.stderr
