"""Why did a response score what it scored? The score as a list of steps, and the text with what counted in it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .accuracy import MAX_ANSWER_CHARS, chosen_option, stated_number
from .components import Component, ComponentError
from .geometry import CenterScore, Slots
from .grammar import ANSWER_CLOSE, ANSWER_OPEN, THINKING_CLOSE, THINKING_OPEN
from .presets import Parts, Sample, format_factor
from .released import (
    _CAMERA_LIST,
    _OBJECT_LIST,
    _first_block,
    _has_list,
    _literals,
    _written_lists,
    released_camera_center_reward,
    released_object_center_reward,
)
from .response import MISSING, Center, Null, Point, Response, Vector
from .st_reward import STReward
from .truth import Truth

MarkKind = Literal["counted", "ignored", "malformed"]

_MAX_QUOTE_CHARS = 40
_MAX_SPOTS_NAMED = 3
_TAG_TEXTS = {"thinking": THINKING_OPEN, "/thinking": THINKING_CLOSE, "answer": ANSWER_OPEN, "/answer": ANSWER_CLOSE}
# A label with a value behind it, wherever it stands: what the parser did not take is shown as ignored.
_STATED = re.compile(
    r"(?:camera|object)[ \t_*]{1,8}cent(?:er|re)[ \t_*`]{0,8}[:=][ \t_*`]{0,8}"
    r"(\[[^\[\]\n]{1,120}\]|\([^()\n]{1,120}\)|null\b|none\b)",
    re.I,
)
_PRIORITY = {"malformed": 0, "counted": 1, "ignored": 2}  # of two marks that begin at one place, the first is kept


class Step(NamedTuple):
    """One step on the way to the score.

    Attributes:
        name: a term of the preset, or a component.
        value: what the term came to, best at 1 (for penalties, worst); None where it does not apply.
        before, after: points before and after this step; `before` is the `after` of the step in front.
        reason: why, in plain words.
    """

    name: str
    value: float | None
    before: float
    after: float
    reason: str


class Mark(NamedTuple):
    """A span of the text, (start, end) in characters: it counted, was left out of account, or was not understood."""

    start: int
    end: int
    kind: MarkKind
    note: str


@dataclass(frozen=True)
class Explanation:
    """Why a response scored what it scored.

    Attributes:
        preset: name of the reward's preset.
        result: what the reward returned; its "score" is the `after` of the last step.
        steps: the preset's terms, then components that earn, then penalties, then those that are only observed. A gated
            preset starts from 1 and loses points, the others start from 0 and earn them.
        marks: spans of the text in order, none overlapping. They show the response grammar; `official` and `paper`
            read the raw text, and their steps say what they found.
        response: the text as it was read.
    """

    preset: str
    result: dict[str, float]
    steps: tuple[Step, ...]
    marks: tuple[Mark, ...]
    response: Response

    @property
    def score(self) -> float:
        """The score, as the reward gave it."""
        return self.result["score"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, the text apart."""
        return {
            "preset": self.preset,
            "score": self.score,
            "steps": [step._asdict() for step in self.steps],
            "marks": [mark._asdict() for mark in self.marks],
            "result": self.result,
        }


def explain(reward: STReward, response: str, truth: Any) -> Explanation:
    """Score a response and say why it scored so. Like scoring, it raises on no text and no truth.

    Args:
        reward: any preset, any components. A component is called a second time only to tell how it failed.
        response: the model's text, without the prompt.
        truth: as `STReward` takes it.

    Example:
        >>> text = "<thinking>It comes closer.</thinking><answer>C</answer>"
        >>> for step in explain(STReward(), text, {"answer": "B"}).steps[:2]:
        ...     print(f"{step.before:.1f} -> {step.after:.1f} {step.name}: {step.reason}")
        1.0 -> 0.5 format: not written: initial camera, initial object, final camera, final object
        0.5 -> 0.0 accuracy: 'C' names C; expected B
    """
    result = reward(response, truth)
    sample = reward.sample(response, truth)
    parsed = sample.response
    parts = reward.preset.parts(sample, reward.weights)
    steps = _gated_steps(reward, sample, parts) if reward.preset.is_gated else _added_steps(reward, sample, parts)
    steps += _component_steps(reward, sample, parts, result)
    return Explanation(reward.preset.name, result, tuple(steps), _marks(parsed), parsed)


# ------------------------------------------------------------------------------------------------------------- steps


def _gated_steps(reward: STReward, sample: Sample, parts: Parts) -> list[Step]:
    """The formula of `presets.gated_parts`, term by term, from 1 down."""
    weights, gate = reward.weights, parts.gate
    after_format = format_factor(parts.format, weights)
    camera_share = sample.camera.informativeness * weights["camera_center_weight"]
    object_share = sample.object.informativeness * weights["object_center_weight"]
    shares = camera_share + object_share
    camera_loss = camera_share / shares * (1.0 - parts.camera_center) if shares > 0 else 0.0
    after_camera = gate * (1.0 - weights["st_weight"] * camera_loss)
    response, truth = sample.response, sample.truth
    camera = _center_step("camera_center", response.camera_center, truth.camera_center, sample.camera, camera_share)
    object_ = _center_step("object_center", response.object_center, truth.object_center, sample.object, object_share)
    return [
        Step("format", parts.format, 1.0, after_format, _format_reason(response)),
        Step("accuracy", parts.accuracy, after_format, gate, _accuracy_reason(response, truth, parts.accuracy)),
        camera._replace(before=gate, after=after_camera),
        object_._replace(before=after_camera, after=gate * parts.base),
    ]


def _added_steps(reward: STReward, sample: Sample, parts: Parts) -> list[Step]:
    """The weighted sum of the released components, term by term, from 0 up; back to 0 where the released code fails."""
    weights, text, truth = reward.weights, sample.response.text, sample.raw_truth
    after_format = weights["format_weight"] * parts.format
    after_accuracy = after_format + weights["accuracy_weight"] * parts.accuracy
    after_camera = after_accuracy + weights["camera_center_weight"] * parts.camera_center
    terms = (
        ("format", parts.format, after_format, _released_format_reason(text)),
        ("accuracy", parts.accuracy, after_accuracy, _released_accuracy_reason(text, truth)),
        ("camera_center", parts.camera_center, after_camera, _released_center_reason(text, truth, "camera_center")),
        ("object_center", parts.object_center, parts.base, _released_center_reason(text, truth, "object_center")),
    )
    steps: list[Step] = []
    before = 0.0
    for name, value, after, reason in terms:
        steps.append(Step(name, value, before, after, f"{reason}; weight {weights[f'{name}_weight']:g}"))
        before = after
    if parts.fault:
        steps.append(Step("released_fault", 1.0, before, 0.0, "the released code raises or returns NaN on this truth"))
    return steps


def _component_steps(reward: STReward, sample: Sample, parts: Parts, result: dict[str, float]) -> list[Step]:
    steps: list[Step] = []
    earned = shares = lost = 0.0
    points = top = parts.gate * parts.base
    rank = {"reward": 0, "penalty": 1, "metric": 2}
    for component in sorted(reward.components, key=lambda component: rank[component.kind]):
        name, weight = component.name, reward.weights[f"{component.name}_weight"]
        if not result[f"{name}_applies"]:
            steps.append(Step(name, None, points, points, _why_not(component, sample, result)))
            continue
        value, before = result[name], points
        if component.kind == "metric":
            reason = "only observed"
        elif component.kind == "penalty":
            lost += weight * value
            points = top - lost
            reason = f"penalty of weight {weight:g}"
        else:
            earned += weight * value
            shares += weight
            points = top = parts.gate * (parts.base + earned) / (1.0 + shares if reward.preset.is_gated else 1.0)
            reason = f"shares the score with weight {weight:g}" if reward.preset.is_gated else f"weight {weight:g}"
        steps.append(Step(name, value, before, points, reason))
    return steps


def _why_not(component: Component, sample: Sample, result: dict[str, float]) -> str:
    if result["component_errors"]:
        try:
            component(sample.response, sample.truth)
        except ComponentError as failure:
            return f"failed: {failure}"
    return "does not apply"


# ----------------------------------------------------------------------------------------------------------- reasons


def _format_reason(response: Response) -> str:
    if not response.well_tagged or response.answer is None:
        return "; ".join(_tag_faults(response))
    slots = _named_slots(response)
    missing = [name for name, center in slots if center is MISSING]
    if not missing:
        return "well tagged, all four centres written"
    reasons = ["not written: " + ", ".join(missing)]
    reasons += [f"{spot.reason} at character {spot.span[0]}" for spot in response.malformed[:_MAX_SPOTS_NAMED]]
    return "; ".join(reasons)


def _tag_faults(response: Response) -> list[str]:
    """What keeps a response from being one thinking block, then one answer block, and nothing else; never empty."""
    names = [name for name, _ in response.tags]
    tag_spans = {span for _, span in response.tags}
    faults = [f"{text} is missing" for name, text in _TAG_TEXTS.items() if name not in names]
    faults += [spot.reason for spot in response.malformed if spot.span in tag_spans][:_MAX_SPOTS_NAMED]
    if len(response.answers) > 1:
        faults.append(f"{len(response.answers)} answers")
    elif response.answers and response.answer is None:
        faults.append("the answer is empty")
    if names.count("thinking") > 1 and names.count("/thinking") > 1:
        faults.append(f"{names.count('/thinking')} thinking blocks")
    if not faults and names[0] == "answer":
        faults.append("the answer stands before the thinking")
    return faults or [f"text outside the blocks: {_quote(_outside(response))}"]


def _outside(response: Response) -> str:
    """Text before, between and after the blocks of a response with one thinking and one answer block."""
    pieces, position = [], 0
    for start, end in (response.thinking_span or (0, 0), response.answers[0].span):
        pieces.append(response.text[position:start].strip())
        position = end
    pieces.append(response.text[position:].strip())
    return " ... ".join(filter(None, pieces))


def _accuracy_reason(response: Response, truth: Truth, value: float) -> str:
    if not (truth.letter or truth.answer_text or truth.value is not None):
        return "the truth has no answer"
    expected = _expected(truth)
    if not response.answers:
        return f"no answer block outside thinking; expected {expected}"
    if len(response.answers) > 1:
        quoted = ", ".join(_quote(answer.text) for answer in response.answers[:_MAX_SPOTS_NAMED])
        return f"{len(response.answers)} answers ({quoted}): none counts; expected {expected}"
    if response.answer is None:
        return f"the answer is empty; expected {expected}"
    answer = _quote(response.answer)
    if len(response.answer) > MAX_ANSWER_CHARS:
        return f"{answer} is longer than {MAX_ANSWER_CHARS} characters; expected {expected}"
    if truth.value is not None and not truth.options and truth.letter is None:
        number = stated_number(response.answer, truth.fields.get("unit"))
        if number is None:
            return f"{answer} is not a number; expected {expected}"
        return f"{answer} for {truth.value:g}: mean relative accuracy {value:g}"
    letter = chosen_option(response.answer, truth)
    if letter is not None:
        return f"{answer} names {letter}; expected {expected}"
    return f"{answer} is {'right' if value else 'no option, or several'}; expected {expected}"


def _expected(truth: Truth) -> str:
    if truth.letter is None:
        return _quote(truth.answer_text) if truth.answer_text else f"{truth.value:g}"
    return f"{truth.letter} ({_shorten(truth.answer_text)})" if truth.answer_text else truth.letter


def _center_step(name: str, stated: tuple[Center, Center], true: Slots, score: CenterScore, share: float) -> Step:
    """The step without its points."""
    if not score.needed:
        return Step(name, None, 0.0, 0.0, "not needed")
    reasons = [
        f"{side}: {_written(center)}, true {_numbers(point)}{_off(center, point)}"
        for side, center, point in zip(("initial", "final"), stated, true, strict=True)
        if point is not None
    ]
    start, end = stated
    if true[0] is not None and true[1] is not None and isinstance(start, Vector) and isinstance(end, Vector):
        moved, truly = _minus(end.xyz, start.xyz), _minus(true[1], true[0])
        reasons.append(f"motion: {math.dist(moved, truly):.3g} m off")
    if share == 0.0:
        reasons.append("its weight is 0")
    return Step(name, score.value, 0.0, 0.0, "; ".join(reasons))


def _written(center: Center) -> str:
    if isinstance(center, Vector):
        return _numbers(center.xyz)
    return "null" if isinstance(center, Null) else "not written"


def _numbers(point: Point) -> str:
    return "[" + ", ".join(f"{number:.3g}" for number in point) + "]"


def _off(center: Center, point: Point) -> str:
    return f", {math.dist(center.xyz, point):.3g} m off" if isinstance(center, Vector) else ""


def _minus(left: Point, right: Point) -> Point:
    return left[0] - right[0], left[1] - right[1], left[2] - right[2]


def _released_format_reason(text: str) -> str:
    thinking = _first_block(text, THINKING_OPEN, THINKING_CLOSE)
    missing = []
    if thinking is None or _first_block(text, ANSWER_OPEN, ANSWER_CLOSE) is None:
        missing.append("both pairs of tags (0.5)")
    if not (_has_list(text, _OBJECT_LIST) and _has_list(text, _CAMERA_LIST)):
        missing.append("a list after both labels (0.4)")
    if thinking is None or thinking[1] - thinking[0] <= 20:
        missing.append("more than 20 characters of thinking (0.1)")
    return "missing: " + ", ".join(missing) if missing else "tags and lists are there"


def _released_accuracy_reason(text: str, truth: Any) -> str:
    block = _first_block(text, ANSWER_OPEN, ANSWER_CLOSE)
    place = "the whole text, no tags" if block is None else "the first answer block"
    answer = text if block is None else text[block[0] + len(ANSWER_OPEN) : block[1] - len(ANSWER_CLOSE)]
    try:
        expected = truth["answer"]
    except Exception:  # whatever a truth of the wrong kind raises
        return "the released code fails: the truth has no answer"
    return f"{_quote(answer.strip())} ({place}) is compared with {_quote(str(expected))}"


def _released_center_reason(text: str, truth: Any, field: str) -> str:
    score = released_camera_center_reward if field == "camera_center" else released_object_center_reward
    value = score(text, truth)
    if value is None:
        return "the released code fails on this truth"
    stated = len(_literals(_written_lists(text, _CAMERA_LIST if field == "camera_center" else _OBJECT_LIST)))
    true = sum(center is not None for center in truth.get(field, ()))
    if true == 0:
        return "not needed, none stated" if stated == 0 else f"{stated} stated where none is needed"
    if value == 0.0 and stated != true:
        return f"{stated} stated, {true} true: the counts must agree"
    if value == 0.0:
        return f"{stated} stated, {true} true: far off, or not three numbers"
    return f"{stated} stated, {true} true: {abs(math.log(value)):.3g} m off on average"


# ------------------------------------------------------------------------------------------------------------- marks


def _marks(response: Response) -> tuple[Mark, ...]:
    found = [Mark(*spot.span, "malformed", spot.reason) for spot in response.malformed]
    found += _tag_marks(response)
    found += _state_marks(response)
    found += _unused_marks(response)
    marks: list[Mark] = []
    position = 0
    for mark in sorted(found, key=lambda mark: (mark.start, _PRIORITY[mark.kind])):
        if position <= mark.start < mark.end:
            marks.append(mark)
            position = mark.end
    return tuple(marks)


def _tag_marks(response: Response) -> Iterator[Mark]:
    """Tags and answers. An answer counts if it is the only one and not empty."""
    counted_from, counted_to = set(), set()
    if response.thinking_span is not None:
        counted_from.add(response.thinking_span[0])
        counted_to.add(response.thinking_span[1])
    kind: MarkKind = "ignored" if response.answer is None else "counted"
    note = (
        "answer" if response.answer is not None else "empty answer" if len(response.answers) == 1 else "one of several"
    )
    ends = {span[1]: span[0] for _, span in response.tags}
    starts = {span[0]: span[1] for _, span in response.tags}
    for answer in response.answers:
        yield Mark(starts[answer.span[0]], ends[answer.span[1]], kind, note)
        if kind == "counted":
            counted_from.add(answer.span[0])
            counted_to.add(answer.span[1])
    for _, (start, end) in response.tags:
        if start in counted_from or end in counted_to:
            yield Mark(start, end, "counted", "tag")
        else:
            yield Mark(start, end, "ignored", "tag of no block that counts")


def _state_marks(response: Response) -> Iterator[Mark]:
    for state in response.states:
        side = "initial" if state == response.initial else "final" if state == response.final else None
        kind: MarkKind = "ignored" if side is None else "counted"
        if state.header is not None:
            yield Mark(*state.header, kind, f"{side} state" if side else "a state between the two ends")
        for name, center in (("camera", state.camera_center), ("object", state.object_center)):
            if not isinstance(center, (Vector, Null)):
                continue
            null = ", null" if isinstance(center, Null) else ""
            yield Mark(*center.span, kind, f"{side or 'in-between'} {name} centre{null}")


def _unused_marks(response: Response) -> Iterator[Mark]:
    """Every labelled value of the text; those that counted or were malformed are marked already and win."""
    thinking = response.thinking_span
    for match in _STATED.finditer(response.text):
        if thinking is None:
            note = "no closed thinking block before an answer: no centre counts"
        elif not thinking[0] <= match.start() < thinking[1]:
            note = "outside the thinking block"
        else:
            note = "the first value of a slot counts"
        yield Mark(*match.span(1), "ignored", note)


def _named_slots(response: Response) -> list[tuple[str, Center]]:
    return [
        (f"{side} {name}", center)
        for side, state in (("initial", response.initial), ("final", response.final))
        for name, center in (("camera", state.camera_center), ("object", state.object_center))
    ]


def _quote(text: str) -> str:
    return repr(_shorten(text))


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_QUOTE_CHARS else text[: _MAX_QUOTE_CHARS - 3] + "..."
