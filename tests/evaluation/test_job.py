"""What is refused before vLLM starts, what makes two runs the same, and what is derived for the engine."""

from dataclasses import replace
from pathlib import Path

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.backends.vllm_engine import engine_options, prepare_ahead
from mllm4d_verl.evaluation.job import GenerationJob, check_model, weight_bytes
from mllm4d_verl.evaluation.questions import select_questions


@pytest.fixture
def job(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"12345678")
    (tmp_path / "test.parquet").write_bytes(b"rows")
    return GenerationJob(str(model), str(tmp_path / "test.parquet"), str(tmp_path / "u.jsonl"), "st_cot")


class TestFingerprint:
    def test_does_not_depend_on_where_the_work_is_kept(self, job):
        assert job.fingerprint() == replace(job, unfinished="elsewhere").fingerprint()

    def test_does_not_depend_on_how_a_server_is_reached(self, job):
        here = replace(job, backend="openai", engine={"base_url": "http://a/v1", "concurrency": 1})
        assert here.fingerprint() == replace(here, engine={"base_url": "http://b/v1"}).fingerprint()
        assert here.fingerprint() != replace(here, engine={"media": "video"}).fingerprint()

    @pytest.mark.parametrize(
        "change",
        [
            {"template": "direct"},
            {"limit": 3},
            {"samples": 2},
            {"control": "blind"},
            {"backend": "transformers"},
            {"temperature": 1.0},
            {"max_tokens": 5},
            {"seed": 1},
            {"dtype": "float32"},
            {"dataset": {"max_pixels": 784}},
            {"engine": {"max_num_seqs": 1}},
        ],
    )
    def test_changes_with_what_shapes_the_responses(self, job, change):
        assert job.fingerprint() != replace(job, **change).fingerprint()

    def test_changes_with_the_text_of_a_template(self, job, tmp_path):
        own = tmp_path / "own.jinja"
        own.write_text("<video> {{ question }}")
        before = replace(job, template=str(own)).fingerprint()
        own.write_text("<video> Please: {{ question }}")
        assert replace(job, template=str(own)).fingerprint() != before
        assert replace(job, template="dataset").fingerprint() != job.fingerprint()

    def test_changes_with_weights_and_questions(self, job, tmp_path):
        before = job.fingerprint()
        (tmp_path / "test.parquet").write_bytes(b"other rows")
        other_rows = job.fingerprint()
        (tmp_path / "model" / "model.safetensors").write_bytes(b"123456789")
        assert len({before, other_rows, job.fingerprint()}) == 3


class TestCheckModel:
    def test_accepts_a_checkpoint_and_a_hub_name(self, job):
        check_model(job.model)
        check_model("Qwen/Qwen3-VL-8B-Instruct")

    @pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "a/b/c", "nowhere"])
    def test_missing_folder(self, name):
        with pytest.raises(InputError, match="no such model folder"):
            check_model(name)

    @pytest.mark.parametrize("inside", ["", "actor"])
    def test_verl_checkpoint_names_the_merge_command(self, tmp_path, inside):
        shards = tmp_path / "global_step_2" / inside
        shards.mkdir(parents=True)
        (shards / "model_world_size_1_rank_0.pt").touch()
        with pytest.raises(InputError, match=f"mllm4d train merge {shards.parent if inside else shards} MERGED"):
            check_model(str(tmp_path / "global_step_2"))

    @pytest.mark.parametrize("inside", ["", "lora_adapter"])
    def test_an_unmerged_adapter_is_not_passed_over(self, job, inside):
        folder = Path(job.model) / inside
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").touch()
        with pytest.raises(InputError, match="LoRA adapter that is not merged"):
            check_model(job.model)

    def test_folder_without_config(self, tmp_path):
        with pytest.raises(InputError, match=r"no config\.json"):
            check_model(str(tmp_path))

    def test_weight_bytes(self, job):
        assert weight_bytes(job.model) == 8
        assert weight_bytes("Qwen/Qwen3-VL-8B-Instruct") is None


class TestSelectQuestions:
    def test_takes_every_task_in_turn(self):
        tasks = ["a", "a", "a", "a", "b", "b", "c"]
        assert select_questions(tasks, 3) == [0, 4, 6]
        assert select_questions(tasks, 5) == [0, 1, 4, 5, 6]

    @pytest.mark.parametrize("limit", [None, 7, 100])
    def test_takes_all(self, limit):
        assert select_questions(list("aaabbbc"), limit) == list(range(7))


class TestEngineOptions:
    def test_small_models_start_fast(self, job):
        options = engine_options(job, num_prompts=300, longest_prompt=500)
        assert options["enforce_eager"] is True
        assert options["max_num_seqs"] == 64
        assert options["max_model_len"] == 500 + job.max_tokens

    def test_a_model_of_unknown_size_is_large(self, job):
        options = engine_options(replace(job, model="Qwen/Qwen3-VL-8B-Instruct"), 300, 500)
        assert options["enforce_eager"] is False
        assert options["max_num_seqs"] == 128

    def test_the_user_has_the_last_word(self, job):
        options = engine_options(replace(job, engine={"max_num_seqs": 3, "tensor_parallel_size": 4}), 300, 500)
        assert options["max_num_seqs"] == 3
        assert options["tensor_parallel_size"] == 4


class TestPrepareAhead:
    def test_keeps_the_order(self):
        assert list(prepare_ahead(lambda index: (index, -index), list(range(20)))) == [(i, -i) for i in range(20)]

    def test_errors_reach_the_consumer(self):
        def fail(index):
            raise InputError("the video is missing", row=index)

        with pytest.raises(InputError, match="row 0"):
            list(prepare_ahead(fail, [0, 1]))
