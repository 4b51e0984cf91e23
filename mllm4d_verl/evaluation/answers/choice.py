"""Which option a response commits to, by rule: the reference scorer for multiple choice.

In this order, and the first that offers anything decides:

1. reasoning in <think> tags is left out; reasoning that never ends means no answer
2. answer tags; 3. the last \\boxed; 4. an "answer" key of JSON
5. the whole response as an answer: a letter, an option's text or number, "B. left", yes or no
6. phrases: "the answer is (B)", "Final answer: B", "B is correct", in a dozen languages
7. a letter that leads the first line or makes up the last one; a text in bold; one letter in brackets
8. a letter with its own text inside a sentence
9. a short response, a concluding sentence, or a first one that names one option and denies none but others

Several different answers are no answer. Nothing depends on the order of the options.
"""

from __future__ import annotations

import re
from collections import Counter

from .options import Options, fold, get_options, is_refusal
from .phrases import decide, is_taken_back, statements
from .statements import (
    ANOTHER,
    NO_ANSWER,
    NO_SUCH,
    NOTHING,
    SEVERAL,
    Reading,
    mentions,
    only_letters,
    read_statement,
)
from .text import answer_blocks, boxed, json_answers, take_apart, without_markup
from .verdict import Verdict

_QUICK = re.compile(r"[\s(\[{<>\"'*#_-]{0,4}([A-Za-z])[\s)\]}>\"'*_.:;,!]{0,4}")
_LIST_MARK = re.compile(r"(?:^|[\s(,;])([A-J])[.):](?=\s)")
_LEADING = re.compile(
    r"[\s(\[\"']{0,4}(?:(?i:option|choice) [(\[]?[A-Ja-j]|[(\[]?[A-J])"
    r"(?:[.:),;\]]|\s?[-=]\s|\s*\n|\s*$|\s+(?:because|since|as)\b| \()"
)
_REASONED = re.compile(r"\W{0,2}[A-J]\W{0,2} (?:because|since|as)\b")  # "(B) since (A) does not fit"
_LETTER_ASKED = re.compile(r"\W{0,3}[A-J]\W{0,2}\?")
_TRAILING = re.compile(r"[.!?:,]\s{1,4}[(\[\"']{0,2}([A-J])[)\]\"']{0,2}[.!]?$")
_CAPITAL = re.compile(r"(?<![A-Za-z0-9'])[A-J](?![A-Za-z0-9'])")
_BRACKETED = re.compile(r"\(([A-J])\)")
_BOLD = re.compile(r"\*\*([^*\n]{1,120})\*\*")
_CONCLUDES = re.compile(
    r"\b(?:so|therefore|thus|hence|overall|in conclusion|in summary|to conclude|consequently|as a result|finally|"
    r"this means|this (?:suggests|indicates|shows) that|we can (?:conclude|see|say) that)\b",
    re.I,
)
# "A. No, wait. B.": a letter taken back for another one
_TAKEN_BACK = re.compile(
    r"\W{0,3}[A-J](?![A-Za-z0-9'])\W{1,4}(?:.{0,30}?)\b(?:wait|no(?=[,. ])(?! doubt)|actually|correction|sorry|hmm|"
    r"second thought|scratch that)\b[^A-J]{0,40}?\W([A-J])\W{0,3}",
    re.I | re.S,
)
# "(A. left is wrong.)", "(not left)": an aside that only denies
_DENYING_ASIDE = re.compile(
    r"\s?\((?:not\b[^()]{1,80}"
    r"|[A-J][.)]? ?[^()]{0,100}?\b(?:wrong|incorrect|false|ruled out|excluded|not correct)[^()]{0,3})\)"
)
# "The movement is A. descending": a letter with its own text inside a sentence
_LETTER_WITH_TEXT = re.compile(r"(?<![A-Za-z0-9'])[(\[]?([A-J])[.):\]]{1,2} {0,2}(?=([^\n]{1,120}))")
# A first sentence that tells of the task or of one moment answers nothing.
_NO_CONCLUSION = re.compile(
    r"\b(?:frames?|first|initial(?:ly)?|starts?|begins?|beginning|question|asked|asks|let|let's|need|options?|choices?|will|"
    r"whether|if|then|seconds?|step)\b",
    re.I,
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_OR = re.compile(r"[\s,]*(?:or|and|and/or|/|,|&)[\s,]*\$?", re.I)
_WHOLE_CHARS = 300  # longer responses are texts, not answers
_SHORT_WORDS, _SHORT_SENTENCES = 40, 2  # a response so short is read as a whole

_INVALID_EMPTY = Verdict(reason="empty")
_UNFINISHED = Verdict(reason="unfinished reasoning")


def read_choice(response: str, options: tuple[str, ...]) -> Verdict:
    """The option that a response commits to.

    Args:
        response: what the model wrote. Anything that is not a `str` reads as empty.
        options: option texts in letter order, without letters; empty where they are unknown (only letters can be told).

    Returns:
        A verdict with the letter, or with the reason why there is none. Never raises.

    Example:
        >>> read_choice("The answer is (B).", ("left", "right")).choice
        'B'
        >>> read_choice("A car moves left", ("left", "right")).choice
        'A'
        >>> read_choice("left or right", ("left", "right")).reason
        'several answers'
    """
    if not isinstance(response, str):
        return _INVALID_EMPTY
    prepared = get_options(options)
    quick = _QUICK.fullmatch(response) if len(response) < 12 else None
    if quick:
        return _whole_letter(quick[1], prepared)
    parts = take_apart(response)
    if parts.is_unfinished:
        return _UNFINISHED
    if not parts.final:
        return _INVALID_EMPTY
    return _read_final(parts.final, prepared)


def _whole_letter(letter: str, options: Options) -> Verdict:
    exact, upper = options.by_text.get(letter.lower()), letter.upper()
    is_letter = upper in options.letters
    if exact is not None and is_letter and exact != upper:
        return Verdict(reason="a letter and the text of another option")
    if exact is not None:
        return Verdict(exact, rule="option text")
    return Verdict(upper, rule="letter") if is_letter else Verdict(reason=NO_SUCH)


def _read_final(text: str, options: Options) -> Verdict:
    blocks = answer_blocks(text)
    filled = [block for block in blocks.closed if block]
    if filled:
        return _all_agree([_read_answer(block, options) for block in filled], "tags")
    if blocks.unclosed:
        reading = _read_answer(blocks.unclosed, options)
        if reading.letter and options.may_be_cut(blocks.unclosed):
            reading = Reading(None, "cut off")
        return _verdict(reading, "tags")
    text = blocks.outside
    boxes, between = boxed(text)
    boxes = [box for box in boxes if box]
    if boxes:
        return _read_boxes(boxes, between, options)
    keys = json_answers(text)
    if keys:
        return _all_agree([_read_answer(key, options) for key in keys], "json")
    return _read_text(text, options)


def _read_answer(text: str, options: Options) -> Reading:
    """What stands where an answer was asked for: tags, a box, a JSON value."""
    plain = without_markup(text).strip()
    quick = _QUICK.fullmatch(plain)
    if quick:
        verdict = _whole_letter(quick[1], options)
        return Reading(verdict.choice, verdict.reason)
    if is_taken_back(plain, 0):
        return Reading(None, NO_ANSWER)
    for reading in (only_letters(plain, options), read_statement(plain, options, anywhere=False)):
        if reading != NOTHING:
            return reading
    verdict = _read_text(text, options)
    return Reading(verdict.choice, verdict.reason)


def _read_boxes(boxes: list[str], between: str, options: Options) -> Verdict:
    """The last box, unless it stands beside another one to choose from."""
    if len(boxes) > 1 and _OR.fullmatch(between):
        return _all_agree([_read_answer(box, options) for box in boxes[-2:]], "boxed")
    return _verdict(_read_answer(boxes[-1], options), "boxed")


def _read_text(text: str, options: Options) -> Verdict:
    plain = _DENYING_ASIDE.sub("", without_markup(text)).strip(" \n_")
    if not plain.strip(".!?-,;: \n"):
        return _INVALID_EMPTY if not text.strip() else Verdict(reason=NO_ANSWER)
    quick = _QUICK.fullmatch(plain) if len(plain) < 12 else None
    if quick:
        return _whole_letter(quick[1], options)
    if len(plain) <= _WHOLE_CHARS and (exact := options.exact(plain)):
        return Verdict(exact, rule="option text")
    reading = only_letters(plain, options)
    if reading != NOTHING:
        return _verdict(reading, "letter")
    taken_back = _TAKEN_BACK.fullmatch(plain) if len(plain) < _WHOLE_CHARS else None
    if taken_back and taken_back[1].isupper():
        return _whole_letter(taken_back[1], options)
    stated, rule = decide(list(statements(plain, options)), plain)
    led = _lead_and_end(plain, options)
    if stated != NOTHING:
        if led.letter and stated.letter and led.letter != stated.letter and rule != "final phrase":
            return Verdict(reason=SEVERAL)
        return _verdict(stated, rule)
    if led != NOTHING:
        return _verdict(led, "leading or last letter")
    return _read_loosely(text, plain, options)


def _lead_and_end(plain: str, options: Options) -> Reading:
    """The answer that leads the first line, or makes up the last one."""
    lines = [
        line.strip() for line in (plain[:2000] + "\n" + plain[-2000:] if len(plain) > 4000 else plain).splitlines()
    ]
    lines = [line for line in lines if line]
    listed = Counter(letter for letter in _LIST_MARK.findall(plain) if letter in options.letters)
    marks = listed.keys()
    readings = []
    is_asked = _LETTER_ASKED.match(plain) or is_taken_back(plain, 0)  # "A? No.", "(A) is wrong"
    if (
        not is_asked
        and (len(marks) < 2 or _REASONED.match(plain))
        and (options.has_yes_and_no or _LEADING.match(plain))
    ):
        readings.append(read_statement(plain, options, anywhere=False))
    last = lines[-1] if lines else ""
    if len(lines) > 1 and (first := options.exact(lines[0])) is not None:
        readings.append(Reading(first))
    is_listed = len(marks) > 1 and _LIST_MARK.match(last) and not _is_second_time(last, listed)
    if len(lines) > 1 and not is_listed and len(last) <= _WHOLE_CHARS:
        quick = _QUICK.fullmatch(last)
        exact = options.exact(last)
        if quick and quick[1].isupper():
            readings.append(Reading(*_whole_letter(quick[1], options)[::3]))
        elif exact is not None:
            readings.append(Reading(exact))
        elif _LEADING.match(last):
            readings.append(read_statement(last, options, anywhere=False))
    trailing = _TRAILING.search(last[-12:])
    if trailing and not readings and (trailing[0][0] != "," or len(set(_CAPITAL.findall(last))) == 1):
        before = mentions(last[-_WHOLE_CHARS:], options)
        contradicts = len(before) == 1 and trailing[1] not in before and trailing[1] in options.letters
        readings.append(Reading(None, "letter and text disagree") if contradicts else Reading(trailing[1]))
    return _agreed([reading for reading in readings if reading != NOTHING])


def _is_second_time(line: str, listed: Counter[str]) -> bool:
    """Whether a line repeats one of the options that were listed once each: the answer after the question."""
    letter = _LIST_MARK.findall(line)[0]
    return listed[letter] == 2 and all(count == 1 for other, count in listed.items() if other != letter)


def _read_loosely(text: str, plain: str, options: Options) -> Verdict:
    """Bold texts, one letter in brackets, one option named in few words or in the conclusion."""
    pairs = {
        letter for letter, following in _LETTER_WITH_TEXT.findall(plain[-4000:]) if _leads(following, letter, options)
    }
    if len(pairs) == 1 and not is_refusal(plain):
        return Verdict(pairs.pop(), rule="letter and text")
    if len(pairs) > 1:
        return Verdict(reason=SEVERAL)
    bold = [Reading(letter) for span in _BOLD.findall(text)[-8:] if (letter := _bold(span, options))]
    reading = _agreed(bold)
    if reading.letter:
        return Verdict(reading.letter, rule="bold")
    sentences = [sentence for sentence in _SENTENCES.split(plain[-4000:]) if sentence.strip()]
    is_short = len(sentences) <= _SHORT_SENTENCES and len(plain) < 2000 and len(plain.split()) <= _SHORT_WORDS
    scope = sentences if is_short else [sentence for sentence in sentences[-1:] if _CONCLUDES.search(sentence)]
    scope = [sentence for sentence in scope if not sentence.rstrip().endswith("?")]
    named = set().union(*(mentions(sentence, options) for sentence in scope)) if scope else set()
    bracketed = {letter for letter in _BRACKETED.findall(plain) if letter in options.letters}
    if len(bracketed) == 1:
        return _verdict(_agreed([Reading(letter) for letter in bracketed | named]), "letter in brackets")
    if is_refusal(plain) and not named & options.refusing:
        return Verdict(reason="refusal")
    if len(named) > 1 or ANOTHER in named or len(bracketed) > 1:
        return Verdict(reason=SEVERAL)
    if named or is_short:
        return Verdict(named.pop(), rule="option named") if named else Verdict(reason=NO_ANSWER)
    first = _first_sentence_names(plain.splitlines() if options.is_numeric else sentences, options)
    return Verdict(first, rule="first sentence") if first else Verdict(reason=NO_ANSWER)


def _leads(text: str, letter: str, options: Options) -> bool:
    """Whether a text begins with the option of a letter."""
    index = options.letters.index(letter) if letter in options.letters else len(options.texts)
    if index >= len(options.texts):
        return False
    option, start = fold(options.texts[index]), fold(text)
    return bool(option) and start.startswith(option) and not start[len(option) : len(option) + 1].isalnum()


def _first_sentence_names(sentences: list[str], options: Options) -> str | None:
    """The option that a first sentence names, where no later one names another: the answer and then its reasons.

    Where the options are numbers, any sentence may name it.
    """
    if options.is_numeric:
        numbers = mentions("\n".join(sentences), options)
        return numbers.pop() if len(numbers) == 1 else None
    told = [sentence for sentence in sentences if not sentence.rstrip().endswith("?")]
    named = set().union(*(mentions(sentence, options) for sentence in told))
    if len(named) != 1 or ANOTHER in named or not sentences:
        return None
    first = sentences[0]
    is_answer = first in told and not _NO_CONCLUSION.search(first) and mentions(first, options) == named
    return named.pop() if is_answer else None


def _bold(span: str, options: Options) -> str | None:
    exact = options.exact(span)
    if exact is not None or not _LEADING.match(span):
        return exact
    return read_statement(span, options, anywhere=False).letter


def _agreed(readings: list[Reading]) -> Reading:
    if not readings:
        return NOTHING
    return readings[0] if len(set(readings)) == 1 else Reading(None, SEVERAL)


def _all_agree(readings: list[Reading], rule: str) -> Verdict:
    """One verdict for several answers of the same form; those that cannot be read count where none can."""
    letters = {reading.letter for reading in readings if reading.letter}
    if len(letters) > 1:
        return Verdict(reason=SEVERAL)
    if letters and readings[-1].letter:
        return Verdict(letters.pop(), rule=rule)
    return _verdict(readings[-1], rule)


def _verdict(reading: Reading, rule: str) -> Verdict:
    if reading.letter:
        return Verdict(reading.letter, rule=rule)
    return Verdict(reason=reading.reason or NO_ANSWER)
