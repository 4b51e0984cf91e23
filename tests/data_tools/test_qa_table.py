"""Checks over whole columns say what the check of one row says, and rows come back as they went."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from clip_samples import make_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.qa_table import check_table, rows_of, suspects, table_of
from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.schema import EXTRA_TASKS, QA_SCHEMA, TASKS, check_row

ROWS = build_questions([make_clip(seed) for seed in range(6)], QuestionConfig(num_frames=8))
SPOILS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["", " ", "\u00a0\u2003", "x"]),
        "video": st.sampled_from(["\t", "\x1c", "a.mp4", None]),
        "num_frames": st.sampled_from([0, 2, 7, 8, None]),
        "start_frame": st.integers(-1, 9),
        "end_frame": st.integers(-1, 9),
        "task": st.sampled_from(["nothing", "other", TASKS[0], EXTRA_TASKS[0]]),
        "options": st.sampled_from([[], ["1", "2"], ["1", None], [str(n) for n in range(11)], None]),
        "answer": st.sampled_from(["", "A", "B", "E", "AB", None]),
        "answer_text": st.sampled_from(["", "1", "2"]),
        "value": st.sampled_from([None, 1.0, float("nan"), float("inf")]),
        "split": st.sampled_from(["train", "dev"]),
        "camera_center": st.sampled_from([None, [], [None], [None, None], [[1.0, 2.0, 3.0], None], [[1.0, 2.0], None]]),
        "object_center": st.sampled_from([[[1.0, None, 3.0], None], [[1.0, float("inf"), 3.0], None], [None] * 3]),
    },
)


@settings(max_examples=150, deadline=None)
@given(spoils=st.lists(SPOILS, min_size=1, max_size=6), cut=st.integers(0, 3))
def test_a_table_is_found_wrong_where_its_rows_are(spoils, cut):
    rows = [replace(ROWS[number], **spoil) for number, spoil in enumerate(spoils)]
    expected = []
    for index, row in enumerate(rows):
        try:
            check_row(replace(row, answer_text=row.answer_text or ""), index=index)
        except InputError as error:
            expected.append((index, error.field))
    table = pa.concat_tables([table_of(ROWS[10 : 10 + cut]), table_of(rows)]).slice(cut)
    assert [(problem.row, problem.field) for problem in check_table(table, repeats=False)] == expected


def test_rows_come_back_as_they_went():
    assert rows_of(table_of(ROWS)) == ROWS
    assert rows_of(table_of(ROWS).slice(5, 9)) == ROWS[5:14]
    assert check_table(table_of(ROWS)) == []
    assert not any(suspects(batch).any() for batch in table_of(ROWS).to_batches())


def test_meta_that_is_no_object_and_ids_that_repeat():
    table = table_of([*ROWS[:3], ROWS[1]])
    metas = ["{}", "[1]", "{", "1},{"]
    table = table.set_column(QA_SCHEMA.get_field_index("meta"), "meta", pa.array(metas))
    problems = check_table(table)
    assert [(p.row, p.field) for p in problems] == [(1, "meta"), (2, "meta"), (3, "meta")]
    (again,) = check_table(table_of([*ROWS[:3], ROWS[1]]))
    assert (again.row, again.field) == (3, "id")
    with pytest.raises(InputError, match=r"row 3, field id: id .* repeats"):
        raise again.error()


def test_numpy_numbers_in_meta_are_written_plain():
    table = table_of([replace(ROWS[0], meta={"a": np.float64(1.5), "b": np.arange(2)})])
    assert json.loads(table["meta"][0].as_py()) == {"a": 1.5, "b": [0, 1]}
