"""The tiny checkpoint is the real architecture in small: what it must share with the released models, and that it is
the same every time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from mllm4d_verl.recipes.tiny_cpu.corpus import phrases  # noqa: E402
from mllm4d_verl.recipes.tiny_cpu.model import ARCHITECTURES, SPECIAL_TOKENS, build_tiny_model  # noqa: E402

RESPONSE = (
    "<thinking>\nThe camera moves.\n**Spatial State (Initial Frame):**\n- Camera Center: [0.0000, -1.2500, 0.5000]\n"
    "- Object Center: null\n</thinking>\n<answer>B</answer>"
)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def tiny(request, tmp_path_factory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp(request.param), arch=request.param)


@pytest.fixture(scope="module")
def processor(tiny):
    return transformers.AutoProcessor.from_pretrained(tiny)


def _digest(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


class TestCheckpoint:
    def test_model_vocabulary_is_exactly_the_tokenizers(self, tiny, processor):
        config = transformers.AutoConfig.from_pretrained(tiny)
        assert config.text_config.vocab_size == len(processor.tokenizer)

    def test_a_few_million_float32_weights(self, tiny):
        model = transformers.AutoModelForImageTextToText.from_pretrained(tiny)
        assert 1e6 < sum(weight.numel() for weight in model.parameters()) < 6e6
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}

    def test_text_part_names_its_architecture_for_vllm(self, tiny):
        assert json.loads((tiny / "config.json").read_text())["text_config"]["architectures"]

    def test_same_seed_same_bytes_and_other_seed_other_weights(self, tiny, tmp_path):
        arch = json.loads((tiny / "config.json").read_text())["model_type"]
        again = build_tiny_model(tmp_path / "again", arch=arch)
        other = build_tiny_model(tmp_path / "other", arch=arch, seed=1)
        assert _digest(again) == _digest(tiny)
        differing = {name for name, value in _digest(other).items() if value != _digest(tiny)[name]}
        assert differing == {"model.safetensors"}

    def test_caller_random_state_is_left_alone(self, tmp_path):
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        build_tiny_model(tmp_path, hidden=32, layers=1)
        assert torch.equal(torch.rand(1), expected)

    def test_dimensions_can_be_chosen(self, tmp_path):
        build_tiny_model(tmp_path, hidden=64, layers=2, vision_hidden=32, vision_layers=1)
        config = transformers.AutoConfig.from_pretrained(tmp_path)
        assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (64, 2)
        assert (config.vision_config.hidden_size, config.vision_config.depth) == (32, 1)

    def test_fan_in_init_keeps_activations_of_order_one(self, tmp_path):
        build_tiny_model(tmp_path, hidden=96, layers=1, fan_in_init=True)
        model = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path)
        for name, weight in model.named_parameters():
            if name.endswith(("q_proj.weight", "down_proj.weight", "qkv.weight", "patch_embed.proj.weight")):
                assert weight.std().item() == pytest.approx(weight[0].numel() ** -0.5, rel=0.1), name

    @pytest.mark.parametrize("wrong", [{"arch": "llama"}, {"hidden": 100}, {"vision_hidden": 0}])
    def test_impossible_arguments_are_refused(self, wrong, tmp_path):
        with pytest.raises(ValueError, match=r"unknown architecture|multiple of 32"):
            build_tiny_model(tmp_path, **wrong)


class TestTokenizer:
    def test_special_tokens_are_single(self, processor):
        for token in SPECIAL_TOKENS:
            assert len(processor.tokenizer(token).input_ids) == 1, token

    @pytest.mark.parametrize("phrase", phrases())
    def test_phrases_are_single_tokens(self, processor, phrase):
        assert len(processor.tokenizer(phrase).input_ids) == 1

    def test_the_grammar_and_the_system_turn_are_phrases(self):
        assert {"<thinking>", "</answer>", "**Spatial State (Initial Frame):**", "- Camera Center:"} <= set(phrases())
        assert any(phrase.startswith("You reason about a video") for phrase in phrases())

    def test_digits_are_split_one_by_one_but_for_decimals(self, processor):
        assert processor.tokenizer.tokenize("2048") == ["2", "0", "4", "8"]
        decoded = [processor.tokenizer.decode(token) for token in processor.tokenizer(" 2.5 and -0.4").input_ids]
        assert decoded == [" 2", ".5", " and", " -", "0", ".4"]

    def test_text_survives_a_round_trip(self, processor):
        for text in (RESPONSE, "naïve 漢字 \t x"):
            assert processor.tokenizer.decode(processor.tokenizer(text).input_ids) == text

    def test_frequent_words_of_an_own_corpus_become_tokens(self, tmp_path):
        build_tiny_model(tmp_path, corpus=["the zebrafish swims to the zebrafish\n"] * 50, hidden=32, layers=1)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert len(tokenizer(" zebrafish").input_ids) == 1

    def test_vocabulary_stays_within_the_bound(self, tmp_path):
        build_tiny_model(tmp_path, vocab_size=400, hidden=32, layers=1)
        assert len(transformers.AutoTokenizer.from_pretrained(tmp_path)) <= 400


class TestVideoPrompt:
    @pytest.fixture(scope="class")
    def inputs(self, processor):
        message = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "does it move?"}]}
        text = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
        frames = torch.zeros((8, 3, 96, 96), dtype=torch.uint8)
        metadata = {"fps": 4.0, "total_num_frames": 8, "frames_indices": list(range(8))}
        return processor(
            text=[text], videos=[frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
        )

    def test_one_pad_per_merged_patch(self, processor, inputs):
        pads = (inputs["input_ids"] == processor.video_token_id).sum().item()
        assert pads == inputs["video_grid_thw"].prod().item() // 4

    def test_qwen3_vl_writes_timestamps(self, processor, inputs):
        text = processor.tokenizer.decode(inputs["input_ids"][0])
        stamps = text.count(" seconds>")
        assert stamps == (4 if "Qwen3VL" in type(processor).__name__ else 0)

    def test_forward_pass(self, tiny, inputs):
        model = transformers.AutoModelForImageTextToText.from_pretrained(tiny)
        with torch.no_grad():
            logits = model(**inputs).logits
        assert logits.shape[:2] == inputs["input_ids"].shape
        assert torch.isfinite(logits).all()
