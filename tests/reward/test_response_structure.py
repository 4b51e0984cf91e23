"""The format component: tags gate it, written slots fill it."""

from __future__ import annotations

import pytest
from reward_samples import response

from mllm4d_verl.reward import format_reward, parse_response

TEMPLATE = "[x, y, z] or null"
FULL = response()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FULL, 1.0),
        (response(camera=None, object_=None), 1.0),
        ("<thinking>x</thinking><answer>B</answer>", 0.5),
        (FULL.replace("- Object Center: [0.5000, 0.2000, 3.0000]\n", ""), 0.875),
        (FULL.replace("[1.0000, 0.0000, 0.5000]", TEMPLATE), 0.875),
        (FULL.replace("<answer>B</answer>", "<answer></answer>"), 0.0),
        (FULL + "<answer>B</answer>", 0.0),
        (FULL + " or A", 0.0),
        (FULL.replace("</thinking>", ""), 0.0),
        ("<thinking></thinking><answer>B</answer>", 0.5),
        ("B", 0.0),
        ("", 0.0),
    ],
)
def test_format_reward(text, expected):
    assert format_reward(parse_response(text)) == expected
