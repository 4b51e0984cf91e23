"""Does the response have the form that was asked for?"""

from __future__ import annotations

from .response import Response

TAGS_SHARE = 0.5  # the rest is shared by the four slots of the two states


def format_reward(response: Response) -> float:
    r"""How much of the response grammar is there, in [0, 1]; 0 unless the tags are right.

        R_format = [well tagged] * (0.5 + 0.5 * written slots / 4)

    Well tagged: one thinking block, then one answer block that is not empty, nothing but white space around them. A
    slot (camera or object centre, initial or final frame) is written when it holds three finite numbers or an explicit
    null; the template's own `[x, y, z] or null` is neither. The split in halves is the paper's R_fmt = l1 R_stru +
    l2 R_st (arXiv 2603.00515, equation 5) with equal weights, which the paper does not state.
    """
    if not response.well_tagged or response.answer is None:
        return 0.0
    return TAGS_SHARE + (1.0 - TAGS_SHARE) * response.written_slots / 4
