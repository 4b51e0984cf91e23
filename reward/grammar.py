"""The words of the response grammar, in one place: tags, headers, labels, and the spellings that are read.

The canonical text, which the prompt asks for and the cold-start writer produces:

    <thinking> ...
    **Spatial State (Initial Frame):**
    - Camera Center: [x, y, z] or null
    - Object Center: [x, y, z] or null
    ...
    **Spatial State (Final Frame):**
    - Camera Center: ...
    - Object Center: ...
    ... </thinking>
    <answer>B</answer>
"""

from __future__ import annotations

THINKING_OPEN = "<thinking>"
THINKING_CLOSE = "</thinking>"
ANSWER_OPEN = "<answer>"
ANSWER_CLOSE = "</answer>"

STATE_HEADER = "Spatial State"
INITIAL_HEADER = "**Spatial State (Initial Frame):**"
FINAL_HEADER = "**Spatial State (Final Frame):**"

CAMERA_LABEL = "Camera Center"
OBJECT_LABEL = "Object Center"
NULL = "null"

# Words inside a header that name the end of the clip it describes. Other headers ("Frame 14") go by order.
INITIAL_WORDS = frozenset({"initial", "start", "starting", "first", "begin", "beginning"})
FINAL_WORDS = frozenset({"final", "end", "ending", "last"})

# Spellings of "no value". All are lower case: the parser compares lower-cased text.
NULL_WORDS = ("null", "none", "n/a")

# Minus signs that language models write for "-".
MINUS_SIGNS = "-\u2212\u2013\u2010\u2011\ufe63\uff0d"

# What a decoder may leave after the answer when special tokens are not skipped.
SPECIAL_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>")
