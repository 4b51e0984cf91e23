"""What `eval plot` draws, over responses with known answers, and that it draws."""

import pytest

from mllm4d_verl.evaluation import plots
from mllm4d_verl.evaluation.benchmarks import Benchmark, Item
from mllm4d_verl.evaluation.named_runs import NamedRun
from mllm4d_verl.evaluation.plots import (
    INVALID,
    OTHER,
    accuracy_by_task,
    by_distance,
    by_duration,
    chance_by_task,
    confusion,
    durations_of,
    plot_runs,
)
from mllm4d_verl.evaluation.scoring import score_records


@pytest.fixture
def run(make_record):
    """Distances of 1 to 10 m, right up to 5 m and else twice too far; then directions."""
    records = [
        make_record(
            k, "A" if k <= 5 else "B", clip=f"c{k}", answer="A", options=[f"{k}.0", f"{2 * k}.0"], value=float(k),
            unit="meters", start_frame=0, end_frame=4 if k % 2 else 8,
        )
        for k in range(1, 11)
    ]  # fmt: skip
    sides = ["left", "Right", "not moving"]
    for k, (answer, text) in enumerate([("A", "A"), ("A", "B"), ("B", "B"), ("B", "no idea"), ("C", "A")], 20):
        records.append(make_record(k, text, answer=answer, options=sides))
    return NamedRun("mine", score_records(records), {})


def test_distance(run):
    bins = by_distance([run])["mine"]
    assert [(b.low, b.high, b.n) for b in bins] == [(1, 2, 2), (3, 4, 2), (5, 6, 2), (7, 8, 2), (9, 10, 2)]
    assert [b.accuracy.estimate for b in bins] == [1, 1, 0.5, 0, 0]
    assert [b.error for b in bins] == pytest.approx([0, 0, 0.5, 1, 1])


def test_duration(run):
    short, long = by_duration([run])["mine"]
    assert (short.low, short.n, short.accuracy.estimate) == (4, 5, pytest.approx(3 / 5))
    assert (long.low, long.n, long.accuracy.estimate) == (8, 5, pytest.approx(2 / 5))


def test_duration_from_the_questions(run):
    item = Item("q1", "v", "c1", "?", ("1.0", "2.0"), "A", "choice", "t", start_frame=2, end_frame=30)
    duration = durations_of(Benchmark("b", "1", (item,), ""))
    assert [duration(record) for record in run.records[:2]] == [28, 8]


def test_confusion(run):
    matrix = confusion(run.records)
    assert matrix.truths == ("left", "right", "not moving")
    assert matrix.answers == ("left", "right", "not moving", INVALID)
    assert matrix.counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]


def test_options_that_are_no_direction_share_a_column(make_record):
    """VLM4D words its wrong options freely: 40 columns could not be read."""
    records = [
        make_record(k, letter, answer="A", options=["left", f"there is no thing {k}", "right"])
        for k, letter in enumerate("ABBBC" * 8)
    ]
    matrix = confusion(score_records(records))
    assert matrix.answers == ("left", "right", OTHER, INVALID)
    assert matrix.counts.tolist() == [[8, 8, 24, 0]]


def test_chance_is_known_by_task(run):
    assert chance_by_task([run]) == pytest.approx(
        {run.records[0].task: 10 / 15 / 2 + 5 / 15 / 3, "all": 7 / 18 + 1 / 18}
    )


def test_chance_is_drawn_and_intervals_that_are_not_reliable_are_hollow(run):
    axis = plots._draw_tasks(accuracy_by_task([run]), chance_by_task([run])).axes[0]
    levels = [segment[0][1] for lines in axis.collections for segment in lines.get_segments() if len(segment) == 2]
    assert 100 * chance_by_task([run])["all"] in [pytest.approx(level) for level in levels]
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in hollow] == [2]  # 7 of 15: few answers of a kind


def test_panels_and_plots_without_content_are_left_out(make_record, tmp_path):
    sides = {"options": ["left", "right"], "start_frame": 0}
    moving = [make_record(k, "A", answer="A", end_frame=4 if k % 2 else 8, **sides) for k in range(10)]
    run = NamedRun("mine", score_records(moving), {})
    figure = plots._draw_bins(by_duration([run]), "frames")
    assert len(figure.axes) == 1  # nobody was asked for a distance
    alike = [make_record(k, "A", answer="A", end_frame=31, **sides) for k in range(10)]
    names = [file.name for file in plot_runs([NamedRun("mine", score_records(alike), {})], tmp_path)]
    assert names == ["accuracy_by_task.png", "directions.png"]


def test_matrices_of_many_runs_stand_in_lines(run):
    figure = plots._draw_confusions({str(number): confusion(run.records) for number in range(5)})
    width, height = figure.get_size_inches()
    assert len(figure.axes) == 6
    assert width < 12 < 3 * height


def test_files(run, tmp_path):
    assert accuracy_by_task([run])["mine"]["all"].estimate == pytest.approx(7 / 15)
    other = NamedRun("other", run.records[:5], {})
    names = [file.name for file in plot_runs([run, other], tmp_path / "plots")]
    assert names == ["accuracy_by_task.png", "distance.png", "duration.png", "directions.png"]
    assert all((tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG") for name in names)
