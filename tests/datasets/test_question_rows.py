"""Rows that stay on disk read like rows in memory, and a changed file is read anew."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import QA_SCHEMA, read_qa, write_qa
from mllm4d_verl.datasets import question_rows
from mllm4d_verl.datasets.options import PromptOptions
from mllm4d_verl.datasets.reader import choose_rows, read_rows


@pytest.fixture
def on_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(question_rows, "ROWS_IN_MEMORY", 1)
    monkeypatch.setattr(question_rows, "_BATCH_ROWS", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _rows(path):
    return read_rows([str(path)], PromptOptions())


def test_equal_to_rows_in_memory(qa_file, on_disk):
    rows, want = _rows(qa_file), read_qa(qa_file)
    assert [source.row for source in rows] == want
    assert [rows[item].row for item in range(len(rows))] == want
    assert [source.index for source in rows[1:3]] == [1, 2]
    assert [source.row.id for source in rows.select(np.array([3, 0]))] == ["q3", "q0"]
    assert [source.row for source in pickle.loads(pickle.dumps(rows))] == want


def test_chosen_rows_are_those_of_a_list(qa_file, on_disk):
    rows = _rows(qa_file)
    for shuffle in (False, True):
        got = choose_rows(rows, 2, shuffle, 5)
        assert [source.row for source in got] == [source.row for source in choose_rows(list(rows), 2, shuffle, 5)]


def test_a_changed_file_is_read_anew_and_its_old_copy_goes(qa_file, on_disk):
    first = _rows(qa_file)
    copies = list(question_rows.copies_folder().iterdir())
    assert len(copies) == 1
    write_qa(qa_file, read_qa(qa_file)[:2])
    assert len(_rows(qa_file)) == 2
    assert len(first) == 4
    assert first[3].row.id == "q3"
    assert list(question_rows.copies_folder().iterdir()) != copies


def test_a_broken_row_is_named_and_leaves_no_copy(qa_file, on_disk):
    records = pq.read_table(qa_file).to_pylist()
    records[3]["answer"] = "J"
    pq.write_table(pa.Table.from_pylist(records, QA_SCHEMA), qa_file)
    with pytest.raises(InputError, match=r"train\.parquet, row 3, field answer"):
        _rows(qa_file)
    assert not list(question_rows.copies_folder().iterdir())
