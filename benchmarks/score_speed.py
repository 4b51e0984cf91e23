"""Scores a million benchmark responses; fails where it takes over a minute: `python benchmarks/score_speed.py`.

The responses are of the forms that models answer in, from a bare letter to a page of reasoning, over made-up questions
in the manner of VLM4D. Checked: forms that name the right option score 1, those that name none score 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time

from mllm4d_verl.data_tools.schema import LETTERS
from mllm4d_verl.evaluation.answers.score import score_answers
from mllm4d_verl.evaluation.benchmarks import Item
from mllm4d_verl.reward import chosen_option, read_truth

LIMIT_S = 60.0
_REASONING = "The car is on one side in the first frame; I compare scale, parallax and occlusion of both frames. " * 15
#: (form, whether it names the right option). {L} is its letter, {T} its text.
FORMS = (
    ("{L}", True),
    ("{L}. {T}", True),
    ("{T}", True),
    ("The answer is {L}.", True),
    ("**{L}. {T}**", True),
    ("\\boxed{{{L}}}", True),
    ('{{"answer": "{L}"}}', True),
    ("Based on the video, it moves. Therefore, the correct answer is ({L}) {T}.", True),
    ("<thinking>\n" + _REASONING + "\n</thinking>\n<answer>{L}</answer>", True),
    ("<think>" + _REASONING + "</think>\n\nThe answer is {T}.", True),
    ("In the first frame it is here.\n\n1. It starts.\n2. It goes on.\n\nFinal answer: {L}", True),
    ("It moves this way: {T}.", True),
    ("I cannot determine this from the video.", False),
    ("A or B", False),
    ("", False),
    ("<think>" + _REASONING, False),
)
_WORDS = ("left", "right", "not moving", "towards the camera", "away from the camera", "up", "down", "clockwise")


def make_items(count: int, rng: random.Random) -> list[Item]:
    """Questions of four options; a fifth of them with integers."""
    items = []
    for number in range(count):
        pool = [str(n) for n in range(9)] if number % 5 == 0 else list(_WORDS)
        options = tuple(rng.sample(pool, 4))
        items.append(Item(str(number), "v.mp4", "c", "Where to?", options, rng.choice("ABCD"), "choice", "t"))
    return items


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=None, help="processes; default: all cores")
    arguments = parser.parse_args()
    rng = random.Random(0)
    questions = make_items(2000, rng)
    items = [rng.choice(questions) for _ in range(arguments.responses)]
    forms = [FORMS[number % len(FORMS)] for number in range(arguments.responses)]
    responses = [form.format(L=item.answer, T=item.answer_text) for item, (form, _) in zip(items, forms, strict=True)]

    cores = len(os.sched_getaffinity(0))
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    scores = score_answers(items, responses, arguments.workers)
    seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - cpu_start
    wrong = sum(score.correct != float(is_right) for score, (_, is_right) in zip(scores, forms, strict=True))
    report = {
        "responses": len(responses),
        "seconds": round(seconds, 2),
        "responses_per_s": round(len(responses) / seconds),
        "characters_per_s": round(sum(map(len, responses)) / seconds),
        "cores": cores,
        "cpu_seconds": round(cpu_seconds, 2),
        "cpu_seconds_per_core": round(cpu_seconds / cores, 2),
        "not_as_expected": wrong,
        "us_per_short_answer": round(_microseconds_per_short_answer(questions), 1),
        "us_per_short_answer_of_reward_chosen_option": round(_microseconds_of_reward(questions), 1),
    }
    print(json.dumps(report))
    if wrong:
        print(f"{wrong} responses did not score as expected", file=sys.stderr)
    # other work on the machine stretches the clock, not the CPU time
    is_slow = min(seconds, cpu_seconds / cores) > LIMIT_S
    if is_slow:
        print(f"took {seconds:.0f} s, more than {LIMIT_S:.0f} s", file=sys.stderr)
    return int(bool(wrong) or is_slow)


def _cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _microseconds_per_short_answer(questions: list[Item]) -> float:
    """One process, "B. left" for every question."""
    answers = [f"{item.answer}. {item.answer_text}" for item in questions]
    start = time.perf_counter()
    score_answers(questions, answers, workers=1)
    return 1e6 * (time.perf_counter() - start) / len(questions)


def _microseconds_of_reward(questions: list[Item]) -> float:
    """The same answers by the reward's own reading, which is stricter."""
    start = time.perf_counter()
    for item in questions:
        truth = read_truth({"answer": item.answer, "options": list(item.options)})
        assert chosen_option(f"{item.answer}. {item.answer_text}", truth) in LETTERS
    return 1e6 * (time.perf_counter() - start) / len(questions)


if __name__ == "__main__":
    sys.exit(main())
