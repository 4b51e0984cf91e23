"""Which number a response commits to, in the unit that the question asks for, and how near it is to the right one.

The places that can hold the answer are those of `choice`: tags, the last box, an "answer" key, the whole response,
phrases, the conclusion. Several different numbers, or a range, are no answer.
"""

from __future__ import annotations

import math
import re

from mllm4d_verl.reward import mean_relative_accuracy

from .options import NUMBER_WORDS
from .phrases import announces_task
from .statements import NO_ANSWER, SEVERAL
from .text import MAX_SPOTS, answer_blocks, boxed, json_answers, take_apart, without_markup
from .verdict import Verdict

_AREA = r"(?:square |sq\.? ?)"
_UNITS: dict[str, tuple[str, float]] = {
    # spelling, in lower case and without a plural s -> (kind, size in metres or square metres)
    **dict.fromkeys(("m", "meter", "metre"), ("length", 1.0)),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), ("length", 0.01)),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), ("length", 0.001)),
    **dict.fromkeys(("km", "kilometer", "kilometre"), ("length", 1000.0)),
    **dict.fromkeys(("inch", "inche", "in"), ("length", 0.0254)),
    **dict.fromkeys(("ft", "foot", "feet"), ("length", 0.3048)),
    **dict.fromkeys(("yd", "yard"), ("length", 0.9144)),
    **dict.fromkeys(("m2", "m^2", "m²", "sqm", "square meter", "square metre", "sq m"), ("area", 1.0)),
    **dict.fromkeys(("ft2", "ft^2", "ft²", "square feet", "square foot", "sq ft", "sqft"), ("area", 0.3048**2)),
}
_UNIT = (
    rf"(?:{_AREA}(?:meters?|metres?|m|feet|foot|ft)|(?:m|ft)(?:\^?2|²)|sqm|sqft"
    r"|(?:centi|milli|kilo)?(?:meters?|metres?)|[ckm]?m|inch(?:es)?|in|feet|foot|ft|yards?|yd)(?![\w²^])"
)
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,^/])(?P<number>[-+]?"
    r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,4}(?![0-9])|[0-9]{1,15}(?:,[0-9]{1,2}(?![0-9]))?|(?=\.[0-9]))"
    r"(?:\.[0-9]{1,15})?(?:e[-+]?[0-9]{1,2})?)"
    rf"(?: {{0,2}}-?(?P<unit>{_UNIT}))?(?![A-Za-z0-9_²^/]|\.[0-9]|,[0-9]{{3}})"
)
_RANGE = re.compile(r"[0-9] {0,2}(?:[a-z²]{1,8} {0,2})?(?:-|~|to|or|and) {0,2}[0-9]")
_NOT_ASKED = re.compile(
    r"\b(?:frames?|images?|steps?|figures?|clips?|options?|questions?) {0,2}#?[0-9]{1,6}"
    r"(?: {0,2}(?:and|to|-|,|&) {0,2}(?:frame )?[0-9]{1,6}){0,8}|\b[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?\b"
    r"|^ {0,4}[0-9]{1,2}[.)] (?=\S)|\b[0-9]{1,6}(?:st|nd|rd|th)\b",
    re.M,
)
_WORD = re.compile(rf"\b(?:{'|'.join(word for word in NUMBER_WORDS if word not in ('none', 'one'))})\b")
_SMALL = {
    word: number for word, number in NUMBER_WORDS.items() if len(number) == 1 and word not in ("none", "zero", "once")
}
_TENS = dict(
    zip(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), range(20, 100, 10), strict=True)
)
_TEN = re.compile(rf"\b({'|'.join(_TENS)})(?:[- ]({'|'.join(_SMALL)})\b)?(?![a-z])")
_AND_A_HALF = re.compile(r"\b([0-9]{1,6}|one|an?) ([a-z]{1,11} )?and a half\b")
# "half a meter", "a quarter of a metre", "about a meter"
_FRACTIONS = {
    "half": "0.5",
    "a half": "0.5",
    "one half": "0.5",
    "a quarter of": "0.25",
    "three quarters of": "0.75",
    "": "1",
}
_FRACTION = re.compile(
    r"\b(?:(?P<of>(?:a |one )?half|a quarter of|three quarters of) (?:of )?(?:an? )?|an? )"
    r"(?=(?:square )?(?:centi|milli|kilo)?(?:meters?|metres?)\b|foot\b|yard\b|inch\b)"
)
# Counts: "there is one chair", "there are no chairs"; "there is no way to tell" counts nothing.
_ONE = re.compile(r"\b(?:is|are|was|only|exactly|just|count|counted|see|total of|contains|has) (?P<one>one)\b(?! of\b)")
_NO = re.compile(
    r"\bthere (?:is|are|was|were) (?P<no>no|none)\b"
    r"(?! (?:way|doubt|information|indication|evidence|clear|reason|answer|sign|need|mention|question)\b)"
)
_SPACED_THOUSANDS = re.compile(rf"(?<![0-9.,])[0-9]{{1,3}}(?: [0-9]{{3}}){{1,3}}(?= ?{_UNIT}| {{0,3}}$)")
# The same length once more: "2.5 m (about 8.2 feet)"
_IN_BRACKETS = re.compile(
    r"(?<=[a-z0-9²]) {0,2}\((?:or |i\.e\.,? |that is,? )?(?:about |approximately |roughly |~ ?|≈ ?|= ?)?"
    rf"[0-9][0-9.,]{{0,12}} {{0,2}}{_UNIT}\.?\)"
)
_RESULT = re.compile(r"[0-9a-z²)] {0,2}(?:=|≈) {0,2}(?=[-+]?[0-9.])")
_LABEL = re.compile(
    r"\b(?P<final>final )?(?:answer|result|estimate|estimation|total|prediction|conclusion)\b[\"')]{0,2}"
    r"(?: (?:is|was|would be|should be|comes to|are)\b:?| ?[:=]|\s{0,3}\n)[\s_]{0,8}"
)
_CONCLUDES = re.compile(
    r"\b(?:so|therefore|thus|hence|overall|in total|in conclusion|approximately|about|around|roughly)\b"
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_MANY = 64


def read_number(response: str, unit: str | None = None) -> Verdict:
    """The number that a response commits to.

    Args:
        response: what the model wrote. Anything that is not a `str` reads as empty.
        unit: unit that the question asks for, "m", "cm", "m2" and so on; None for counts. A number with another unit of
            the same kind is converted, one with a unit of another kind is no answer.

    Returns:
        A verdict with `number` in `unit`, or with the reason why there is none. Never raises.

    Example:
        >>> read_number("The table is about 1.2 m long.", "cm").number
        120.0
        >>> read_number("2 or 3").reason
        'several answers'
    """
    if not isinstance(response, str):
        return Verdict(reason="empty")
    parts = take_apart(response)
    if parts.is_unfinished:
        return Verdict(reason="unfinished reasoning")
    if not parts.final:
        return Verdict(reason="empty")
    blocks = answer_blocks(parts.final)
    filled = [block for block in blocks.closed if block] or ([blocks.unclosed] if blocks.unclosed else [])
    if filled:
        return _agree([_in_text(block, unit) for block in filled], "tags")
    text = blocks.outside
    boxes = [box for box in boxed(text)[0] if box]
    if boxes:
        return _agree([_in_text(boxes[-1], unit)], "boxed")
    keys = json_answers(text)
    if keys:
        return _agree([_in_text(key, unit) for key in keys], "json")
    return _in_text(text, unit)


def number_score(stated: float | None, value: float) -> float:
    """Mean relative accuracy of a stated number, 0 for an invalid response; see `reward.mean_relative_accuracy`."""
    return 0.0 if stated is None else mean_relative_accuracy(stated, value)


def _in_text(text: str, unit: str | None) -> Verdict:
    plain = _with_digits(without_markup(text).strip().lower(), is_count=unit is None)
    labels = []
    for count, match in enumerate(_LABEL.finditer(plain)):
        if count >= MAX_SPOTS:
            break
        if announces_task(plain, match.start()):
            continue
        labels.append((bool(match["final"]), plain[match.end() : match.end() + 200].partition("\n")[0]))
    chosen = [rest for is_final, rest in labels if is_final] or [rest for _, rest in labels]
    stated = [
        verdict for rest in chosen if (verdict := _only_number(_SENTENCES.split(rest)[0], unit)).reason != NO_ANSWER
    ]
    if stated:
        return _agree(stated, "phrase")
    whole = _only_number(plain, unit)
    if whole.is_valid or not plain:
        return whole
    sentences = [sentence for sentence in _SENTENCES.split(plain[-2000:]) if sentence.strip()]
    if len(sentences) > 1:
        last = _only_number(sentences[-1], unit)
        if last.is_valid and (_CONCLUDES.search(sentences[-1]) or len(sentences[-1].split()) <= 3):
            return last._replace(rule="conclusion")
    return whole


def _with_digits(plain: str, is_count: bool) -> str:
    """Text in lower case with its number words as digits, and with each number once."""
    plain = _TEN.sub(lambda match: str(_TENS[match[1]] + int(_SMALL.get(match[2], 0))), plain)
    plain = _WORD.sub(lambda match: NUMBER_WORDS[match[0]], plain)
    if plain.rstrip(".") in ("one", "none", "zero"):
        return NUMBER_WORDS[plain.rstrip(".")]
    plain = _AND_A_HALF.sub(lambda match: f"{match[1] if match[1].isdigit() else 1}.5 {match[2] or ''}", plain)
    plain = _IN_BRACKETS.sub("", _SPACED_THOUSANDS.sub(lambda match: match[0].replace(" ", ""), plain))
    if is_count:
        plain = _ONE.sub(lambda match: match[0][: -len("one")] + "1", plain)
        return _NO.sub(lambda match: match[0][: -len(match["no"])] + "0", plain)
    return _FRACTION.sub(lambda match: f"{_FRACTIONS[match['of'] or '']} ", plain)


def _only_number(text: str, unit: str | None) -> Verdict:
    """The one number of a text; numbers of frames, steps and times of day are not looked at."""
    text = _NOT_ASKED.sub(" ", text)
    *_, result = [None, *_RESULT.finditer(text[-2000:])]
    if result:  # "5 m x 6 m = 30 m2": a calculation states its result
        text = text[-2000:][result.end() :]
    numbers: set[float] = set()
    for count, match in enumerate(_NUMBER.finditer(text)):
        if count >= _MANY:
            return Verdict(reason=SEVERAL)
        number = _convert(match["number"], match["unit"], unit)
        if number is None:
            return Verdict(reason="another unit")
        numbers.add(number)
    if not numbers:
        return Verdict(reason=NO_ANSWER)
    if len(numbers) > 1 or _RANGE.search(text):
        return Verdict(reason=SEVERAL)
    return Verdict(number=numbers.pop(), rule="number")


def _convert(digits: str, stated: str | None, asked: str | None) -> float | None:
    """Number in the unit asked for; None where the kinds of unit differ or it is not finite."""
    head, _, tail = digits.rpartition(",")
    if head and len(tail) <= 2:
        digits = f"{head}.{tail}"  # a decimal comma
    number = float(digits.replace(",", ""))
    if not math.isfinite(number):
        return None
    if stated is None or asked is None:
        return number
    stated_unit, asked_unit = _unit(stated), _unit(asked)
    if stated_unit is None or asked_unit is None:
        return number
    if stated_unit[0] != asked_unit[0]:
        return None
    return round(number * stated_unit[1] / asked_unit[1], 9)


def _unit(name: str) -> tuple[str, float] | None:
    name = " ".join(name.lower().replace("sq.", "sq ").split())
    return _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))


def _agree(verdicts: list[Verdict], rule: str) -> Verdict:
    numbers = {verdict.number for verdict in verdicts if verdict.number is not None}
    if len(numbers) > 1:
        return Verdict(reason=SEVERAL)
    if numbers and verdicts[-1].is_valid:
        return Verdict(number=numbers.pop(), rule=rule)
    return verdicts[-1]
