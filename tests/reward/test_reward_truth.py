"""Truths: read leniently, checked strictly."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_samples import CAMERA, OBJECT, truth

from mllm4d_verl.reward import TruthError, read_truth, truth_problems, validate_truth

NAN = float("nan")


class TestReading:
    def test_numpy_arrays_as_parquet_readers_return_them(self):
        centers = np.empty(2, dtype=object)
        centers[:] = [np.array(CAMERA[0]), None]
        read = read_truth({"answer": "A", "camera_center": centers, "object_center": np.array(OBJECT)})
        assert read.camera_center == (tuple(CAMERA[0]), None)
        assert read.object_center == tuple(tuple(point) for point in OBJECT)

    @pytest.mark.parametrize(
        "slot", [[NAN, 0, 0], [float("inf"), 0, 0], [1, 2], [1, 2, 3, 4], ["1", 2, 3], [True, 0, 0], [10**400, 0, 0],
                 [1e7, 0, 0], 5, "x", [1 + 2j, 0, 0]],
    )  # fmt: skip
    def test_an_unusable_slot_is_unknown(self, slot):
        assert read_truth(truth(camera_center=[slot, CAMERA[1]])).camera_center == (None, tuple(CAMERA[1]))

    @pytest.mark.parametrize("centers", [None, NAN, [], [CAMERA[0]], [CAMERA[0]] * 3, "x", {"a": 1}])
    def test_unusable_centres_are_unknown(self, centers):
        assert read_truth(truth(camera_center=centers)).camera_center == (None, None)

    @pytest.mark.parametrize(
        ("fields", "letter", "text"),
        [
            ({"answer": "B"}, "B", None),
            ({"answer": " b. "}, "B", None),
            ({"answer": "(C)"}, "C", None),
            ({"answer": "A: left"}, "A", "left"),
            ({"answer": "left", "options": ["right", "left"]}, "B", "left"),
            ({"answer": "B", "options": ["A. right", "B. left"]}, "B", "left"),
            ({"answer": "left"}, None, "left"),
            ({"answer": 2, "options": [1, 2]}, "B", "2"),
            ({"answer": None}, None, None),
            ({}, None, None),
        ],
    )
    def test_answers(self, fields, letter, text):
        read = read_truth(fields)
        assert (read.letter, read.answer_text or None) == (letter, text)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
            lambda children: (
                st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=3)
            ),
            max_leaves=12,
        )
    )
    @settings(max_examples=300, deadline=None)
    def test_anything_is_read_and_reported(self, anything):
        for value in (anything, {"answer": anything, "options": anything, "camera_center": anything}):
            read_truth(value)
            assert all(problem.remedy for problem in truth_problems(value))


class TestValidation:
    def test_a_sound_truth_passes(self):
        validate_truth(truth(options=["closer", "farther"], answer_text="farther"))
        validate_truth(truth(camera_center=None, object_center=[None, OBJECT[1]]))
        validate_truth({"answer": "B", "options": [], "answer_text": ""})

    @pytest.mark.parametrize(
        ("changes", "field", "words"),
        [
            ({"answer": None}, "answer", "is None"),
            ({"answer": " "}, "answer", "is ' '"),
            ({"answer": "E", "options": ["a", "b"]}, "answer", "not among the 2 options"),
            ({"answer": "blue", "options": ["red", "green"]}, "answer", "not among the 2 options"),
            ({"options": ["only one"]}, "options", "is ['only one']"),
            ({"options": "left"}, "options", "is 'left'"),
            ({"options": ["left", "right"], "answer_text": "left"}, "answer_text", "not the text of option B"),
            ({"camera_center": [[NAN, 0, 0], None]}, "camera_center", "start slot [nan, 0, 0] is not three finite"),
            ({"object_center": [None, [1, 2]]}, "object_center", "end slot [1, 2] is not three finite"),
            ({"object_center": [[1, 2, 3]]}, "object_center", "not two slots"),
        ],
    )
    def test_a_fault_is_named_with_its_field(self, changes, field, words):
        with pytest.raises(TruthError) as caught:
            validate_truth(truth(**changes))
        (problem,) = caught.value.problems
        assert problem.field == field
        assert words in problem.problem
        assert problem.remedy in str(caught.value)

    def test_every_fault_is_reported_at_once(self):
        problems = truth_problems({"answer": "", "camera_center": 1, "object_center": 2})
        assert [problem.field for problem in problems] == ["answer", "camera_center", "object_center"]

    def test_a_json_string_is_refused_with_a_remedy(self):
        with pytest.raises(TruthError, match="decode JSON"):
            validate_truth('{"answer": "B"}')

    def test_the_error_crosses_processes(self):
        with pytest.raises(TruthError) as caught:
            validate_truth({})
        assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
