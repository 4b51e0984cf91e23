"""Reads what a text offers as its answer: a letter, letter and text, an option's text, a sentence that names one."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from .options import NUMBER_WORDS, Options, fold, words

SEVERAL = "several answers"
DISAGREE = "letter and text disagree"
NO_SUCH = "no such option"
NO_ANSWER = "no answer"

_FILLER = (
    r"(?:(?:the )?(?:correct |right |best )?(?:option|choice|letter|answer|letra|opción|lettre)s? {0,2}(?:is |[:.] ?)?)"
)
_LETTER = re.compile(
    rf"[\"'(\[{{ ]{{0,4}}{_FILLER}?[\"'(\[{{ ]{{0,3}}([A-Za-z])(?![A-Za-z0-9]|'[A-Za-z])([\"')\]}}]{{0,3}})", re.I
)
# What a prompt writes where the letter belongs, "$LETTER" or "[your answer]", its dollar signs already removed.
_PLACEHOLDER = re.compile(
    r"[\"'({<\[ ]{0,3}(?:(?:LETTER|ANSWER|OPTION|CHOICE|YOUR[ _](?:ANSWER|CHOICE))\b"
    r"|(?<=[<\[{(])(?:option )?(?:letter|answer|your answer|your choice)[>\]})])"
)
_SECOND = re.compile(
    r"[\s)\]\"'.]{0,4}(?:,? ?\b(?:or|and|nor)\b(?: maybe| perhaps| possibly)?|/|&|,|或|和|또는|oder|ou|y|o\b) {0,2}"
    r"(?:option |choice )?[(\[\"']{0,2}([A-J])"
    r"(?=$|[)\]\"'.,;:!?/&\s])(?!\s+(?:is|was|are|goes)\b)"
)
# A second letter after the text of the first: "A (left) or B (right)", "B. right or A. left".
_SECOND_WITH_TEXT = re.compile(
    r"[)\].:, ]{0,3}\(?(?P<own>[^()\n]{1,80}?)[)(, ]{1,3}(?:and/)?or(?: maybe| perhaps| possibly)? (?:option |choice )?"
    r"[(\[]?(?P<other>[A-J])(?=[)\].:]| \(| {0,2}$)"
)
# What follows is a reason for the letter, not its text.
_REASON = re.compile(r"(?:^|[ ,])(?:since|because|as|due to|for|given(?: that)?|considering)\b")
# An article is followed by a word. These words follow a letter, not an article.
_AFTER_LETTER = re.compile(
    r"\s+(?:because|since|as|due|for|which|given|based|and|or|nor|but|is|was|would|with|not|if|seems|fits|matches)\b"
)
_CONDITION = re.compile(r"\W{0,3}(?:option )?[A-J]\W{0,3} (?:if|unless)\b")
_BRACKETED_LETTER = re.compile(r"\((?:option |choice )?([A-J])\)")
_WORD_FOLLOWS = re.compile(r"\s+[a-z]")
_NOT = re.compile(
    r"not (?:option |choice )?[\"'(]{0,2}[A-J][\"')]{0,2},? (?:but|it is|it's|rather) (?:rather )?(?:option )?(?=\S)"
)
_NEGATED = re.compile(r"(?:not|no longer|never|neither)\b")
_ONLY_LETTERS = re.compile(
    r"[\W_]{0,8}[A-J](?:(?:[\W_]{1,8}|[\W_]{1,4}(?:and|or|either)[\W_]{1,4})[A-J]){1,4000}[\W_]{0,8}"
)
_JOINED_LETTERS = re.compile(r"[A-J]{2,10}")
_SENTENCE = re.compile(r"[.!?;](?=\s|$)|\n")
# "no doubt" and "no idea" are no answers
_YES_NO = re.compile(
    r"(yes|yep|yeah|nope|no)\b(?!-)(?![ ,]{1,2}(?:and|or|/) ?(?:yes|no)\b)"
    r"(?! (?:doubt|idea|way|one|answer|information|info|problem|clue|sign|evidence|longer|comment)\b)",
    re.I,
)
_OTHER_YES_NO = re.compile(r"(?:^|[ ,.!?])(yes|no)(?=[.,!?;]|\s*$)", re.I)
_YES_OR_NO = {"yep": "yes", "yeah": "yes", "nope": "no"}
_NUMBER = re.compile(
    r"(?<![\w.,:^/-])[-+]?(?:[0-9]{1,3}(?:,[0-9]{3}){1,4}|[0-9]{1,15})(?:\.[0-9]{1,15})?"
    r"(?: ?(?:m|cm|km|meters?|metres?|centimeters?|centimetres?|kilometers?|kilometres?)\b)?"
    r"(?![\w^/:%°]|[.,][0-9]|-[0-9])"
)
_RANGE = re.compile(r"[0-9] ?(?:-|to) ?[0-9]")
_NOT_ASKED = re.compile(
    r"\b(?:frames?|images?|steps?|figures?|clips?|videos?|options?|questions?) {0,2}#?[0-9]{1,6}"
    r"(?: {0,2}(?:and|to|-|,|&) {0,2}(?:frame )?[0-9]{1,6}){0,8}"
    r"|\b[0-9]{1,4}(?:\.[0-9]{1,3})? ?(?:s|sec|seconds?|minutes?)\b"
    r"|^ {0,4}[0-9]{1,2}[.)] (?=\S)",
    re.M,
)
_NOT_BEFORE = re.compile(r"\b(?:not|rather than|instead of)(?: about| around| just| only)? $")
_NUMBER_WORD = re.compile(
    rf"\b(?:{'|'.join(word for word in NUMBER_WORDS if word not in ('one', 'none'))}"
    r"|one(?= times?\b)|(?<=only )one(?! of\b))\b"
)
_DENIALS = frozenset(
    {"not", "no", "never", "neither", "nor", "without", "rather", "instead", "than", "unlikely", "fails", "failed"}
)
_CONDITIONS = frozenset({"if", "whether", "unless", "when"})  # deny what follows up to the end of the clause
_CLAUSE_ENDS = frozenset(".!?;:,") | {"but"}
_DENIAL_REACH = 4  # words between a denial and what it denies: "not moving to the left"
_DENIED_BEFORE = re.compile(r"\b(?:away from|far from(?: [a-z]+)?|opposite(?: to| of)) $")
_DENIED_AFTER = re.compile(
    r"(?: (?:side|direction|option|choice|answer|motion|movement))?"
    r" (?:(?:is|are|was|were|would be|must be|can be|could be|seems|appears)(?: also| clearly| therefore| obviously)?"
    r" (?:not (?:what|how|case|best|correct|right|accurate|appropriate|possible|true|answer|option|supported|direction)"
    r"|wrong|incorrect|false|inaccurate|impossible|ruled out|excluded|eliminated|dismissed|discarded)\b"
    r"|(?:does|do|did|would|can) not (?:fit|match|describe|apply|align|hold|make sense|work|explain|be)\b)"
)
_JOINS = frozenset({"and", "or", "nor", ",", ", and", ", or"})
# A hand is not a direction, a side is: "in his right hand", "on the right hand side".
_OF_BODY = re.compile(
    r" (?:hand|arm|leg|foot|knee|elbow|shoulder|eye|ear|cheek|wing|paw|thigh|ankle|wrist)s?\b(?! side)"
)
_DIRECTION = (
    "left|right|up|down|toward|away|forward|backward|closer|farther|near|far|clockwise|counterclockwise|north|south|"
    "east|west"
)
_OR_BEFORE = re.compile(rf"\b({_DIRECTION}) or (?:to )?$")
_OR_AFTER = re.compile(rf" or (?:to )?({_DIRECTION})\b")
#: Stands in `mentions` for what no option says: "towards or away" names two directions, whatever the options are, and
#: "up and left" is more than "left" where "left and up" is an option.
ANOTHER = "?"
_DENIAL_CHARS = 60
_SHORT_REST_WORDS = 8  # after a letter, so many words are its text; more are an explanation
_LONGEST_STATEMENT = 300
_MOST_NUMBERS = 64


class Reading(NamedTuple):
    """A letter, or why there is none; both empty where the text offers nothing at all."""

    letter: str | None = None
    reason: str = ""


NOTHING = Reading()


def read_statement(text: str, options: Options, anywhere: bool = True) -> Reading:
    """What a text that is offered as the answer says.

    Args:
        text: without markup, starting where the answer is expected.
        anywhere: also look for an option inside its first sentence, not only at its start.
    """
    text = text[:_LONGEST_STATEMENT].strip()
    if not text:
        return NOTHING
    if _CONDITION.match(text) or _PLACEHOLDER.match(text):
        return NOTHING  # "the answer would be A if ...", "the answer is: $LETTER"
    denied = _NOT.match(text)
    if denied:
        text = text[denied.end() :]
    elif _NEGATED.match(text.lower()) and options.exact(first_sentence(text)) is None:
        return _mentioned(text, options) if anywhere else NOTHING
    sentence = first_sentence(text)
    exact = options.exact(text) or (options.exact(sentence) if len(sentence) < len(text) else None)
    by_letter = _read_letter(text, options)
    if exact is not None:
        if by_letter.letter not in (None, exact) and len(fold(text)) == 1:
            return Reading(None, "a letter and the text of another option")
        return Reading(exact)
    if by_letter != NOTHING:
        return by_letter
    if options.has_yes_and_no and (answer := _YES_NO.match(text)):
        said = {_yes_or_no(answer)} | {_yes_or_no(other) for other in _OTHER_YES_NO.finditer(text, answer.end())}
        return Reading(options.by_text[said.pop()]) if len(said) == 1 else Reading(None, SEVERAL)
    return _mentioned(text, options) if anywhere else NOTHING


def _yes_or_no(match: re.Match[str]) -> str:
    word = match[1].lower()
    return _YES_OR_NO.get(word, word)


def _read_letter(text: str, options: Options) -> Reading:
    """A letter at the start, checked against what follows it."""
    if _JOINED_LETTERS.fullmatch(text.rstrip(". ")) and set(text.rstrip(". ")) <= set(options.letters):
        return Reading(None, SEVERAL)
    match = _LETTER.match(text)
    if match is None:
        return NOTHING
    letter, rest = match[1].upper(), text[match.end() :]
    bracketed = bool(match[2]) and text[match.start(1) - 1 : match.start(1)] in ("(", "[", '"', "'", "{")
    closed = bracketed or not rest.strip() or rest[0] in ".):]"
    if match[1].islower() and not closed:
        return NOTHING
    if letter not in options.letters:
        is_sign = closed and letter <= "J" and not (rest.strip() and letter == "I")
        return Reading(None, NO_SUCH) if is_sign else NOTHING
    may_be_article = letter in "AI" and not closed and _WORD_FOLLOWS.match(rest) and not _AFTER_LETTER.match(rest)
    if may_be_article and options.exact(first_sentence(rest)) != letter:
        return NOTHING  # "A car moves left"
    second = _SECOND.match(rest)
    if second and second[1] in options.letters and second[1] != letter:
        return Reading(None, SEVERAL)
    with_text = _SECOND_WITH_TEXT.match(rest)
    if with_text and with_text["other"] in set(options.letters) - {letter} and options.exact(with_text["own"]):
        return Reading(None, SEVERAL)
    return _check_rest(letter, rest, options)


def _check_rest(letter: str, rest: str, options: Options) -> Reading:
    """The letter, unless the few words after it are another option."""
    said = first_sentence(rest.lstrip(".:)]}=,;- \"'(["))
    if not said or not options.texts:
        return Reading(letter)
    exact = options.exact(said.rstrip(")] "))
    if exact is not None:
        return _same_text(letter, exact, options)
    reason = _REASON.search(said)
    if reason:
        said = said[: reason.start()]
    if len(said.split()) > _SHORT_REST_WORDS:
        return Reading(letter)
    if options.has_yes_and_no and (answer := _YES_NO.match(said)):
        return _same_text(letter, options.by_text[_yes_or_no(answer)], options)
    mentioned = mentions(said, options) - options.refusing - {ANOTHER}  # "B, but I am not sure"
    if len(mentioned) == 1:
        return _same_text(letter, next(iter(mentioned)), options)
    return Reading(letter)


def _same_text(letter: str, by_text: str, options: Options) -> Reading:
    texts = options.texts
    index, other = options.letters.index(letter), options.letters.index(by_text)
    if index == other or fold(texts[index]) == fold(texts[other]):
        return Reading(letter)
    return Reading(None, DISAGREE)


def only_letters(text: str, options: Options) -> Reading:
    """Reading of a text that is nothing but letters: "A or B", "B B B"."""
    if len(text) < 2 or not _ONLY_LETTERS.fullmatch(text):
        return NOTHING
    named = {character for character in text if character.isupper()}
    if len(named) > 1:
        return Reading(None, SEVERAL)
    letter = named.pop()
    return Reading(letter) if letter in options.letters else Reading(None, NO_SUCH)


def _mentioned(text: str, options: Options) -> Reading:
    named = mentions(first_sentence(text), options)
    if len(named) > 1 or ANOTHER in named:
        return Reading(None, SEVERAL)
    if not named:
        return NOTHING
    letter = named.pop()
    for bracketed in _BRACKETED_LETTER.findall(text[:_LONGEST_STATEMENT]):
        if bracketed in options.letters and _same_text(bracketed, letter, options).letter is None:
            return Reading(None, DISAGREE)
    return Reading(letter)


def mentions(text: str, options: Options) -> set[str]:
    """Letters of the options that a text names and does not deny, and `ANOTHER` for what no option says.

    The longest option wins where one contains another. What follows "not", "neither", "rather than" within a few words
    of the same clause is denied; "not moving left" denies "left" even where "not moving" is an option. So is what
    follows "whether" in its clause, what "is wrong" or "does not fit" follows, and what something moves away from.
    """
    if not options.texts:
        return set()
    if options.is_numeric:
        return _numbers_mentioned(text, options)
    pattern = options.mentions
    if pattern is None:
        return set()
    line = words(text)
    named: set[str] = set()
    found = list(pattern.finditer(line))
    following: re.Match[str] | None = None
    is_following_denied = False
    for match in reversed(found):
        between = line[match.end() : following.start()].strip() if following else None
        own, before = match[0], line[max(0, match.start() - _DENIAL_CHARS) : match.start()]
        after = line[match.end() : match.end() + _DENIAL_CHARS]
        denied_after = bool(_DENIED_AFTER.match(after)) or (is_following_denied and between in _JOINS)
        following, is_following_denied = match, denied_after
        if own.startswith(("not ", "no ")) and between in ("", "to", "toward", "in"):
            continue  # "not moving" before "left"
        if own == "toward" and between in ("", "to"):
            continue  # a preposition before "left"
        if denied_after or _OF_BODY.match(after) or _is_denied(before, own):
            continue
        named.add(options.by_words.get(own, ANOTHER))
        if (_OR_BEFORE.search(before) or _OR_AFTER.match(after)) and not _is_option_beside(match, found, line):
            named.add(ANOTHER)
    return named


def _is_option_beside(match: re.Match[str], found: list[re.Match[str]], line: str) -> bool:
    """Whether what stands beside an "or" is an option itself, which is counted by itself."""
    ors = (" or ", " or to ")
    return any(line[a.end() : b.start()] in ors for a, b in pairwise(found) if match in (a, b))


def _is_denied(before: str, own: str) -> bool:
    if _DENIED_BEFORE.search(before):
        return True
    for distance, word in enumerate(reversed(before.split())):
        if word in _CLAUSE_ENDS:
            return False
        if word in _CONDITIONS:
            return True
        if word in _DENIALS and distance < _DENIAL_REACH:
            return not own.startswith(("not ", "no ")) or word in ("rather", "instead", "than")
    return False


def _numbers_mentioned(text: str, options: Options) -> set[str]:
    lowered = _NUMBER_WORD.sub(lambda match: NUMBER_WORDS[match[0]], text.casefold())
    named: set[str] = set()
    listless = _NOT_ASKED.sub(" ", lowered)
    for number, match in enumerate(_NUMBER.finditer(listless)):
        if number >= _MOST_NUMBERS:
            break
        letter = options.number(match[0])
        if letter is not None and not _NOT_BEFORE.search(listless[max(0, match.start() - 20) : match.start()]):
            named.add(letter)
    return named


def first_sentence(text: str) -> str:
    """Text up to its first full stop, exclamation or question mark, semicolon or line end."""
    match = _SENTENCE.search(text)
    return text[: match.start()] if match else text
