"""The paper's rule, by hand: thresholds are means of the best; what is at or above and above zero stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm4d_verl.cold_start import CotPath, Sample, SelectionConfig, score_paths, select_paths, task_figures
from mllm4d_verl.cold_start.selection import first_of_tasks, kept_row, passing, thresholds
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import QARow
from mllm4d_verl.reward import STReward


def sample(name, task, *scores):
    row = QARow(name, "clip", "v.mp4", 2, task, 0, 1, "?", ["x", "y"], "A", "x", meta={"measure": 1})
    return Sample(row, tuple(CotPath(k, f"{name}/{k}", score, score > 0.5) for k, score in enumerate(scores)))


EASY = [sample("a", "easy", 1.0, 0.9, 0.0), sample("b", "easy", 0.8, 0.8, 0.2), sample("c", "easy")]
HARD = [sample("d", "hard", 0.0, 0.3), sample("e", "hard", 0.0, 0.0), sample("f", "hard", 0.1, 0.15)]
NONE = [sample("g", "never", 0.0, 0.0)]
ALL = EASY + HARD + NONE
EVERY = SelectionConfig(tolerance=0.0, max_per_sample=0)


def names(kept):
    return [path.text for _, path in kept]


def test_the_threshold_is_the_mean_of_the_best():
    assert thresholds(ALL) == pytest.approx({"easy": 0.9, "hard": 0.15, "never": 0.0})


def test_kept_is_what_reaches_it_and_is_above_zero():
    assert names(select_paths(ALL, EVERY)) == ["a/0", "a/1", "d/1", "f/1"]


def test_the_best_of_a_sample_come_first_and_alone():
    assert names(select_paths(ALL, SelectionConfig(0.0, 1))) == ["a/0", "d/1", "f/1"]
    late = [sample("a", "easy", 0.5, 0.9, 0.9)]
    assert names(select_paths(late, EVERY)) == ["a/1", "a/2"]


def test_equal_scores_reach_their_mean():
    assert len(select_paths([sample(str(k), "t", 0.1) for k in range(3)], EVERY)) == 3


def test_printing_does_not_cut_perfect_texts_in_half():
    printed = [sample(str(k), "t", 1 - k * 1e-5, 1 - k * 1e-5) for k in range(10)]
    assert len(select_paths(printed, EVERY)) == 10
    assert len(select_paths(printed, SelectionConfig(1e-3, 0))) == 20


def test_tasks_take_turns_up_to_the_target():
    many = [sample(f"x{k}", "big", 1.0, 1.0) for k in range(20)] + [sample(f"y{k}", "small", 1.0) for k in range(3)]
    kept = select_paths(many, SelectionConfig(0.0, 0, target=10))
    assert len(kept) == 10
    tasks = [found.row.task for found, _ in kept]
    assert (tasks.count("big"), tasks.count("small")) == (7, 3)
    assert len({found.row.id for found, _ in kept}) == 10  # no second path while another sample has none
    again = select_paths(many, SelectionConfig(0.0, 0, target=10))
    assert names(again) == names(kept)
    assert names(select_paths(many, SelectionConfig(0.0, 0, target=10, seed=1))) != names(kept)
    assert len(select_paths(many, SelectionConfig(0.0, 0, target=500))) == 43


@given(
    st.lists(st.tuples(st.sampled_from("pqr"), st.lists(st.floats(0, 1), max_size=4)), max_size=12),
    st.integers(0, 2),
    st.integers(0, 9),
)
def test_every_kept_path_passes_and_limits_hold(drawn, most, target):
    samples = [sample(f"s{k}", task, *scores) for k, (task, scores) in enumerate(drawn)]
    config = SelectionConfig(0.0, most, target)
    kept = select_paths(samples, config)
    limits = thresholds(samples)
    assert all(path.score > 0 and path.score >= limits[found.row.task] - 1e-9 for found, path in kept)
    assert len(set(names(kept))) == len(kept)
    if target:
        assert len(kept) <= target
    else:
        passed = [passing(found, limits.get(found.row.task, 0)) for found in samples]
        assert len(kept) == sum(min(len(paths), most or 9) for paths in passed)


def test_figures_of_each_task():
    kept = select_paths(ALL, SelectionConfig(0.0, 1))
    figures = task_figures(ALL, kept)
    assert list(figures) == ["easy", "hard", "never"]
    easy = figures["easy"]
    assert (easy.samples, easy.samples_without_path, easy.paths, easy.kept) == (3, 1, 6, 1)
    assert (easy.passing_paths, easy.passing_samples) == (2, 1)
    assert easy.threshold == pytest.approx(0.9)
    assert easy.passing_share == pytest.approx(2 / 6)
    assert easy.right_share == pytest.approx(4 / 6)
    assert (figures["never"].passing_paths, figures["never"].threshold) == (0, 0.0)
    nothing = task_figures([sample("c", "t")], [])["t"]
    assert (nothing.threshold, nothing.mean_score, nothing.passing_share) == (None, None, None)


def test_scores_are_those_of_the_training_reward(make_rows):
    row = make_rows(2)[0]
    right = "<thinking>a</thinking><answer>A</answer>"
    found = score_paths(row, [(0, right), (2, right.replace("A<", "B<"))], STReward())
    assert [(path.number, path.is_right, path.score > 0) for path in found.paths] == [
        (0, True, True),
        (2, False, False),
    ]
    assert found.best == found.paths[0].score


def test_a_kept_row_says_where_it_comes_from():
    found = kept_row(EASY[0], EASY[0].paths[1], "rule")
    assert (found.id, found.response) == ("a-p1", "a/1")
    assert found.meta == {"measure": 1, "cot": {"writer": "rule", "question_id": "a", "path": 1, "score": 0.9}}
    assert EASY[0].row.response is None


def test_the_same_questions_of_each_task_whatever_the_others():
    rows = [found.row for found in ALL]
    some = first_of_tasks(rows, 2, seed=0)
    assert [row.task for row in some] == ["easy", "easy", "hard", "hard", "never"]
    assert first_of_tasks(rows, 0, seed=0) == rows
    assert [row for row in some if row.task == "hard"] == first_of_tasks([r for r in rows if r.task == "hard"], 2, 0)


@pytest.mark.parametrize("name", ["tolerance", "max_per_sample", "target"])
def test_limits_below_zero_are_refused(name):
    with pytest.raises(InputError, match=name):
        SelectionConfig(**{name: -1})
