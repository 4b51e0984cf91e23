"""SFT trains exactly the prompt that RL uses, for both model families."""

import asyncio
import pickle

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.trainer.sft_trainer import create_sft_dataset
from verl.utils.dataset.dataset_utils import SFTTensorCollator
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from mllm4d_verl.data_tools.control_tokens import special_tokens_of
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.released import write_sft
from mllm4d_verl.data_tools.schema import read_qa, write_qa
from mllm4d_verl.datasets import MLLM4DDataset, MLLM4DSFTDataset

TURNS = [
    {"role": "user", "content": "<video>\nWhere?"},
    {"role": "assistant", "content": "There, at 3.5 m."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


@pytest.fixture
def build(processor, data_config):
    def make(files, max_samples=-1, **config):
        return MLLM4DSFTDataset(
            parquet_files=files,
            tokenizer=processor.tokenizer,
            config=data_config(**config),
            processor=processor,
            max_samples=max_samples,
        )

    return make


@pytest.fixture
def complete_file(qa_file, tmp_path):
    """The rows of `qa_file`, every one with a response."""
    rows = read_qa(qa_file)
    for row in rows:
        row.response = row.response or "<thinking>\nnothing moves\n</thinking>\n<answer>B</answer>"
    return str(write_qa(tmp_path / "cold_start.parquet", rows))


def one_shot(processor, dataset, item, config):
    """The whole conversation through the chat template and the processor at once."""
    messages = dataset.conversation(item)
    _, videos, _ = MLLM4DDataset._process_multi_modal_info(messages, processor.image_processor.patch_size, config)
    frames, metadata = zip(*videos, strict=True)
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
    return processor(
        text=[text], videos=list(frames), video_metadata=list(metadata), do_sample_frames=False, return_tensors="pt"
    )


class Rollout:
    """verl's agent loop as far as the prompt: the same methods of verl, without Ray and vLLM around them."""

    def __init__(self, processor, row, config):
        messages = row["raw_prompt"]
        patch = processor.image_processor.patch_size
        _, videos, _ = asyncio.run(MLLM4DDataset.process_multi_modal_info(messages, patch, config))
        builder = create_continuous_token_builder(
            processor.tokenizer, hf_model_type=processor.config.model_type, processor=processor
        )
        self.mm_processor_kwargs = None
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.multi_modal_data = {"videos": videos}
        self.prompt_ids = builder.build_initial_tokens(messages, videos=videos)

    def tensors(self, response_ids):
        """Inputs and positions of the actor, by AgentLoopWorkerTQ._agent_loop_postprocess."""
        input_ids = torch.tensor([*self.prompt_ids, *response_ids])
        inputs = AgentLoopWorker._compute_multi_modal_inputs(self, self, input_ids)
        batch = input_ids.unsqueeze(0)
        positions = AgentLoopWorker._compute_position_ids(self, batch, torch.ones_like(batch), inputs)
        return inputs, positions.squeeze(0)

    def _get_mm_processor_kwargs(self, audio_data=None):
        return {}


class TestTokens:
    @pytest.mark.parametrize("template", ["st_cot", "direct"])
    def test_equal_one_shot_templating(self, build, processor, data_config, complete_file, template):
        dataset = build(complete_file, prompt_template=template)
        for item in range(len(dataset)):
            want = one_shot(processor, dataset, item, data_config())
            got = dataset[item]
            assert torch.equal(got["input_ids"], want["input_ids"][0])
            assert torch.equal(got["multi_modal_inputs"]["pixel_values_videos"], want["pixel_values_videos"])
            assert torch.equal(got["multi_modal_inputs"]["video_grid_thw"], want["video_grid_thw"])

    @pytest.mark.parametrize("template", ["st_cot", "direct"])
    def test_loss_is_on_the_response_and_its_end(self, build, processor, complete_file, template):
        dataset = build(complete_file, prompt_template=template)
        for item, row in enumerate(read_qa(complete_file)):
            sample = dataset[item]
            trained = sample["input_ids"][sample["loss_mask"].bool()]
            target = row.response if template == "st_cot" else row.answer
            assert processor.tokenizer.decode(trained) == f"{target}<|im_end|>"

    def test_every_assistant_turn_is_trained(self, build, processor, data_config, qa_file, tmp_path):
        rows = read_qa(qa_file)
        rows[0].meta = {"messages": TURNS}
        path = write_qa(tmp_path / "turns.parquet", rows[:1])
        dataset = build(str(path), prompt_template="dataset")
        sample = dataset[0]
        assert torch.equal(sample["input_ids"], one_shot(processor, dataset, 0, data_config())["input_ids"][0])
        trained = processor.tokenizer.decode(sample["input_ids"][sample["loss_mask"].bool()])
        assert trained == "There, at 3.5 m.<|im_end|>Yes.<|im_end|>"


class TestSameAsRL:
    @pytest.mark.parametrize("template", ["st_cot", "direct"])
    def test_prompt_pixels_timestamps_and_positions(self, build, processor, data_config, complete_file, template):
        config = data_config(prompt_template=template)
        rl = MLLM4DDataset(complete_file, processor.tokenizer, config, processor)
        sft = build(complete_file, prompt_template=template)
        for item in range(len(rl)):
            sample = sft[item]
            rollout = Rollout(processor, rl[item], config)
            length = int(sample["loss_mask"].argmax())
            assert sample["input_ids"][:length].tolist() == rollout.prompt_ids
            inputs, positions = rollout.tensors(sample["input_ids"][length:].tolist())
            assert torch.equal(sample["position_ids"], positions)
            assert set(sample["multi_modal_inputs"]) == set(inputs)
            for name, value in inputs.items():
                assert torch.equal(sample["multi_modal_inputs"][name], value), name

    def test_timestamps_are_the_frames_times(self, qwen3_processor, data_config, complete_file):
        dataset = MLLM4DSFTDataset(
            complete_file, qwen3_processor.tokenizer, data_config(prompt_template="direct"), qwen3_processor
        )
        # clip_0: 12 frames at 10 fps, 8 of them sampled: 0 2 3 5 6 8 9 11; a stamp is the mean of two
        text = qwen3_processor.tokenizer.decode(dataset[0]["input_ids"])
        stamps = [part.split("<")[-1] for part in text.split(" seconds>")[:-1]]
        assert [float(stamp) for stamp in stamps] == pytest.approx([0.1, 0.4, 0.7, 1.0])


class TestInTheTrainer:
    def test_verl_builds_it_from_the_config(self, processor, data_config, complete_file):
        config = data_config(custom_cls={"path": "pkg://mllm4d_verl.datasets", "name": "MLLM4DSFTDataset"})
        files = OmegaConf.create([complete_file])
        dataset = create_sft_dataset(files, config, processor.tokenizer, processor, max_samples=3)
        assert isinstance(dataset, MLLM4DSFTDataset)
        assert len(dataset) == 3

    def test_collates(self, build, complete_file):
        dataset = build(complete_file)
        samples = [dataset[item] for item in range(4)]
        batch = SFTTensorCollator("no_padding")(samples)
        assert batch["input_ids"].is_nested
        for index, sample in enumerate(samples):
            assert torch.equal(batch["input_ids"][index], sample["input_ids"])
            assert sample["position_ids"].shape == (4, len(sample["input_ids"]))
        assert len(batch["multi_modal_inputs"]) == 4

    def test_cache_is_bounded_and_changes_nothing(self, build, complete_file):
        plain, cached = build(complete_file), build(complete_file, cache_rows=2)
        for item in (0, 1, 0, 2, 3, 0):
            got, want = cached[item], plain[item]
            for name in ("input_ids", "loss_mask", "position_ids"):
                assert torch.equal(got[name], want[name])
            for name, value in want["multi_modal_inputs"].items():
                assert torch.equal(got["multi_modal_inputs"][name], value)
            got["multi_modal_inputs"].clear()  # belongs to the caller
        assert list(cached._cache) == [3, 0]
        assert cached[3]["input_ids"] is cached[3]["input_ids"]
        assert not cached.__getstate__()["_cache"]

    def test_cached_rows_of_a_clip_share_its_pixels(self, build, complete_file):
        dataset = build(complete_file, cache_rows=3)
        pixels = [dataset[item]["multi_modal_inputs"]["pixel_values_videos"] for item in range(4)]
        assert pixels[0] is pixels[2]
        assert pixels[1] is pixels[3]
        assert len(dataset._heads) == 2
        del pixels
        for item in (0, 2, 0):
            dataset[item]
        assert {row % 2 for row in dataset._cache} == {0, 1}
        dataset._cache.popitem(last=False)
        assert len(dataset._heads) == 1  # the last row about clip_1 is gone

    def test_worker_processes(self, build, complete_file):
        from torchdata.stateful_dataloader import StatefulDataLoader

        dataset = build(complete_file)
        loader = StatefulDataLoader(dataset, batch_size=2, num_workers=1, collate_fn=SFTTensorCollator("no_padding"))
        lengths = [len(ids) for batch in loader for ids in batch["input_ids"].unbind()]
        assert lengths == [len(dataset[item]["input_ids"]) for item in range(4)]


class TestOtherFiles:
    def test_released_sft(self, build, processor, complete_file, tmp_path):
        path = str(write_sft(tmp_path / "cold_start.json", read_qa(complete_file)))
        for template in ("dataset", "st_cot"):
            sample = build(path, prompt_template=template)[0]
            trained = processor.tokenizer.decode(sample["input_ids"][sample["loss_mask"].bool()])
            assert trained == f"{read_qa(complete_file)[0].response}<|im_end|>"

    def test_verls_own_rows(self, build, processor, complete_file, tmp_path):
        video = {"video": str(tmp_path / "clip_0" / "left.mp4"), "nframes": 4, "min_pixels": 784}
        rows = [
            {"messages": TURNS, "videos": [video]},
            {"messages": TURNS[:2], "videos": [{**video, "max_pixels": 3136}]},
        ]
        path = str(tmp_path / "verl.parquet")
        pd.DataFrame(rows).to_parquet(path)
        dataset = build(path)
        assert [int(dataset[item]["loss_mask"].diff().eq(1).sum()) for item in range(2)] == [2, 1]
        assert "image" not in pickle.dumps(dataset.conversation(0)).decode("latin1")


class TestMistakes:
    def test_too_long_names_the_row(self, build, complete_file):
        with pytest.raises(InputError, match=r"cold_start\.parquet, row 0, field data\.max_length: the row has \d+ "):
            build(complete_file, max_length=20)[0]

    def test_right_truncation_cuts_the_reply_only(self, build, complete_file):
        whole = build(complete_file)[0]
        prompt = int(whole["loss_mask"].argmax())
        cut = build(complete_file, max_length=prompt + 5, truncation="right")[0]
        assert torch.equal(cut["input_ids"], whole["input_ids"][: prompt + 5])
        assert cut["position_ids"].shape == (4, prompt + 5)
        with pytest.raises(InputError, match="max_length"):
            build(complete_file, max_length=prompt, truncation="right")[0]

    def test_row_without_response_is_named(self, build, qa_file):
        with pytest.raises(InputError, match=r"train\.parquet, row 2, field response: .*st_cot.response\.jinja"):
            build(qa_file)[2]

    def test_a_video_that_vanished_is_named_with_its_row(self, build, complete_file, tmp_path):
        dataset = build(complete_file)
        (tmp_path / "clip_1" / "left.mp4").unlink()
        with pytest.raises(InputError, match=r"cold_start\.parquet, row 1, field video: .*clip_1/left\.mp4"):
            dataset[1]

    def test_reply_with_a_media_token(self, build, qa_file, tmp_path):
        rows = read_qa(qa_file)[:1]
        rows[0].response = "look: <|video_pad|>"
        with pytest.raises(InputError, match=r"row 0, field response: .* the control token <\|video_pad\|>"):
            build(str(write_qa(tmp_path / "bad.parquet", rows)))[0]

    def test_a_plain_reply_trains_no_control_token_but_its_end(self, build, processor, qa_file, tmp_path):
        rows = read_qa(qa_file)[:1]
        rows[0].response = "look: <|im_end|><|video_pad|>"
        sample = build(str(write_qa(tmp_path / "plain.parquet", rows)), special_tokens="plain")[0]
        special = processor.tokenizer.convert_tokens_to_ids(sorted(special_tokens_of(processor.tokenizer)))
        trained = sample["input_ids"][sample["loss_mask"] == 1].tolist()
        assert [token for token in trained if token in special] == [processor.tokenizer.eos_token_id]

    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            ({"pad_mode": "right"}, "pad_mode"),
            ({"truncation": "left"}, "truncation"),
            ({"prompt_template": "st-cot"}, "Did you mean 'st_cot'"),
            ({"min_pixels": 9999999}, "above data.max_pixels"),
        ],
    )
    def test_options(self, build, complete_file, config, problem):
        with pytest.raises(InputError, match=problem):
            build(complete_file, **config)

    def test_model_without_processor(self, data_config, complete_file):
        with pytest.raises(InputError, match="no image and video processor"):
            MLLM4DSFTDataset(complete_file, None, data_config(), None)


class TestLossWeights:
    def test_tokens_of_a_match_count_as_told_and_the_rest_as_before(self, build, complete_file, processor):
        plain = build(complete_file, prompt_template="st_cot")[0]
        weighted = build(complete_file, prompt_template="st_cot", loss_weights={"<answer>.</answer>": 5.0})[0]
        assert torch.equal(plain["input_ids"], weighted["input_ids"])
        assert weighted["loss_mask"].dtype == torch.float32
        assert torch.equal(weighted["loss_mask"] > 0, plain["loss_mask"] > 0)
        emphasised = processor.tokenizer.decode(weighted["input_ids"][weighted["loss_mask"] == 5.0])
        assert emphasised.strip().endswith("</answer>")
        assert "<answer>" in emphasised
        assert "thinking" not in emphasised.replace("</thinking>\n<answer>", "")  # one token of the tiny vocabulary

    def test_a_batch_of_them_is_one_float_tensor(self, build, complete_file):
        dataset = build(complete_file, prompt_template="st_cot", loss_weights={"answer": 2})
        batch = SFTTensorCollator("no_padding")([dataset[0], dataset[1]])
        assert batch["loss_mask"].dtype == torch.float32

    @pytest.mark.parametrize("wrong", [{"(": 2.0}, {"x": 0}, {"x": "five"}, {"x": True}, ["x"], {"x": float("nan")}])
    def test_wrong_weights_are_refused(self, build, complete_file, wrong):
        with pytest.raises(InputError) as error:
            build(complete_file, loss_weights=wrong)
        assert error.value.field == "data.loss_weights"


def test_order_seed_permutes_the_rows(build, complete_file):
    def ids(seed):
        return [source.row.id for source in build(complete_file, order_seed=seed).rows]

    assert ids(1) == ids(1)
    assert len({tuple(ids(seed)) for seed in (None, 0, 1, 2, 3)}) > 1
    assert {tuple(sorted(ids(seed))) for seed in (0, 1)} == {tuple(sorted(ids(None)))}
