"""Responses and truths the reward tests share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

CAMERA = [[0.01, 0.0, 0.0], [1.0, 0.0, 0.5]]
OBJECT = [[-0.5, 0.2, 4.0], [0.5, 0.2, 3.0]]


def truth(**changes: Any) -> dict[str, Any]:
    """A truth that needs all four slots; right answer B."""
    return {"answer": "B", "camera_center": CAMERA, "object_center": OBJECT, **changes}


def written(center: Any) -> str:
    """A slot as the grammar writes it."""
    return "null" if center is None else "[" + ", ".join(f"{number:.4f}" for number in center) + "]"


def response(camera: Any = CAMERA, object_: Any = OBJECT, answer: str = "B") -> str:
    """A response in the canonical grammar that states these centres (None: null in both slots)."""
    camera, object_ = camera or [None, None], object_ or [None, None]
    return (
        "<thinking>The camera follows the box.\n"
        "**Spatial State (Initial Frame):**\n"
        f"- Camera Center: {written(camera[0])}\n"
        f"- Object Center: {written(object_[0])}\n"
        "Near things slide left against far ones.\n"
        "**Spatial State (Final Frame):**\n"
        f"- Camera Center: {written(camera[1])}\n"
        f"- Object Center: {written(object_[1])}\n"
        "So it comes closer.</thinking>\n"
        f"<answer>{answer}</answer>"
    )


GRAMMAR_PIECES = [
    "<thinking>", "</thinking>", "<answer>", "</answer>", "**Spatial State (Initial Frame):**", "Spatial State", "(",
    ")", "Spatial State (Frame 14):", "- Camera Center:", "- Object Center: ", "[", "]", "[1, 2, 3]", "[-1e5, .5, 3.]",
    "or", "null", "e", "9", ".", "-", "\u2212", ",", "\n", " ", "\u00a0", "\u0130", "\ud800", "B", "x", "**",
    "[null, 1, 2]", "1e999",
]  # fmt: skip
any_text = st.one_of(
    st.text(st.characters(), max_size=300), st.lists(st.sampled_from(GRAMMAR_PIECES), max_size=60).map("".join)
)
