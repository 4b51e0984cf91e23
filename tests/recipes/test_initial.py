"""Where the tiny model's weights start: what they do before any training."""

import numpy as np
import pytest
import torch
import transformers

from mllm4d_verl.recipes.tiny_cpu.corpus import composed_tokens, number_tokens
from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("associative")
    return build_tiny_model(out, fan_in_init=True, associative_init=True, vocab_size=2048, vision_hidden=32)


@pytest.fixture(scope="module")
def model(folder):
    return transformers.AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def attention(model, ids):
    """(layers, heads, L, L)."""
    text = model.model.language_model
    found = text(inputs_embeds=text.embed_tokens(torch.tensor([ids])), output_attentions=True).attentions
    return torch.cat(found).double()


class TestAttention:
    def test_the_first_head_attends_to_the_previous_token(self, model, tokenizer):
        ids = np.random.default_rng(0).choice(len(tokenizer), 100).tolist()
        on_previous = attention(model, ids)[0, 0].diagonal(-1)
        assert on_previous.mean() > 0.7

    def test_the_induction_head_attends_to_what_followed_an_earlier_occurrence(self, model, tokenizer):
        rng = np.random.default_rng(1)
        for length, gap in ((8, 0), (15, 7), (30, 40)):
            ids = rng.permutation(len(tokenizer))[: length + gap].tolist()
            weights = attention(model, [*ids, *ids[:length]])[1, 0]
            followed = torch.stack([weights[length + gap + place, place + 1] for place in range(length - 1)])
            by_chance = 1 / (1.5 * length + gap)
            assert followed.mean() > 5 * by_chance, (length, gap)


class TestEmbeddings:
    def test_a_distance_is_one_token(self, tokenizer):
        assert {len(tokenizer(number).input_ids) for number in number_tokens()} == {1}

    def test_numbers_are_alike_when_they_lie_close(self, model, tokenizer):
        rows = model.get_input_embeddings().weight.detach()
        rows = rows - rows.mean(0)

        def alike(*numbers):
            (one,), (other,) = (tokenizer(number).input_ids for number in numbers)
            return torch.cosine_similarity(rows[one], rows[other], dim=0).item()

        assert alike(" 1.50", " 1.5") > 0.4
        assert alike(" 1.50", " 1.53") > 0.35
        for far in (" 1.25", " 1.80", " 3.2", " 0.31"):
            assert abs(alike(" 1.50", far)) < 0.3, far
        assert alike(" 2.00", " 2.05") > alike(" 2.00", " 2.20") + 0.1

    def test_an_option_with_its_letter_is_like_both(self, model, tokenizer):
        rows = model.get_input_embeddings().weight.detach()
        rows = rows - rows.mean(0)
        for text, parts in composed_tokens():
            (token,) = tokenizer(text).input_ids
            for part in parts:
                if len(made_of := tokenizer(part).input_ids) == 1:
                    assert torch.cosine_similarity(rows[token], rows[made_of[0]], dim=0) > 0.4, text

    def test_tokens_that_may_not_be_sampled_have_an_empty_output_row(self, model, tokenizer):
        rows = model.lm_head.weight.detach()
        assert not rows[tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])].any()
        assert rows[tokenizer(" 1.50").input_ids].std().item() == pytest.approx(0.05, rel=0.2)


def test_the_same_seed_gives_the_same_weights(folder, tmp_path):
    build_tiny_model(tmp_path, fan_in_init=True, associative_init=True, vocab_size=2048, vision_hidden=32)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("wrong", [{"arch": "qwen2_5_vl"}, {"layers": 1}])
def test_what_it_is_not_made_for_is_refused(wrong, tmp_path):
    with pytest.raises(ValueError, match="associative_init takes a qwen3_vl of two layers or more"):
        build_tiny_model(tmp_path, associative_init=True, **wrong)
