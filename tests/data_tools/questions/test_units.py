"""Questions in other units: the same truth, no new hints, and rows that every reader takes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from clip_samples import make_clip
from typer.testing import CliRunner

from mllm4d_verl.cli.main import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.questions.units import UNITS, UnitsConfig, in_unit, write_with_units
from mllm4d_verl.data_tools.schema import LETTERS, check_row, read_qa, write_qa
from mllm4d_verl.datasets.reader import ground_truth
from mllm4d_verl.reward import parse_response, read_truth
from mllm4d_verl.reward.accuracy import match_answer

TASKS = ("camera_absolute_distance", "object_camera_absolute_distance", "object_speed", "camera_relative_direction")


@pytest.fixture(scope="module")
def rows():
    return build_questions(map(make_clip, range(15)), QuestionConfig(num_frames=8, tasks=TASKS, max_per_clip=40))


def _numbers(row):
    return [float(option.split()[0]) for option in row.options]


@pytest.mark.parametrize("unit", ["centimeters", "feet"])
def test_the_same_truth_in_another_unit(rows, unit):
    changed = Counter()
    for row in rows:
        other = in_unit(row, unit)
        if other is None:
            assert row.value is None or unit == "centimeters", row.options
            continue
        check_row(other)
        changed[row.task] += 1
        assert (other.id, other.answer, other.meta, other.camera_center) == (
            row.id, row.answer, row.meta, row.camera_center,
        )  # fmt: skip
        assert other.value == pytest.approx(row.value / UNITS[unit], abs=1e-5)
        place = LETTERS.index(row.answer)
        assert _numbers(other)[place] == pytest.approx(other.value, rel=0.03)
        assert np.argsort(_numbers(other)).tolist() == np.argsort(_numbers(row)).tolist()
        assert np.array(_numbers(other)) * UNITS[unit] == pytest.approx(_numbers(row), rel=0.08)
        assert other.unit == row.unit.replace("meters", unit)
        text = " ".join([other.question, *other.options])
        assert "meters" not in text.replace("centimeters", "")
        assert unit in text
        truth = read_truth(ground_truth(other))
        assert [match_answer(option, truth) for option in other.options] == [k == place for k in range(4)]
        assert all(other.unit in option for option in other.options)
        if row.unit == "meters":
            number = other.answer_text.split()[0]
            assert match_answer({"centimeters": f"{number} cm", "feet": f"{number} ft"}[unit], truth)
            assert match_answer(number, truth)
            assert not match_answer(f"{number} m", truth)
        assert parse_response(f"<answer>{other.answer_text}</answer>").answer == other.answer_text
    assert len(changed) == 3


def test_the_truth_is_not_the_only_round_number(rows):
    """Distractors were rounded to a tenth of a meter, the truth was not."""
    numbers = [in_unit(row, "centimeters", chance) for chance, row in enumerate(rows)]
    ends = Counter(number % 10 for row in numbers if row for number in _numbers(row) if min(_numbers(row)) > 22)
    assert len(ends) == 10
    assert ends[0] < sum(ends.values()) / 4


def test_what_has_no_other_unit_stays(rows):
    distance = next(row for row in rows if row.task == "camera_absolute_distance")
    assert in_unit(replace(distance, response="<thinking>"), "feet") is None
    assert in_unit(replace(distance, object_description="two meters of rope"), "feet") is None
    assert in_unit(replace(distance, options=["near", "far", "here", "there"]), "feet") is None
    assert in_unit(next(row for row in rows if row.value is None), "feet") is None
    far = replace(distance, options=["20.5", "30.5", "40.5", "50.5"], answer="A", value=20.5)
    assert in_unit(far, "centimeters") is None
    assert in_unit(far, "feet").unit == "feet"


def test_files(rows, tmp_path):
    write_qa(tmp_path / "a.parquet", rows)
    for name in ("b", "c"):
        words = ["data", "units", str(tmp_path / "a.parquet"), str(tmp_path / f"{name}.parquet"), "--share", "0.5"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "c.parquet").read_bytes()
    found = read_qa(tmp_path / "b.parquet")
    assert [row.id for row in found] == [row.id for row in rows]
    lengths = Counter(row.unit for row, old in zip(found, rows, strict=True) if old.unit == "meters")
    assert lengths.keys() == {"meters", "centimeters", "feet"}
    assert lengths["meters"] == pytest.approx(0.5 * sum(lengths.values()), rel=0.5)
    assert all(row == old for row, old in zip(found, rows, strict=True) if row.unit == old.unit)


def test_bad_input_is_named(rows, tmp_path):
    with pytest.raises(InputError, match="unknown units"):
        UnitsConfig(units=("cubits",))
    with pytest.raises(InputError, match=r"0\.\.1"):
        UnitsConfig(share=2)
    with pytest.raises(InputError, match="does not exist"):
        write_with_units(tmp_path / "no.parquet", tmp_path / "b.parquet", UnitsConfig())
    write_qa(tmp_path / "a.parquet", rows)
    with pytest.raises(InputError, match="overwrite"):
        write_with_units(tmp_path / "a.parquet", tmp_path / "a.parquet", UnitsConfig())
    pq.write_table(pq.read_table(tmp_path / "a.parquet").drop_columns(["options"]), tmp_path / "lacking.parquet")
    with pytest.raises(InputError, match=r"lacks the columns \['options'\]"):
        write_with_units(tmp_path / "lacking.parquet", tmp_path / "b.parquet", UnitsConfig())
    assert not (tmp_path / "b.parquet").exists()
