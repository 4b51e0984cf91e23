"""What a model answers without sight, without order or without time: frames taken away before any processor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mllm4d_verl.data_tools.errors import InputError

if TYPE_CHECKING:
    import torch

#: Name -> what it does. "single-frame" repeats its frame, so that the prompt has the very tokens and timestamps of a
#: full run: what changes between the two is the motion, not the length or the form of what the model was trained on.
CONTROLS = {
    "blind": "no video in the prompt; the words of the template stay",
    "shuffled": "the frames in a random order of the question's own, timestamps as they were",
    "single-frame": "the middle frame in the place of every frame, timestamps as they were",
}
BLIND = "blind"


def check_control(control: str | None) -> None:
    """Raise InputError where there is no such control."""
    if control is not None and control not in CONTROLS:
        raise InputError(f"no control {control!r}", field="--control", remedy=f"Choose from {', '.join(CONTROLS)}")


def control_frames(frames: torch.Tensor, control: str | None, seed: int, question: str) -> torch.Tensor:
    """Frames as the control shows them.

    Args:
        frames: (T, 3, H, W); not written to.
        control: "shuffled", "single-frame" or None.
        seed: of the run.
        question: id. It and the seed fix the order, so that every backend, and every rerun, shows the same.

    Returns:
        (T, 3, H, W): the frames themselves without a control, else a copy.
    """
    order = frame_order(len(frames), control, seed, question)
    return frames if order is None else frames[order]


def frame_order(num_frames: int, control: str | None, seed: int, question: str) -> list[int] | None:
    """Which frame stands at each place, 0-based; None where all stay where they are."""
    if control == "single-frame":
        return [num_frames // 2] * num_frames
    if control != "shuffled" or num_frames < 2:
        return None
    random = np.random.default_rng(derived_seed(seed, question))
    while True:  # the order of time is not a shuffle; two frames find the other order in two draws on average
        order = random.permutation(num_frames).tolist()
        if order != sorted(order):
            return order


def without_video(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages in verl's form without their video parts; all text stays."""
    return [
        {**message, "content": [part for part in message["content"] if part.get("type") != "video"]}
        if isinstance(message["content"], list)
        else message
        for message in messages
    ]


def derived_seed(*parts: object) -> int:
    """A seed below 2**31 of its own for every combination of `parts`."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
