"""Phrases after which models state their answer, in the languages they answer in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from .options import Options
from .statements import NOTHING, Reading, read_statement
from .text import MAX_SPOTS

_IS = r"(?:is|was|are|would be|should be|must be|will be|has to be|can be|seems to be|appears to be|likely is)"
_ADVERB = (
    r"(?: (?:clearly|obviously|definitely|certainly|undoubtedly|surely|most likely|most probably|likely|probably|"
    r"therefore|thus|hence|then|simply|indeed|still|also|again))"
)
_INSERTION = (
    r"(?:,? (?:here|in this case|in this (?:video|clip|scene|question)|for (?:the|this) (?:video|clip|question|case)"
    r"|to (?:the|this) question),?|, [^,.\n]{1,40},)"
)
# "the answer is B", "Final Answer: B", "Ans. (B)", "### Final Answer\nB", "The answer here is clearly B"
_LABEL = re.compile(
    r"\b(?<!each )(?<!every )(?<!all )(?<!ing )(?<!this )"
    r"(?P<noun>(?:(?P<final>final|last) )?(?:answer|ans|option|choice|selection|conclusion|prediction|response|output|"
    r"letter|verdict|assistant))\b[\"')]{0,2}"
    rf"(?:{_INSERTION}?(?: {_IS}{_ADVERB}?\b| would{_ADVERB} be| has got to be)(?:, [a-z ]{{1,20}},)?:?"
    r"|(?: \(?[a-z ]{1,20}\))? ?(?:[:=]|=>|-(?= ))|\.(?= ?\()"
    r"|\s{0,3}\n(?=\s{0,6}\S))"
    r"[\s_]{0,8}",
    re.I,
)
_NOUNS = (
    "ans",
    "option",
    "choice",
    "selection",
    "conclusion",
    "prediction",
    "response",
    "output",
    "letter",
    "verdict",
    "assist",
)
_LETTER_THERE = re.compile(r"[\"'(\[ ]{0,4}[A-J](?![A-Za-z0-9'])")
_LETTER_ALONE = re.compile(r"[A-J](?![A-Za-z0-9'])")
# "B is correct", "option (B) is the most likely answer"
_CORRECT = re.compile(
    r"(?<![A-Za-z0-9'])\(?(?P<letter>[A-J])\)?[.:]? (?:is|would be|must be|seems|looks|appears)(?: to be)?"
    r"(?: clearly| the| my)?(?: only| most| more| best)? ?"
    r"\b(?:correct|right|best|likely|final|true|accurate|answer|appropriate|suitable|plausible)\b"
)
# "I choose B", "must be B", "=> B", "so B."
_CHOOSE = re.compile(
    r"(?:\b(?:choose|select|pick|go with|going with|went with|opt for|choosing|selecting|say|"
    r"guess|leads to|points to|matches|corresponds to|makes|probably|likely|looks like|definitely|certainly|maybe|"
    r"perhaps|it's|it is|one is|must be|should be|that's|that is|so|therefore|thus|hence|then)|=>),? {0,2}"
    r"(?:option |choice |answer |letter )?"
    r"\(?(?P<letter>[A-J])\)?(?=[.!,;:)]|\s*$|\s*\n| the (?:correct|right|best|final)\b)",
    re.I,
)
# "the direction aligns with option B"
_AGREES = re.compile(
    r"\b(?:align(?:s|ed)? with|consistent with|agrees? with|corresponds? to|supports?|indicates?|suggests?|"
    r"confirms?|fits?|matches|match) (?:the )?(?:option|choice|answer) \(?(?P<letter>[A-J])\)?(?![A-Za-z0-9'])"
)
# "to find the answer:" announces a task, and what follows is its first step
_TASK = re.compile(
    r"\bto (?:find|determine|get|reach|arrive at|figure out|give|provide|derive|identify|decide on|choose|select|"
    r"obtain|state|conclude)(?: out)?(?: the| an| my| your| our)?(?: correct| right| best| most likely)? ?$",
    re.I,
)
# A clause that says under what condition the answer would be so; how somebody looks at the video is no condition.
_CONDITION_BEFORE = re.compile(
    r"(?:^|[.!?\n;] {0,2})(?:so |then |and |but )?(?:if|when|unless|should|suppose|assuming|in case)\b"
    r"(?! (?:we|you|i|one) (?:look|watch|observe|consider|examine|see|analy|compare|follow|go by|take|focus|pay|think))"
    r"(?:(?!\b(?:but|however|so)\b)[^.!?\n;]){0,200}$",
    re.I,
)
_OPTION_LINE = re.compile(r"\s{0,6}[(\[]?([A-J])[)\].:]\s?\S")
_OTHER_LANGUAGES = re.compile(
    r"(?:答案|选项|選項|选择|選擇|应选|故选|选|選|正解|答え|答|정답|답|الإجابة|उत्तर|đáp án|ответ|respuesta|réponse|"
    r"reponse|antwort|lösung|resposta|risposta|cevap|jawaban)"
    r"(?: {0,2}(?:correcta|correcte|correta|corretta|finale?|đúng|верный|صحيحة))?[ :]{0,3}"
    r"(?:应该是|应为|是|为|為|は|은|는|es|est|ist|lautet|é|è|là|هي|है|adalah|-|=)?[ :]{0,3}"
    r"(?:(?:la|le|die|a|o)\b ?)?(?:(?:lettre|letra|option|opción|opção|opzione|вариант|选项)\b ?)?"
    r"(?P<letter>[\"'(\[]{0,2}[A-J](?![A-Za-z0-9']))",
    re.I,
)
_LANGUAGE_HINTS = ("antwort", "respuesta", "resposta", "risposta", "cevap", "jawaban", "reponse")
_DENIED = re.compile(
    r"(?:\bnot|n't|\bnever|\bcannot)(?: [a-z]{1,12}){0,4} ?$"
    r"|\b(?:wrong|incorrect|false)(?: (?:to|that|the|say|think|claim)){0,4} ?$"
    r"|\b(?:doubt|disagree|unlikely|deny)(?: (?:that|the|if|whether|is)){0,3} ?$"
    r"|\b(?:neither|nor)\b[^.!?]{0,30}$",
    re.I,
)
# What takes a statement back behind it: "The answer is A? No.", "(A) is wrong", "Many say A. They are wrong."
_TAKEN_BACK_AFTER = re.compile(
    r"^[\"')\].,:?! ]{0,4}(?:[a-z0-9 ]{0,40}[.?!,:]? )?"
    r"(?:(?:is|are|was|seems|which is|that is|that's|they are|this is) )?"
    r"(?:clearly |also )?(?:wrong|incorrect|not correct|not right|false|a mistake|ruled out|excluded)\b",
    re.I,
)
_ASKED_AND_DENIED = re.compile(r"^[\"')\].,: ]{0,3}\?\s{0,2}no\b", re.I)
_CORRECTION = re.compile(
    r"\b(?:wait|actually|correction|sorry|mistake|wrong|rather|second thought|re-?consider|re-?evaluat|on reflection|"
    r"let me re|instead|hmm|no,|however|but)",
    re.I,
)


class Statement(NamedTuple):
    """One place where an answer is stated: from `start` to `end` of the text; `is_final` where it says so."""

    start: int
    end: int
    reading: Reading
    is_final: bool


def statements(text: str, options: Options) -> Iterator[Statement]:
    """Every place of a text that states an answer, in order; those that offer nothing are left out."""
    found: list[Statement] = []
    lowered = text.lower()
    for match in _stated(_LABEL, text) if any(noun in lowered for noun in _NOUNS) else ():
        if match["noun"] == "LETTER":  # "$LETTER must be one of ..." of a repeated prompt
            continue
        if announces_task(text, match.start()) or _lists_options(text, match.end()):
            continue
        reading = read_statement(_line(text, match.end()), options)
        found.append(Statement(match.start(), match.end(), reading, bool(match["final"])))
    has_letter = _LETTER_ALONE.search(text) is not None
    for pattern in (_CORRECT, _CHOOSE, _AGREES) if has_letter else ():
        for match in _stated(pattern, text):
            if match["letter"].isupper():
                reading = read_statement(_line(text, match.start("letter")), options, anywhere=False)
                found.append(Statement(match.start(), match.end(), reading, False))
    if not text.isascii() or any(hint in lowered for hint in _LANGUAGE_HINTS):
        for match in _first(_OTHER_LANGUAGES, text):
            reading = read_statement(_line(text, match.start("letter")), options, anywhere=False)
            found.append(Statement(match.start(), match.end(), reading, False))
    found.sort(key=lambda statement: statement.start)
    return (statement for statement in found if statement.reading != NOTHING)


def decide(found: list[Statement], text: str) -> tuple[Reading, str]:
    """What the statements of a text come to, and the rule.

    All agree: that. A final one outweighs the others. What stands before a correction ("wait", "actually") is
    taken back.
    """
    final = [statement for statement in found if statement.is_final]
    if final and final[-1] is not found[-1] and _CORRECTION.search(text, final[-1].end, found[-1].start):
        final = []  # "Final answer: A. Wait, that is wrong. Answer: B"
    for some, rule in ((final, "final phrase"), (found, "phrase")):
        if not some:
            continue
        kept = some[:1]
        for previous, statement in pairwise(some):
            if statement.reading != kept[-1].reading and _CORRECTION.search(text, previous.end, statement.start):
                kept = []
            kept.append(statement)
        readings = {statement.reading for statement in kept}
        if len(readings) == 1:
            return readings.pop(), rule
        return Reading(None, "several answers"), rule
    return NOTHING, ""


def _line(text: str, start: int) -> str:
    """From `start` to the end of its line, at most 300 characters."""
    piece = text[start : start + 300]
    end = piece.find("\n")
    return piece if end < 0 else piece[:end]


def _stated(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Matches that are neither denied, "I do not think the answer is B", nor the end of a condition."""
    for match in _first(pattern, text):
        if _DENIED.search(text[max(0, match.start() - 40) : match.start()]):
            continue
        if _CONDITION_BEFORE.search(text[max(0, match.start() - 220) : match.start()]):
            continue
        if not is_taken_back(text, match.end("letter") if "letter" in pattern.groupindex else match.end()):
            yield match


def is_taken_back(text: str, start: int) -> bool:
    """Whether the letter that ends, or begins, at `start` is denied by what follows, in its sentence or the next."""
    letter = _LETTER_THERE.match(text, start)
    behind = text[letter.end() if letter else start :][:120].partition("\n")[0]
    if _ASKED_AND_DENIED.match(behind):
        return True
    denial = _TAKEN_BACK_AFTER.match(behind)
    # Another letter in between is what the denial is about: "The answer is B, A is wrong."
    return denial is not None and not _LETTER_ALONE.search(denial[0])


def announces_task(text: str, start: int) -> bool:
    """Whether the word at `start` is what a task is about, "to find the answer:": what follows is its first step."""
    return _TASK.search(text[max(0, start - 60) : start]) is not None


def _lists_options(text: str, start: int) -> bool:
    """Whether several options follow, a line each: an echo of the question."""
    letters = []
    for line in text[start : start + 600].split("\n"):
        match = _OPTION_LINE.match(line)
        if match is None and line.strip():
            break
        letters += [match[1]] if match else []
    return len(set(letters)) > 1


def _first(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    for number, match in enumerate(pattern.finditer(text)):
        if number >= MAX_SPOTS:
            return
        yield match
