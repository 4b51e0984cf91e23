"""The options of a question, made ready for being looked up and looked for in a text, in any order of the options."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property, lru_cache
from itertools import zip_longest

from mllm4d_verl.data_tools.schema import LETTERS
from mllm4d_verl.reward import Truth, chosen_option
from mllm4d_verl.reward.accuracy import stated_number

from .text import clean

_WORD = re.compile(r"[^\W_]+(?:['.-][^\W_]+){0,8}|[.!?;:,()\[\]\n]")
_ARTICLES = frozenset({"a", "an", "the"})
_THERE_IS = re.compile(r"^there (?:is|are|was|were) ")
_IN_THE_VIDEO = re.compile(r" (?:in|on) (?:video|scene|image|frame)$| there$")
_MOVING = re.compile(r"^(?:moving|going|coming|getting|heading|from|to|turning) (?:to |toward )?(?=\w)")
#: Spellings of the same word, applied to the tokens of options and responses alike.
_SAME_WORD = {
    "towards": "toward",
    "forwards": "forward",
    "backwards": "backward",
    **dict.fromkeys(("leftward", "leftwards", "lefthand"), "left"),
    **dict.fromkeys(("rightward", "rightwards", "righthand"), "right"),
    **dict.fromkeys(("upward", "upwards"), "up"),
    **dict.fromkeys(("downward", "downwards"), "down"),
    "sidewards": "sideward",
    "anticlockwise": "counterclockwise",
    "cannot": "can not",
    "further": "farther",
}
_NOT = re.compile("n't", re.I)
_TWO_WORDS = re.compile(r"\b(?:counter|anti) clockwise\b")
_CORNERS = (("upper left", "up and left"), ("upper right", "up and right"), ("lower left", "down and left"))
_CORNERS += (("lower right", "down and right"),)
# "right" that is no direction, "no" that denies nothing
_NO_DIRECTION = re.compile(
    r"\bright (?=(?:answer|option|choice|letter|now|away|before|after|behind|in front|next to|at start|at end)\b)"
    r"|(?:(?<=\byou're )|(?<=\byou are )|(?<=\bthat's )|(?<=\ball ))right (?=[,.:;!])"
    r"|(?:(?<=give )|(?<=gives )|(?<=gave )|(?<=stands )|(?<=stood )|(?<=ends ))up\b"
    r"|(?:(?<=sit )|(?<=sits )|(?<=sat )|(?<=lie )|(?<=lies )|(?<=slows ))down\b"
)
_NO_DENIAL = re.compile(r"\bno (?=(?:doubt|question|problem)\b)")
#: Options that count things by name, "Option 2" or "Sentence 3": the number is a name, not a quantity.
_NUMBERED = re.compile(
    r"\s*(?:option|choice|sentence|statement|description|answer|figure|image|picture|frame|video)\b", re.I
)
#: Option texts that stand in every sentence with another meaning: read as whole answers and at the start only.
_COMMON = frozenset({"yes", "no", "not", "i", "it", "one", "is", "in", "on", "to", "of", "and", "or"})
_REFUSAL = re.compile(
    r"\b(?:can ?not|can't|could not|couldn't|unable to|not able to|impossible to|not possible to|hard to|difficult to)"
    r" (?:be |accurately |definitively |really )?"
    r"(?:answer|determin|tell|say|see|identif|provide|watch|view|assist|help|infer|conclu|process|analy|know|access)"
    r"|\b(?:as an ai|i'm sorry|i am sorry|not enough information|insufficient|not sure|unsure|unclear|uncertain"
    r"|unknown)"
    r"|\b(?:i|we) (?:do not|don't) know",
    re.I,
)
NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        (
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
            *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
        )
    )
} | {"once": "1", "twice": "2", "none": "0"}


class Options:
    """The options of one question.

    Attributes:
        texts: option texts in letter order.
        letters: their letters; all that are known where the texts are not.
        by_text: folded text -> first letter that has it.
    """

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts = tuple(map(clean, texts))  # as responses are: "doesn’t move" with a typographic apostrophe
        self.letters = LETTERS[: len(texts)] if texts else LETTERS
        self.by_text: dict[str, str] = {}
        for letter, text in zip(self.letters, texts, strict=False):
            self.by_text.setdefault(fold(text), letter)
        self._truth = Truth("", None, None, texts, (None, None), (None, None))

    @cached_property
    def by_words(self) -> dict[str, str]:
        """Words without articles and spelling variants -> letter, where one option alone has them."""
        own, keys = (
            _only_of_one((form(text), letter) for text, letter in self.by_text.items())
            for form in (_own_words, key_words)
        )
        return {form: letter for form, letter in (keys | own).items() if form and letter}

    @cached_property
    def other_orders(self) -> frozenset[str]:
        """Words that say an option of two things in another order than it does."""
        return frozenset(other for form in self.by_words for other in _other_orders(form)) - self.by_words.keys()

    @cached_property
    def is_numeric(self) -> bool:
        """Whether every option is a number, with or without a unit."""
        return bool(self.texts) and all(
            stated_number(text) is not None and not _NUMBERED.match(text) for text in self.texts
        )

    @cached_property
    def has_yes_and_no(self) -> bool:
        return "yes" in self.by_text and "no" in self.by_text

    @cached_property
    def refusing(self) -> frozenset[str]:
        """Letters of options that themselves say that it cannot be told."""
        return frozenset(letter for text, letter in self.by_text.items() if _REFUSAL.search(text))

    @cached_property
    def mentions(self) -> re.Pattern[str] | None:
        """Finds the words of any option among words, the longest first; None where there is nothing to look for."""
        known = [*self.by_words, *self.other_orders]
        forms = sorted((form for form in known if form not in _COMMON), key=lambda form: (-len(form), form))
        if not forms or self.is_numeric:
            return None
        return re.compile(rf"(?<![^ ])(?:{'|'.join(map(re.escape, forms))})(?![^ ])")

    @cached_property
    def _longest_exact(self) -> int:
        """Characters; a longer text has more in it than an option, its articles and its "there is ... in the video"."""
        return 2 * max(map(len, self.texts), default=0) + 40

    @cached_property
    def _is_start_of_another(self) -> frozenset[str]:
        return frozenset(a for a in self.by_text for b in self.by_text if a != b and b.startswith(a))

    def exact(self, text: str) -> str | None:
        """Letter of the option that `text` is: its text, its words, or a number equal to its number."""
        if len(text) > self._longest_exact:
            return None
        folded = fold(text)
        if not folded or not self.texts:
            return None
        if (letter := self.by_text.get(folded)) is not None:
            return letter
        if self.is_numeric:
            return self.number(NUMBER_WORDS.get(folded.removesuffix(" times").removesuffix(" time"), folded))
        own = _own_words(folded)
        return self.by_words.get(own) or self.by_words.get(_key(own))

    def number(self, text: str) -> str | None:
        """Letter of the option whose number `text` is, as the reward compares numbers and units of length."""
        if not self.is_numeric or not any(character.isdigit() for character in text):
            return None
        return _option_of_number(text, self._truth)

    def may_be_cut(self, text: str) -> bool:
        """Whether `text` might be the beginning of a longer option."""
        return fold(text) in self._is_start_of_another


@lru_cache(maxsize=16384)
def get_options(texts: tuple[str, ...]) -> Options:
    """The prepared options; kept, since many responses share them."""
    return Options(texts)


@lru_cache(maxsize=16384)
def _option_of_number(text: str, options: Truth) -> str | None:
    return chosen_option(text, options)


def fold(text: str) -> str:
    """Text without case, quotes, brackets around it, doubled spaces and final marks."""
    return " ".join(text.split()).strip(" \"'").rstrip(".!;,: ").strip("\"'").casefold()


def words(text: str) -> str:
    """Words and marks of a text, lower case, one space between; articles left out, spellings made alike."""
    tokens: list[str] = []
    found = _WORD.findall(_NOT.sub(" not", text))
    for token, following in zip_longest(found, found[1:], fillvalue="."):
        is_name = token == "A" and bool(tokens) and tokens[-1][0].isalnum()  # "Sentence A"
        token = token.casefold()
        if token in _ARTICLES and following[0].isalnum() and not is_name:  # not the letter of "left A."
            continue
        if "-" in token and not token[0].isdigit():
            token = token.replace("-", "")
        token = _SAME_WORD.get(token, token)
        tokens.append("." if token == "\n" else token)
    joined = _TWO_WORDS.sub("counterclockwise", " ".join(tokens))
    if "er left" in joined or "er right" in joined:
        for corner, directions in _CORNERS:
            joined = joined.replace(corner, directions)
    return (
        _NO_DENIAL.sub("", _NO_DIRECTION.sub("", joined))
        if "right" in joined or "no " in joined or " up" in joined or " down" in joined
        else joined
    )


def key_words(text: str) -> str:
    """The words that matter: "there are no cars in the video" -> "no cars", "to the left" -> "left"."""
    return _key(_own_words(text))


def _key(own: str) -> str:
    return _MOVING.sub("", _IN_THE_VIDEO.sub("", _THERE_IS.sub("", own)))


def _other_orders(form: str) -> list[str]:
    """Other ways to say two things that hold at once: "left and up" -> "up and left", "up and to left", "up left"."""
    first, conjunction, second = form.partition(" and ")
    if not conjunction or " and " in second or max(len(first.split()), len(second.split())) > 2:
        return []
    pairs = ((first, second), (second, first))
    return [f"{a}{between}{b}" for a, b in pairs for between in (" and ", " and to ", " ")]


def _own_words(text: str) -> str:
    return words(text).rstrip(" .,;:!")


def _only_of_one(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Form -> letter; "" where several letters share the form."""
    found: dict[str, str] = {}
    for form, letter in pairs:
        found[form] = letter if found.get(form, letter) == letter else ""
    return found


def is_refusal(text: str) -> bool:
    """Whether the text says that it cannot or will not answer."""
    return _REFUSAL.search(text) is not None
