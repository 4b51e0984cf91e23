"""ST-CoT texts under their first name; they live in `data_tools.st_cot`."""

from __future__ import annotations

from ..st_cot.compact import fixed_phrases
from ..st_cot.grammar import CAMERA_BULLET, FINAL_HEADER, INITIAL_HEADER, OBJECT_BULLET
from ..st_cot.writer import STYLES, write_st_cot

__all__ = [
    "CAMERA_BULLET",
    "FINAL_HEADER",
    "INITIAL_HEADER",
    "OBJECT_BULLET",
    "STYLES",
    "fixed_phrases",
    "write_st_cot",
]
