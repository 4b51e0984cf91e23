"""What each control leaves of a clip."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.controls import check_control, control_frames, frame_order, without_video

FRAMES = torch.arange(8.0)[:, None, None, None].expand(8, 3, 2, 2)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.integers(0, 9), st.text(max_size=8))
def test_a_shuffle_holds_every_frame_once_and_never_in_order(num_frames, seed, question):
    order = frame_order(num_frames, "shuffled", seed, question)
    assert sorted(order) == list(range(num_frames)) != order
    assert order == frame_order(num_frames, "shuffled", seed, question)


def test_the_order_depends_on_seed_and_question():
    orders = [frame_order(32, "shuffled", seed, question) for seed in (0, 1) for question in ("q0", "q1")]
    assert len(set(map(tuple, orders))) == 4


def test_single_frame_is_the_middle_one_throughout():
    assert control_frames(FRAMES, "single-frame", 0, "q0")[:, 0, 0, 0].tolist() == [4.0] * 8


def test_frames_are_not_written_to():
    before = FRAMES.clone()
    shuffled = control_frames(FRAMES, "shuffled", 0, "q0")
    shuffled[:] = 0
    assert torch.equal(FRAMES, before)
    assert control_frames(FRAMES, None, 0, "q0") is FRAMES


def test_blind_keeps_all_text():
    text = {"type": "text", "text": "\nWhere to between frame 0 and frame 7?"}
    messages = [{"role": "system", "content": "Think."}, {"role": "user", "content": [{"type": "video"}, text]}]
    assert without_video(messages) == [messages[0], {"role": "user", "content": [text]}]


def test_an_unknown_control_is_refused():
    check_control(None)
    with pytest.raises(InputError, match=r"no control 'blur'.*blind, shuffled, single-frame"):
        check_control("blur")
