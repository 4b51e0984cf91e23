"""Verdicts of a judge model behind an OpenAI-compatible endpoint: shown beside the rule's, never in their place.

A judge reads answers that no rule reads, and is lenient in ways that cannot be repeated. So the rule's figures are the
result; the judge's are reported with how often the two agree.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from mllm4d_verl.data_tools.control_tokens import as_plain_text
from mllm4d_verl.data_tools.endpoint import BadReplyError, ChatClient, Endpoint, GiveUp, without_thoughts
from mllm4d_verl.data_tools.schema import LETTERS
from mllm4d_verl.evaluation.benchmarks.base import CHOICE, Item

from .score import Score

PROMPT = """A model was asked a multiple-choice question about a video. Say which option its response commits to. \
Do not answer the question yourself, and do not judge whether the response is right.

Question: {question}
{options}

Response of the model:
<<<
{response}
>>>

Reply with the letter of the one option that the response commits to. Reply NONE if it commits to no option, to \
several, or refuses."""
_LETTER = re.compile(r"\W*(?:option |answer:? ?)?\W*([A-J]|none)\W*", re.I)
_LONGEST_RESPONSE = 12_000  # characters; the end is kept, where the answer stands
_MAX_TOKENS = 2048  # judges that think need them; the reply itself is a word
_GIVE_UP_AFTER = 10


class Judgement(NamedTuple):
    """What a judge says.

    Attributes:
        choice: letter of the option; None for none, or where the judge was not asked or gave no verdict.
        origin: "endpoint", "cache", "nobody" (no verdict), or "not asked" (questions that ask for a number).
        problem: why there is no verdict.
    """

    choice: str | None
    origin: str
    problem: str = ""

    @property
    def is_verdict(self) -> bool:
        """Whether the judge gave one, NONE included."""
        return self.origin in ("endpoint", "cache")


def judge_responses(
    items: Sequence[Item],
    responses: Sequence[str],
    endpoint: Endpoint,
    *,
    cache_dir: str = "",
    threads: int = 8,
    progress: Callable[[int, int | None], None] | None = None,
) -> list[Judgement]:
    """Ask a judge about every response to a multiple-choice item, in the order given.

    Args:
        items, responses: item by item.
        endpoint: whom to ask; temperature 0.
        cache_dir: folder of earlier replies, by content of the request; empty keeps none.
        threads: requests at a time.
        progress: called with (judged so far, all).

    Raises:
        InputError: httpx is not installed, or the endpoint's settings cannot be.
    """
    endpoint.check("--judge-")
    give_up = GiveUp(_GIVE_UP_AFTER, "responses")
    done = 0
    judgements = []
    with ChatClient(endpoint, prefix="--judge-", cache_dir=cache_dir) as client, ThreadPoolExecutor(threads) as pool:

        def judge(item: Item, response: str) -> Judgement:
            if item.kind != CHOICE or not item.options:
                return Judgement(None, "not asked")
            if not response.strip():
                return Judgement(None, "not asked", "the response is empty")
            if give_up.given_up:
                return Judgement(None, "nobody", give_up.given_up)
            return _ask(client, give_up, item, response)

        for judgement in pool.map(judge, items, responses):
            judgements.append(judgement)
            done += 1
            if progress is not None:
                progress(done, len(items))
    return judgements


def describe_judge(endpoint: Endpoint) -> dict[str, Any]:
    """What a result file has to say about the judge: model, address, digest of the prompt."""
    return {
        "model": endpoint.model,
        "base_url": endpoint.base_url,
        "temperature": 0.0,
        "prompt_sha256": hashlib.sha256(PROMPT.encode()).hexdigest(),
    }


def agreement(scores: Sequence[Score], judgements: Sequence[Judgement], items: Sequence[Item]) -> dict[str, Any]:
    """How often judge and rule read the same, over the responses that the judge gave a verdict on.

    Returns:
        judged, unjudged: counts.
        agree: percent of the judged with the same option, or none by both. None without any.
        kappa: Cohen's kappa of the same: agreement beyond chance. None where chance alone agrees everywhere.
        only_judge: the judge names an option where the rule reads none: how much more lenient it is.
        only_rule: the other way round.
        other_option: both name one, and not the same.
        strict: accuracy by the judge over the judged, percent, as `strict_by_rule` is over the same responses.
    """
    pairs = [
        (_folded(score.verdict.choice, item), _folded(judgement.choice, item), item)
        for score, judgement, item in zip(scores, judgements, items, strict=True)
        if judgement.is_verdict
    ]
    n = len(pairs)
    same = sum(rule == judge for rule, judge, _ in pairs)
    labels = {label for rule, judge, _ in pairs for label in (rule, judge)}
    by_chance = sum(
        sum(rule == label for rule, _, _ in pairs) * sum(judge == label for _, judge, _ in pairs) for label in labels
    )
    by_chance = by_chance / n**2 if n else 1.0
    return {
        "judged": n,
        "unjudged": len(judgements) - n,
        "agree": 100 * same / n if n else None,
        "kappa": (same / n - by_chance) / (1 - by_chance) if by_chance < 1 else None,
        "only_judge": sum(rule is None and judge is not None for rule, judge, _ in pairs),
        "only_rule": sum(rule is not None and judge is None for rule, judge, _ in pairs),
        "other_option": sum(None not in (rule, judge) and rule != judge for rule, judge, _ in pairs),
        "strict": 100 * sum(judge in item.right_letters for _, judge, item in pairs) / n if n else None,
        "strict_by_rule": 100 * sum(rule in item.right_letters for rule, _, item in pairs) / n if n else None,
    }


def _ask(client: ChatClient, give_up: GiveUp, item: Item, response: str) -> Judgement:
    letters = LETTERS[: len(item.options)]

    def read(content: str) -> str:
        match = _LETTER.fullmatch(without_thoughts(content).strip())
        if match is None or (match[1].upper() not in letters and match[1].upper() != "NONE"):
            raise BadReplyError(f"one of {', '.join(letters)} or NONE is expected, got {content[:80]!r}")
        return match[1].upper()

    options = "\n".join(f"{letter}. {option}" for letter, option in zip(letters, item.options, strict=True))
    texts = {"question": item.question, "options": options, "response": response[-_LONGEST_RESPONSE:]}
    prompt = PROMPT.format(**{name: as_plain_text(text) for name, text in texts.items()})
    payload = {
        "model": client.endpoint.model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0.0,
        "max_tokens": _MAX_TOKENS,
    }
    reply = client.ask(payload, read, "Reply with one letter, or NONE.")
    give_up.count(reply.is_unanswered, reply.problem)
    return Judgement(None if reply.value in (None, "NONE") else reply.value, reply.origin, reply.problem)


def _folded(choice: str | None, item: Item) -> str | None:
    """Options with the same text are the same answer."""
    return min(item.right_letters) if choice in item.right_letters else choice
