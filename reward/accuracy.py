"""Is the answer right? Letters, option texts and numbers, without credit for naming several."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

from .response import Response, make
from .truth import Truth

MAX_ANSWER_CHARS = 256  # longer ones are essays, not answers
_LETTERS = tuple(chr(ord("A") + index) for index in range(26))
# Largest relative errors that count, in the very floats of VSI-Bench's code, numpy.linspace(.5, .95, 10) taken from 1:
# an error that is exactly on a threshold counts there.
MRA_TOLERANCES = tuple(1 - (0.95 if index == 9 else index * ((0.95 - 0.5) / 9) + 0.5) for index in range(10))

_SPACES = re.compile(r"\s+")
_LEAD_IN = re.compile(
    r"\b(?:the )?(?:(?:final|correct|best|right) )?(?:answer|option|choice)\b(?: is)?(?: option)?(?: ?[:=])? ?(?=\S)",
    re.I,
)
_SECOND_ANSWER = re.compile(r"\b(?:answer|option|choice)(?: is\b| ?[:=])", re.I)
_ONLY_LETTER = re.compile(r"[(\[]?([A-Za-z])[)\]]?[.:)]?")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Za-z])(?:[.:)]| [-\u2013]))[.:]? ?")
_STANDALONE_LETTER = re.compile(r"(?<![A-Za-z0-9'])([A-Z])(?![A-Za-z0-9'])")
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,9}|[0-9]{1,30})"
_LENGTHS = "m|meters?|metres?|cm|centimeters?|centimetres?|km|kilometers?|kilometres?|ft|feet|foot"
_UNIT = re.compile(_LENGTHS, re.I)
_QUANTITY = re.compile(
    r"[~\u2248]? ?(?:about |approximately )?"
    rf"([+-]? ?(?:{_WHOLE}(?:\.[0-9]{{0,30}})?|\.[0-9]{{1,30}})(?:e[+-]?[0-9]{{1,3}})?) ?"
    rf"({_LENGTHS})?\.?",
    re.I,
)
# What models put around an answer out of habit: \boxed{B}, $2.5$, \text{left}, (2.5).
_WRAPPED = re.compile(
    r"(?:\\(?:boxed|text|mathrm|mathbf) ?\{((?:[^{}]|\{[^{}]*\})*)\}|\${1,2}([^$]*)\${1,2}|\(([^()]{2,})\))\.?"
)
_METRES_PER_UNIT = {"c": 0.01, "f": 0.3048, "k": 1000.0, "m": 1.0}  # by first letter


class Quantity(NamedTuple):
    """A number as written and, when a unit of length stands beside it, how many metres that unit is."""

    number: float
    metres_per_unit: float | None


def accuracy_reward(response: Response, truth: Truth) -> float:
    r"""How right the one answer is, in [0, 1]; 0 if the response commits to none, or to several.

    Multiple choice: 1 if it names the right option and no other (see `match_answer`), else 0. That is R_acc of the
    paper (arXiv 2603.00515, equation 4). A number without options, where the truth has a `value`:
    `mean_relative_accuracy`. No closed answer block, an empty one, or more than one: 0.
    """
    answer = response.answer
    if answer is None:
        return 0.0
    if truth.value is not None and not truth.options and truth.letter is None:
        stated = stated_number(answer, truth.fields.get("unit"))
        return 0.0 if stated is None else mean_relative_accuracy(stated, truth.value)
    return 1.0 if match_answer(answer, truth) else 0.0


def mean_relative_accuracy(stated: float, true: float) -> float:
    r"""Share of the thresholds theta in .50, .55, ..., .95 with |stated - true| / |true| <= 1 - theta.

    VSI-Bench's MRA as its code computes it, and lmms-eval and VLMEvalKit after it; equation 1 of the paper (arXiv
    2412.14171) has `<`. A true 0 has no relative error: 1 for 0, else 0.

    Example:
        >>> mean_relative_accuracy(3, 4)  # 25% off: right at .50, .55, .60, .65, .70 and .75
        0.6
    """
    if not (math.isfinite(stated) and math.isfinite(true)):
        return 0.0
    if true == 0.0:
        return 1.0 if stated == 0.0 else 0.0
    error = abs(stated - true) / abs(true)
    return sum(error <= tolerance for tolerance in MRA_TOLERANCES) / len(MRA_TOLERANCES)


def stated_number(answer: str, unit: object = None) -> float | None:
    """The number that an answer consists of; None if it is anything else.

    Args:
        answer: what stood between the answer tags.
        unit: that the question asks for. Where both are of length the number is converted to it, "0.62 m" to 62 for
            "cm"; where the question's is not known, a length is given in metres.
    """
    if len(answer) > MAX_ANSWER_CHARS:
        return None
    text = _tidy(answer)
    lead_in = _LEAD_IN.match(text)
    quantity = _quantity(_fold(text)) or (_quantity(_fold(text[lead_in.end() :])) if lead_in else None)
    if quantity is None:
        return None
    number = quantity.number
    if quantity.metres_per_unit is not None:
        asked = _UNIT.fullmatch(unit.strip()) if isinstance(unit, str) else None
        number *= quantity.metres_per_unit / (_METRES_PER_UNIT[asked[0][0].lower()] if asked else 1.0)
        number = round(number, 9)  # 0.62 / 0.01 is 62, not 62.00000000000001
    return number if math.isfinite(number) else None


def match_answer(answer: str, truth: Truth) -> bool:
    """Whether a text names the right option, and no other.

    Accepted: the letter (`B`, `(b)`, `Option B`, `The answer is B.`), letter and text (`B. left`), the option's text, a
    number equal to the option's (`2.50 m` for `2.5`). Refused: several letters, a letter beside the text of another
    option, a text that is no option, more than 256 characters.

    Args:
        answer: what stood between the answer tags (or, for direct answers, the whole response).
        truth: with options or answer_text known, texts and numbers are understood; with the letter alone, letters are.
    """
    if len(answer) > MAX_ANSWER_CHARS or not (truth.letter or truth.answer_text):
        return False
    return _matches(answer, make(Choices, (truth.letter, truth.answer_text, truth.options)))


def chosen_option(answer: str | None, truth: Truth) -> str | None:
    """Letter of the only option that `answer` names (see `match_answer`); None if it names none, or several."""
    if answer is None or len(answer) > MAX_ANSWER_CHARS:
        return None
    options = truth.options or (None,) * len(_LETTERS)  # without option texts only letters can be told
    named = [
        letter
        for letter, option in zip(_LETTERS, options, strict=False)
        if _matches(answer, Choices(letter, option, truth.options))
    ]
    return named[0] if len(named) == 1 else None


class Choices(NamedTuple):
    """What an answer is compared with: the part of a truth that `match_answer` needs."""

    letter: str | None
    answer_text: str | None
    options: tuple[str, ...]


@lru_cache(maxsize=4096)  # a group of rollouts gives few different answers, most of them one letter
def _matches(answer: str, truth: Choices) -> bool:
    text = _tidy(answer)
    if not text:
        return False
    if (by_text := _named_by_text(text, truth)) is not None:
        return by_text
    lead_in = _LEAD_IN.match(text)
    if lead_in:
        text = text[lead_in.end() :]
        if (by_text := _named_by_text(text, truth)) is not None:
            return by_text
    return _named_by_letter(text, truth)


def _named_by_letter(text: str, truth: Choices) -> bool:
    only = _ONLY_LETTER.fullmatch(text)
    if only:
        return _same_option(only[1].upper(), truth)
    both = _LETTER_AND_TEXT.match(text)
    if both is None or truth.letter is None:
        return False
    letter = (both[1] or both[2] or both[3]).upper()
    rest = text[both.end() :]
    if not rest or not _same_option(letter, truth):
        return _same_option(letter, truth)
    by_text = _named_by_text(rest, truth)
    if by_text is not None:
        return by_text
    if truth.answer_text and not truth.options:
        # Only the right text is known, and this is another one: a number or a word that contradicts the letter.
        return False
    return not _names_another(rest, letter, truth)


def _names_another(rest: str, letter: str, truth: Choices) -> bool:
    """Whether what follows a letter gives a second answer: another letter, another option's text, "the answer is"."""
    last = chr(ord("A") + len(truth.options) - 1) if truth.options else "Z"
    if {found for found in _STANDALONE_LETTER.findall(rest) if found <= last} - {letter} or _SECOND_ANSWER.search(rest):
        return True
    folded, own = _fold(rest), _fold(truth.answer_text or "")
    folded = folded.replace(own, " ") if own else folded
    others = {_fold(option) for option in truth.options} - {own, ""}
    return any(re.search(rf"(?<![\w.]){re.escape(other)}(?!\w|\.\w)", folded) for other in others)


def _same_option(letter: str, truth: Choices) -> bool:
    """The right letter, or the letter of an option with the same text (VLM4D has an item with a doubled option)."""
    if letter == truth.letter:
        return True
    index = ord(letter) - ord("A")
    return index < len(truth.options) and truth.answer_text is not None and truth.options[index] == truth.answer_text


def _named_by_text(text: str, truth: Choices) -> bool | None:
    """True or False if `text` is an option's text or number, None if it is none of them."""
    folded = _fold(text)
    if truth.answer_text is not None and folded == _fold(truth.answer_text):
        return True
    if any(folded == _fold(option) for option in truth.options):
        return False
    quantity = _quantity(folded)
    if quantity is None:
        return None
    if truth.answer_text is not None and _same(quantity, _quantity(_fold(truth.answer_text))):
        return True
    if any(_same(quantity, _quantity(_fold(option))) for option in truth.options):
        return False
    return None


def _tidy(text: str) -> str:
    text = text.replace("\u2212", "-").replace("**", "").replace("`", "")
    text = _SPACES.sub(" ", text).strip(" \"'*")
    for _ in range(3):  # $\boxed{\text{B}}$
        wrapped = _WRAPPED.fullmatch(text)
        if wrapped is None:
            break
        text = next(inside for inside in wrapped.groups() if inside is not None).strip(" \"'*")
    return text


def _fold(text: str) -> str:
    return _tidy(text).rstrip(".!;, ").casefold()


def _quantity(text: str) -> Quantity | None:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    unit = match[2]
    number = float(match[1].replace(",", "").replace(" ", ""))
    return Quantity(number, _METRES_PER_UNIT[unit[0].lower()] if unit else None) if math.isfinite(number) else None


def _same(answer: Quantity, option: Quantity | None) -> bool:
    """Equal up to binary rounding. A bare option is in metres; a bare answer is in the option's unit."""
    if option is None:
        return False
    option_unit = option.metres_per_unit or 1.0
    expected = option.number * option_unit
    stated = answer.number * (answer.metres_per_unit or option_unit)
    return abs(stated - expected) <= 1e-9 * max(1.0, abs(expected))
