"""The fixed lines of a response: the strings that the reward reads (tests hold the two together)."""

from __future__ import annotations

from ..schema import QARow, States

INITIAL_HEADER = "**Spatial State (Initial Frame):**"
FINAL_HEADER = "**Spatial State (Final Frame):**"
CAMERA_BULLET = "- Camera Center:"
OBJECT_BULLET = "- Object Center:"
_NOTHING: States = [None, None]
MOST_DECIMALS = 6  # a micrometre is far below any estimate
_VECTORS = [f"[%.{decimals}f, %.{decimals}f, %.{decimals}f]" for decimals in range(MOST_DECIMALS + 1)]


def state_lines(row: QARow, which: int, decimals: int) -> str:
    """The two bullets of the state at the start (0) or the end (1); null where the question does not need a centre."""
    camera = (row.camera_center or _NOTHING)[which]
    object_ = (row.object_center or _NOTHING)[which]
    return f"{CAMERA_BULLET} {coordinates(camera, decimals)}\n{OBJECT_BULLET} {coordinates(object_, decimals)}"


def coordinates(center: list[float] | None, decimals: int) -> str:
    """ "[x, y, z]" with so many decimals, or "null"."""
    if center is None:
        return "null"
    text = _VECTORS[decimals] % tuple(center)
    if "-0" in text:  # which may be "-0.0000"
        text = _VECTORS[decimals] % tuple([round(number, decimals) + 0.0 for number in center])
    return text


def response(thinking: str, answer: str) -> str:
    """The whole response around its reasoning."""
    return f"<thinking>{thinking}</thinking>\n<answer>{answer}</answer>"
