"""Expanded Qwen3-VL videos become the one block vLLM expects, whatever stands around them."""

from types import SimpleNamespace

import pytest

from mllm4d_verl.verl_compat.video_blocks import send_vllm_unexpanded_videos
from mllm4d_verl.video.blocks import collapse_video_blocks

pytestmark = pytest.mark.pins

START, END, PAD, IMAGE = 1, 2, 3, 4
SPECIAL = {"<|vision_start|>": START, "<|vision_end|>": END, "<|video_pad|>": PAD, "<|image_pad|>": IMAGE}
FIRST_CHARACTER = 100


class CharacterTokenizer:
    """One token per character: the worst case for recognising a timestamp."""

    def convert_tokens_to_ids(self, tokens):
        return [SPECIAL[token] for token in tokens]

    def decode(self, ids):
        names = {number: name for name, number in SPECIAL.items()}
        return "".join(names[i] if i in names else chr(i - FIRST_CHARACTER) for i in ids)


class Qwen2VLImageProcessor:
    pass


class Qwen3VLProcessor:
    tokenizer = CharacterTokenizer()
    image_processor = Qwen2VLImageProcessor()
    image_token_id, video_token_id = IMAGE, PAD


PROCESSOR = Qwen3VLProcessor()
PLACEHOLDER = [START, PAD, END]


def text(characters):
    return [ord(c) + FIRST_CHARACTER for c in characters]


def frames(*seconds, pads=3):
    """The frames of a video, as transformers below 5.10 writes them."""
    return [token for t in seconds for token in [*text(f"<{t:.1f} seconds>"), START, *[PAD] * pads, END]]


def wrapped(*seconds):
    """The same with the placeholder's own markers around them, as transformers writes them from 5.10 on."""
    return [START, *frames(*seconds), END]


def image(pads=4):
    return [START, *[IMAGE] * pads, END]


@pytest.fixture(params=[frames, wrapped], ids=["bare", "wrapped"])
def video(request):
    return request.param


def collapse(ids):
    return collapse_video_blocks(ids, PROCESSOR)


def test_one_video(video):
    assert collapse(text("Look:") + video(0.1, 0.6, 1.1) + text("Well?")) == text("Look:") + PLACEHOLDER + text("Well?")


def test_single_frame_pair(video):
    assert collapse(video(0.2)) == PLACEHOLDER


def test_video_at_the_very_end_without_a_last_marker():
    assert collapse(frames(0.2, 0.7)[:-1]) == PLACEHOLDER


def test_two_videos_with_text_between(video):
    prompt = video(0.1, 0.6) + text(" and ") + video(0.1, 0.6, 1.1)
    assert collapse(prompt) == PLACEHOLDER + text(" and ") + PLACEHOLDER


def test_two_videos_that_touch(video):
    assert collapse(video(0.1, 0.6) + video(0.1, 0.6)) == PLACEHOLDER * 2


def test_wrapped_videos_that_touch_whatever_their_times():
    assert collapse(wrapped(0.1, 0.6) + wrapped(0.9, 1.4)) == PLACEHOLDER * 2


def test_equal_times_after_rounding_stay_one_video(video):
    assert collapse(video(0.0, 0.1, 0.1, 0.1)) == PLACEHOLDER


def test_text_that_looks_like_a_timestamp(video):
    prompt = text("At <1.0 seconds>") + video(0.1, 0.6) + text("<2.0 seconds>") + text("what moved?")
    expected = text("At <1.0 seconds>") + PLACEHOLDER + text("<2.0 seconds>") + text("what moved?")
    assert collapse(prompt) == expected


def test_text_that_looks_like_a_timestamp_between_videos(video):
    prompt = video(0.1, 0.6) + text("<2.0 seconds>") + video(0.1)
    assert collapse(prompt) == PLACEHOLDER + text("<2.0 seconds>") + PLACEHOLDER


def test_timestamp_text_before_an_image(video):
    prompt = video(0.1) + text("<2.0 seconds>") + image()
    assert collapse(prompt) == PLACEHOLDER + text("<2.0 seconds>") + image()


def test_image_between_videos(video):
    assert collapse(video(0.1) + image() + video(0.1)) == PLACEHOLDER + image() + PLACEHOLDER


def test_long_videos(video):
    assert collapse(video(*[k * 50.5 for k in range(400)])) == PLACEHOLDER


@pytest.mark.parametrize("prompt", [[], text("no video <1.0 seconds>"), image(), PLACEHOLDER, [START], [START, PAD]])
def test_prompts_without_expanded_video_stay(prompt):
    assert collapse(prompt) == prompt


def test_blocks_without_timestamps_stay():
    qwen2_5 = [*text("a"), START, *[PAD] * 12, END, *text("b")]
    assert collapse(qwen2_5) == qwen2_5


def test_collapsing_twice_changes_nothing(video):
    once = collapse(text("x") + video(0.1, 0.6))
    assert collapse(once) == once


def test_text_that_the_tokenizer_joined_with_the_timestamp():
    """Byte-pair encoding may make one token of ":<"; vLLM tokenizes the text and the timestamp apart."""
    joined = 900

    class Joining(CharacterTokenizer):
        def decode(self, ids):
            return "".join(":<" if i == joined else CharacterTokenizer.decode(self, [i]) for i in ids)

        def encode(self, characters, add_special_tokens):
            assert not add_special_tokens
            return text(characters)

    prompt = [*text("Look"), joined, *frames(0.1, 0.6)[1:]]
    processor = SimpleNamespace(tokenizer=Joining(), video_token_id=PAD)
    assert collapse_video_blocks(prompt, processor) == text("Look:") + PLACEHOLDER


def test_what_verl_sends_merges_image_pads_as_before(video):
    dedup = send_vllm_unexpanded_videos.current()
    assert send_vllm_unexpanded_videos.active()
    assert list(dedup(image() + video(0.1, 0.6), PROCESSOR)) == [START, IMAGE, END, *PLACEHOLDER]


def test_other_processors_keep_verls_behaviour():
    dedup = send_vllm_unexpanded_videos.current()
    assert list(dedup(frames(0.1), SimpleNamespace())) == frames(0.1)
    assert dedup(frames(0.1), None) == frames(0.1)


def test_real_processor(qwen3_processor, write_video, tmp_path):
    """Expanded by transformers, collapsed here: the text's own tokens, placeholder and all."""
    from verl.utils.dataset.vision_utils import process_video

    element = {
        "video": str(write_video(tmp_path / "v.mp4", fps=9.0)),
        "nframes": 6,
        "min_pixels": 1024,
        "max_pixels": 4096,
    }
    decoded = [process_video(element, image_patch_size=16, return_video_metadata=True) for _ in range(2)]
    block = "<|vision_start|><|video_pad|><|vision_end|>"
    prompt = f"<|im_start|>user\nAt <1.0 seconds>{block}or {block}?<|im_end|>\n"
    expanded = qwen3_processor(
        text=[prompt],
        videos=[video for video, _ in decoded],
        video_metadata=[metadata for _, metadata in decoded],
        do_sample_frames=False,
    )["input_ids"][0]
    assert len(expanded) > 40
    assert collapse_video_blocks(list(expanded), qwen3_processor) == qwen3_processor.tokenizer(prompt)["input_ids"]
