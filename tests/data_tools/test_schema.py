"""Records survive the disk bit for bit, and bad files are named down to the field."""

import hashlib
import json
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clip_samples import make_clip

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import (
    QA_SCHEMA,
    QARow,
    iter_clips,
    read_clip,
    read_clip_index,
    read_qa,
    write_clip,
    write_clip_index,
    write_qa,
)


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _row(**changes):
    row = QARow(
        id="c0-camera_absolute_distance-0-7",
        clip_id="c0",
        video="c0/left.mp4",
        num_frames=8,
        task="camera_absolute_distance",
        start_frame=0,
        end_frame=7,
        question="How far?",
        options=["1.0", "2.0", "3.0", "4.0"],
        answer="B",
        answer_text="2.0",
        value=2.0,
        unit="meters",
        camera_center=[[0.0, 0.0, 0.0], None],
        meta={"cues": {"camera_shift": "left"}, "messages": [{"role": "user", "content": "<video>é"}]},
        response="<thinking>...",
    )
    return replace(row, **changes)


class TestClip:
    def test_comes_back_as_it_went(self, tmp_path):
        clip = make_clip(3)
        clip.objects[0].points[2] = np.zeros((0, 3), np.float32)  # unseen
        back = read_clip(write_clip(tmp_path, clip))
        for name in ("clip_id", "source", "license", "video", "fps", "num_frames", "width", "height", "baseline"):
            assert getattr(back, name) == getattr(clip, name)
        assert back.quality == clip.quality
        np.testing.assert_array_equal(back.cam_to_world, clip.cam_to_world)
        np.testing.assert_array_equal(back.intrinsics, clip.intrinsics)
        for ours, theirs in zip(clip.objects, back.objects, strict=True):
            assert (ours.id, ours.category, ours.description, ours.is_moving) == (
                theirs.id,
                theirs.category,
                theirs.description,
                theirs.is_moving,
            )
            for a, b in zip(ours.points, theirs.points, strict=True):
                np.testing.assert_array_equal(a, b)
        assert not back.objects[0].seen(2)
        assert back.objects[0].seen(1)

    def test_without_objects(self, tmp_path):
        assert read_clip(write_clip(tmp_path, make_clip(num_objects=0))).objects == []

    def test_same_clip_gives_the_same_bytes(self, tmp_path):
        first = write_clip(tmp_path / "a", make_clip(1))
        second = write_clip(tmp_path / "b", make_clip(1))
        assert _digest(first) == _digest(second)
        with zipfile.ZipFile(first) as archive:  # a clock in the archive would break this a second later
            assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}

    def test_holds_no_pickle(self, tmp_path):
        with np.load(write_clip(tmp_path, make_clip()), allow_pickle=False) as archive:
            assert all(archive[name].dtype != object for name in archive.files)

    @pytest.mark.parametrize(
        ("spoil", "field"),
        [
            (lambda clip: clip.cam_to_world.__setitem__((2, 0, 3), np.nan), "cam_to_world"),
            (lambda clip: clip.cam_to_world.__setitem__((2, 0, 0), 3.0), "cam_to_world"),
            (lambda clip: clip.intrinsics.__setitem__((0, 0), np.inf), "intrinsics"),
            (lambda clip: setattr(clip, "baseline", 0.0), "baseline"),
            (lambda clip: setattr(clip, "clip_id", "../x"), "clip_id"),
            (lambda clip: setattr(clip.objects[0], "id", clip.objects[1].id), "objects"),
            (lambda clip: clip.objects[0].points.pop(), "objects[1].points"),
            (lambda clip: clip.objects[0].points.__setitem__(1, np.full((9, 3), np.nan)), "objects[1].points"),
            (lambda clip: clip.objects[0].points.__setitem__(1, np.zeros((257, 3))), "objects[1].points"),
        ],
    )
    def test_refuses_what_the_record_does_not_allow(self, tmp_path, spoil, field):
        clip = make_clip()
        spoil(clip)
        with pytest.raises(InputError) as error:
            write_clip(tmp_path, clip)
        assert error.value.field == field
        assert not list(tmp_path.iterdir())

    def test_missing_broken_and_incomplete_files_are_named(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            read_clip(tmp_path / "none.npz")
        good = write_clip(tmp_path, make_clip())
        cut = tmp_path / "cut.npz"
        cut.write_bytes(good.read_bytes()[:500])
        with pytest.raises(InputError, match=r"cut\.npz.*not a readable"):
            read_clip(cut)
        with np.load(good) as archive:
            arrays = {name: archive[name] for name in archive.files}
        np.savez(tmp_path / "short.npz", **{k: v for k, v in arrays.items() if k != "fps"})
        with pytest.raises(InputError, match="field fps: the field is missing"):
            read_clip(tmp_path / "short.npz")
        np.savez(tmp_path / "ragged.npz", **{**arrays, "points_offsets": arrays["points_offsets"][:-1]})
        with pytest.raises(InputError, match="points_offsets"):
            read_clip(tmp_path / "ragged.npz")

    @pytest.mark.parametrize("below", ["", "clip4d", "truth"])
    def test_folder_is_found_from_the_data_root(self, tmp_path, below):
        for seed in (2, 1):
            write_clip(tmp_path / below, make_clip(seed))
        write_clip_index(tmp_path / below)
        assert [clip.clip_id for clip in iter_clips(tmp_path)] == ["clip_00001", "clip_00002"]
        row = read_clip_index(tmp_path)[0]
        assert row["num_objects"] == 3
        assert json.loads(row["quality"]) == {"reprojection_px": 0.0}

    def test_folder_without_an_index(self, tmp_path):
        with pytest.raises(InputError, match=r"no clips\.parquet"):
            list(iter_clips(tmp_path))
        with pytest.raises(InputError, match="no Clip4D"):
            write_clip_index(tmp_path)


class TestQA:
    def test_comes_back_as_it_went(self, tmp_path):
        rows = [_row(), _row(id="b", value=None, unit=None, camera_center=None, response=None, meta={})]
        assert read_qa(write_qa(tmp_path / "qa.parquet", rows)) == rows

    def test_same_rows_give_the_same_bytes(self, tmp_path):
        assert _digest(write_qa(tmp_path / "a.parquet", [_row()])) == _digest(
            write_qa(tmp_path / "b.parquet", [_row()])
        )

    def test_columns_that_may_be_null_may_be_absent(self, tmp_path):
        path = write_qa(tmp_path / "qa.parquet", [_row()])
        table = pq.read_table(path).drop_columns(["response", "meta", "answer_text", "split"])
        pq.write_table(table, path)
        (row,) = read_qa(path)
        assert (row.response, row.meta, row.answer_text, row.split) == (None, {}, "2.0", "train")

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"answer": "E"}, "answer"),
            ({"answer": "BC"}, "answer"),
            ({"answer_text": "3.0"}, "answer_text"),
            ({"task": "camera_colour"}, "task"),
            ({"split": "dev"}, "split"),
            ({"num_frames": 7}, "num_frames"),
            ({"end_frame": 8}, "end_frame"),
            ({"start_frame": 5, "end_frame": 2}, "end_frame"),
            ({"options": []}, "options"),
            ({"question": " "}, "question"),
            ({"value": float("nan")}, "value"),
            ({"camera_center": [[0.0, float("nan"), 0.0], None]}, "camera_center"),
            ({"object_center": [[0.0, 0.0], None]}, "object_center"),
            ({"object_center": [None]}, "object_center"),
        ],
    )
    def test_bad_row_is_named_when_written_and_when_read(self, tmp_path, changes, field):
        rows = [_row(id="fine"), _row(**changes)]
        with pytest.raises(InputError) as written:
            write_qa(tmp_path / "a.parquet", rows)
        assert (written.value.row, written.value.field) == (1, field)
        records = [{name: getattr(row, name) for name in QA_SCHEMA.names} | {"meta": "{}"} for row in rows]
        path = tmp_path / "b.parquet"
        pq.write_table(pa.Table.from_pylist(records, QA_SCHEMA), path)
        with pytest.raises(InputError) as read:
            read_qa(path)
        assert (read.value.file, read.value.row, read.value.field) == (str(path), 1, field)

    def test_null_where_a_value_is_needed(self, tmp_path):
        record = {name: getattr(_row(), name) for name in QA_SCHEMA.names} | {"meta": "{}", "video": None}
        path = tmp_path / "qa.parquet"
        pq.write_table(pa.Table.from_pylist([record], QA_SCHEMA), path)
        with pytest.raises(InputError, match="row 0, field video: must not be null"):
            read_qa(path)

    def test_missing_column_wrong_type_and_empty_file(self, tmp_path):
        path = write_qa(tmp_path / "qa.parquet", [_row()])
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["task"]), path)
        with pytest.raises(InputError, match="field task: the column is missing"):
            read_qa(path)
        words = table.set_column(table.column_names.index("num_frames"), "num_frames", pa.array(["eight"]))
        pq.write_table(words, path)
        with pytest.raises(InputError, match="field num_frames: the column holds string, expected int64"):
            read_qa(path)
        pq.write_table(table.slice(0, 0), path)
        with pytest.raises(InputError, match="no rows"):
            read_qa(path)
        path.write_text("not parquet")
        with pytest.raises(InputError, match="not a readable parquet"):
            read_qa(path)
        with pytest.raises(InputError, match="does not exist"):
            read_qa(tmp_path / "none.parquet")

    def test_repeated_id(self, tmp_path):
        with pytest.raises(InputError, match="repeats"):
            write_qa(tmp_path / "qa.parquet", [_row(), _row()])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
