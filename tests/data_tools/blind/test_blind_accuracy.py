"""Blind baselines find what text gives away, and nothing where there is nothing; dropping rows takes it away."""

import json
from collections import Counter

import numpy as np
import pytest

from mllm4d_verl.data_tools.blind import LIMIT, blind_accuracy, read_blind_rows, rebalance
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import SPLITS, QARow, read_qa, write_qa

DIRECTION, DISTANCE = "camera_relative_direction", "camera_absolute_distance"
WAYS = ("left", "right", "up", "down")


def make_rows(biased, count=600, task=DIRECTION, seed=0):
    """Questions about `count` / 3 clips; `biased(rng, letter)` decides options, their true place and the question."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        options, place, question = biased(rng, int(rng.integers(4)))
        rows.append(
            QARow(
                id=f"q{number}",
                clip_id=f"clip{number // 3}",
                video="v.mp4",
                num_frames=8,
                task=task,
                start_frame=0,
                end_frame=7,
                question=question,
                options=options,
                answer="ABCD"[place],
                answer_text=options[place],
                value=float(options[place]) if task == DISTANCE else None,
                unit="meters" if task == DISTANCE else None,
                camera_center=[[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
                split=("train", "train", "train", "train", "val", "test")[number // 3 % 6],
            )
        )
    return rows


def shuffled_ways(rng):
    return [WAYS[k] for k in rng.permutation(4)]


def fair(rng, place):
    return shuffled_ways(rng), place, "Where does the camera go?"


def by_letter(rng, place):
    return shuffled_ways(rng), 0 if rng.random() < 0.5 else place, "Where does the camera go?"


def by_answer(rng, place):
    options = shuffled_ways(rng)
    return options, options.index("left") if rng.random() < 0.5 else place, "Where does the camera go?"


def by_phrasing(rng, place):
    options = shuffled_ways(rng)
    told = rng.random() < 0.6
    word = ("crawl", "walk", "climb", "sink")[WAYS.index(options[place])] if told else "go"
    return options, place, f"Where does the camera {word} in the clip?"


def by_rank(rng, place):
    numbers = np.sort(rng.uniform(0.5, 5, 4)).round(2)
    order = rng.permutation(4)
    options = [f"{numbers[k]:.2f}" for k in order]
    return options, list(order).index(1) if rng.random() < 0.6 else place, "How far does the camera go, in meters?"


def fair_numbers(rng, place):
    return [f"{number:.2f}" for number in rng.uniform(0.5, 5, 4)], place, "How far does the camera go, in meters?"


def read(folder, rows):
    for split in SPLITS:
        write_qa(folder / f"{split}.parquet", [row for row in rows if row.split == split])
    return read_blind_rows(folder)


@pytest.mark.parametrize(
    ("bias", "task", "best"),
    [
        (by_letter, DIRECTION, {"majority_letter"}),
        (by_answer, DIRECTION, {"majority_answer", "template_prior", "bag_of_words"}),
        (by_phrasing, DIRECTION, {"template_prior", "bag_of_words"}),
        (by_rank, DISTANCE, {"number_rank", "boosted_shape"}),
    ],
)
def test_what_gives_the_answer_away_is_found(tmp_path, bias, task, best):
    found = blind_accuracy(read(tmp_path, make_rows(bias, task=task)))[task]
    assert found.verdict == "guessable"
    assert found.best in best
    assert found.accuracy > 0.4
    assert (found.rows, found.clips, found.chance) == (600, 200, 0.25)


@pytest.mark.parametrize(("bias", "task"), [(fair, DIRECTION), (fair_numbers, DISTANCE)])
def test_fair_questions_are_guessed_at_chance(tmp_path, bias, task):
    found = blind_accuracy(read(tmp_path, make_rows(bias, task=task, count=900)))[task]
    assert found.accuracy - found.interval <= 0.25 + LIMIT
    assert found.verdict != "guessable"


def test_a_seed_gives_the_same_figures(tmp_path):
    rows = read(tmp_path, make_rows(fair))
    assert blind_accuracy(rows, 3) == blind_accuracy(rows, 3)


def test_dropping_brings_guesses_to_chance_and_spares_every_split(tmp_path):
    rows = read(tmp_path, make_rows(by_letter, count=900))
    before = blind_accuracy(rows)[DIRECTION]
    keep = rebalance(rows, seed=1, max_drop=0.6)
    after = blind_accuracy(rows.take(np.flatnonzero(keep)))[DIRECTION]
    assert before.accuracy > 0.5
    assert after.accuracy <= 0.25 + LIMIT + after.interval
    for split in SPLITS:
        members = rows.splits == split
        assert keep[members].mean() >= 0.4


def test_fair_questions_are_hardly_dropped(tmp_path):
    assert rebalance(read(tmp_path, make_rows(fair)), seed=1).mean() > 0.85


def test_the_command(tmp_path, mllm4d):
    read(tmp_path / "qa", make_rows(by_letter))
    done = mllm4d("data", "blind", tmp_path / "qa", "--rebalance", tmp_path / "out", "--max-drop", "0.6", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["before"][DIRECTION]["verdict"] == "guessable"
    assert report["after"][DIRECTION]["accuracy"] < report["before"][DIRECTION]["accuracy"] - 0.1
    rows = [row for split in SPLITS for row in read_qa(tmp_path / "out" / f"{split}.parquet")]
    assert report["after"][DIRECTION]["rows"] == len(rows) < 600
    letters = Counter(row.answer for row in rows)
    assert letters["A"] < 0.45 * len(rows)


def test_an_answer_that_is_no_letter_is_named(tmp_path):
    import pyarrow.parquet as pq

    file = write_qa(tmp_path / "rows.parquet", make_rows(fair, count=6))
    table = pq.read_table(file)
    place = table.schema.get_field_index("answer")
    pq.write_table(table.set_column(place, "answer", [["A", "A", "A", "left", "A", "A"]]), file)
    with pytest.raises(InputError, match=r"rows\.parquet.*row 3.*answer.*'left' is not the letter"):
        read_blind_rows(file)
