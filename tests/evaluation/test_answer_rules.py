"""The rule scorer against hand-made verdicts, and what must hold on any text."""

import itertools
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm4d_verl.data_tools.schema import LETTERS
from mllm4d_verl.evaluation.answers import Verdict, number_score, read_choice, read_number
from mllm4d_verl.evaluation.answers.text import clean

_STANDALONE_LETTER = re.compile(r"(?<![A-Za-z])[A-Ja-j](?!'?[A-Za-z])|[A-J]{2}")
HERE = Path(__file__).parent
GROUPS = yaml.safe_load((HERE / "verdicts.yaml").read_text(encoding="utf-8"))
NUMBERS = yaml.safe_load((HERE / "numbers.yaml").read_text(encoding="utf-8"))

DIRECTIONS = ("left", "right", "not moving", "towards the camera")
OPTION_SETS = [tuple(group["options"]) for group in GROUPS]
# What stands in answers, so that random texts meet the rules.
PIECES = [
    *("A", "B", "c", "(D)", "B.", "The answer is", "Answer:", "option", "is correct", "not", "no", "or", "and", "\n"),
    *(
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "\\boxed{",
        "}",
        '{"answer": "',
        '"}',
        "**",
        "so",
        "it's",
        "wait",
    ),
    *(
        "left",
        "right",
        "not moving",
        "towards the camera",
        "2",
        "2.5 m",
        "two",
        "yes",
        "frame 3",
        "the",
        ".",
        ",",
        "答案是",
    ),
]
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))


class TestFixture:
    def test_is_large_and_says_everything_once(self):
        cases = [(tuple(group["options"]), case[1]) for group in GROUPS for case in group["cases"]]
        assert len(cases) >= 300
        assert len(set(cases)) == len(cases)

    @pytest.mark.parametrize("group", GROUPS, ids=lambda group: ", ".join(group["options"])[:40] or "unknown")
    def test_the_scorer_agrees_with_every_verdict(self, group):
        options = tuple(group["options"])
        found = [[read_choice(response, options).choice or "invalid", response] for _, response, _ in group["cases"]]
        assert found == [[verdict, response] for verdict, response, _ in group["cases"]]

    def test_the_scorer_agrees_with_every_number(self):
        for wanted, unit, response, note in NUMBERS:
            verdict = read_number(response, unit or None)
            assert (verdict.number if verdict.is_valid else "invalid") == wanted, (response, note)


class TestVerdict:
    def test_says_which_rule_found_it(self):
        assert read_choice("B", DIRECTIONS) == Verdict("B", rule="letter")
        assert read_choice("right", DIRECTIONS).rule == "option text"
        assert read_choice("<answer>B</answer>", DIRECTIONS).rule == "tags"
        assert read_choice("The answer is B.", DIRECTIONS).rule == "phrase"
        assert read_choice("My final answer: B", DIRECTIONS).rule == "final phrase"
        assert read_choice("The car moves to the right.", DIRECTIONS).rule == "option named"

    @pytest.mark.parametrize(
        ("response", "reason"),
        [
            ("", "empty"),
            ("<think>It is B", "unfinished reasoning"),
            ("A or B", "several answers"),
            ("B. left", "letter and text disagree"),
            ("E", "no such option"),
            ("I cannot tell.", "refusal"),
            ("A blue sky.", "no answer"),
        ],
    )
    def test_says_why_a_response_is_invalid(self, response, reason):
        assert read_choice(response, DIRECTIONS) == Verdict(reason=reason)

    def test_what_is_no_text_is_empty(self):
        assert read_choice(None, DIRECTIONS).reason == "empty"
        assert read_number(None).reason == "empty"

    def test_numbers_score_by_relative_accuracy(self):
        assert number_score(3.0, 3.0) == 1.0
        assert number_score(2.0, 4.0) == pytest.approx(0.1)  # an error on the widest threshold counts there
        assert number_score(1.9, 4.0) == 0.0
        assert 0 < number_score(3.5, 4.0) < 1
        assert number_score(None, 4.0) == 0.0


class TestAnyText:
    @settings(max_examples=120, deadline=None)
    @given(texts, st.sampled_from(OPTION_SETS))
    def test_gives_a_letter_of_the_options_or_a_reason(self, text, options):
        verdict = read_choice(text, options)
        assert verdict.choice is None or verdict.choice in LETTERS[: len(options) or None]
        assert bool(verdict.choice) == verdict.is_valid == bool(verdict.rule)

    @settings(max_examples=80, deadline=None)
    @given(texts, st.sampled_from(["m", "cm", "m2", None]))
    def test_gives_a_finite_number_or_a_reason(self, text, unit):
        verdict = read_number(text, unit)
        assert (verdict.number is not None) == verdict.is_valid
        assert verdict.number is None or abs(verdict.number) < 1e40

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.sampled_from(PIECES[5:]), max_size=8).map(" ".join), st.permutations(DIRECTIONS))
    def test_texts_mean_the_same_option_in_any_order(self, text, order):
        in_order, permuted = read_choice(text, DIRECTIONS), read_choice(text, tuple(order))
        assert _text(in_order, DIRECTIONS) == _text(permuted, order)
        assert in_order.reason == permuted.reason

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(st.sampled_from([*PIECES[5:], "{letter}.", "({letter})", "{letter}. {text}"]), max_size=8), st.data()
    )
    def test_permuting_the_options_permutes_the_letter(self, pieces, data):
        # a bare A before a word is an article, and no other letter is
        order = tuple(data.draw(st.permutations(DIRECTIONS)))
        option = data.draw(st.sampled_from(DIRECTIONS))
        template = " ".join(pieces).replace("{text}", option)

        def read(options):
            return read_choice(template.replace("{letter}", LETTERS[options.index(option)]), options)

        assert _text(read(DIRECTIONS), DIRECTIONS) == _text(read(order), order)

    @pytest.mark.parametrize("group", GROUPS, ids=lambda group: ", ".join(group["options"])[:40] or "unknown")
    def test_hand_made_texts_without_letters_do_not_depend_on_the_order(self, group):
        options = tuple(group["options"])
        if len({option.casefold() for option in options}) < len(options):
            return
        orders = list(itertools.islice(itertools.permutations(options), 1, 24, 7))
        for _, response, _ in group["cases"]:
            if _STANDALONE_LETTER.search(clean(response)):
                continue
            for order in orders:
                assert _text(read_choice(response, order), order) == _text(read_choice(response, options), options)

    @pytest.mark.parametrize(
        "piece", ["<answer>", "\\boxed{", "answer is ", "A or ", "not left ", "1,", "答案", "**A**"]
    )
    def test_hostile_texts_take_linear_time(self, piece):
        def seconds(chars):
            text = piece * (chars // len(piece))
            start = time.process_time()
            read_choice(text, DIRECTIONS)
            read_number(text, "m")
            return time.process_time() - start

        seconds(1000)
        assert seconds(80_000) < max(12 * seconds(20_000), 0.3)  # quadratic time would be sixteen times


def _text(verdict, options):
    return options[LETTERS.index(verdict.choice)] if verdict.choice else None
