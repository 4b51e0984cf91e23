"""Every bad input is named by file, row, field and remedy before anything heavy is started."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from verl.utils.dataset.rl_dataset import get_dataset_class

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.released import write_rft
from mllm4d_verl.data_tools.schema import QA_SCHEMA, read_qa, write_qa
from mllm4d_verl.datasets import DataSummary, MLLM4DDataset, validate_rows


def rewrite(qa_file, row, **changes):
    """Break one row of a file behind the back of write_qa."""
    records = pq.read_table(qa_file).to_pylist()
    records[row].update(changes)
    pq.write_table(pa.Table.from_pylist(records, QA_SCHEMA), qa_file)


class TestGood:
    def test_summary(self, qa_file):
        assert validate_rows(qa_file) == DataSummary(
            num_rows=4,
            num_videos=2,
            num_decoded=2,
            tasks={
                "camera_relative_direction": 2,
                "object_absolute_distance": 1,
                "object_camera_relative_distance": 1,
            },
        )

    def test_one_task(self, qa_file):
        assert validate_rows([qa_file], tasks="object_absolute_distance").num_rows == 1

    def test_only_so_many_videos_are_decoded(self, qa_file):
        assert validate_rows(qa_file, max_decoded_videos=1).num_decoded == 1

    def test_media_may_be_elsewhere(self, qa_file, tmp_path):
        moved = tmp_path / "moved"
        moved.mkdir()
        for clip in ("clip_0", "clip_1"):
            (tmp_path / clip).rename(moved / clip)
        assert validate_rows(qa_file, media_root=str(moved)).num_decoded == 2
        assert validate_rows(qa_file, check_media=False).num_decoded == 0

    def test_released_records(self, qa_file, tmp_path):
        path = write_rft(tmp_path / "rft.jsonl", read_qa(qa_file))
        assert validate_rows(path, template="dataset").num_rows == 4

    def test_verls_own_rows(self, tmp_path):
        path = tmp_path / "verl.parquet"
        pd.DataFrame({"prompt": [[{"role": "user", "content": "hi"}]] * 3}).to_parquet(path)
        assert validate_rows(path).num_rows == 3

    def test_costs_no_torch_and_no_verl(self):
        code = "import sys; from mllm4d_verl.datasets import validate_rows; print({'torch', 'verl'} & set(sys.modules))"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


class TestFiles:
    def test_none(self):
        with pytest.raises(InputError, match=r"no data file.*data\.train_files"):
            validate_rows([])

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match=r"absent\.parquet: the file does not exist"):
            validate_rows(tmp_path / "absent.parquet")

    def test_not_parquet(self, tmp_path):
        path = tmp_path / "bad.parquet"
        path.write_text("no")
        with pytest.raises(InputError, match=r"bad\.parquet: not a readable parquet file"):
            validate_rows(path)

    def test_unknown_kind(self, tmp_path):
        path = tmp_path / "rows.csv"
        path.write_text("a,b")
        with pytest.raises(InputError, match=r"rows\.csv: neither \.parquet nor"):
            validate_rows(path)

    @pytest.mark.parametrize("name", ["empty.parquet", "empty.jsonl", "empty.json", "verl.parquet"])
    def test_empty(self, tmp_path, name):
        path = tmp_path / name
        if name == "empty.parquet":
            pq.write_table(QA_SCHEMA.empty_table(), path)
        elif name == "verl.parquet":
            pq.write_table(pa.schema([("prompt", pa.string())]).empty_table(), path)
        else:
            path.write_text("[]" if name.endswith(".json") else "\n")
        with pytest.raises(InputError, match=rf"{name}: the file has no rows"):
            validate_rows(path)

    @pytest.mark.parametrize("text", ["{", '["a"]', "\xff"])
    def test_not_json(self, tmp_path, text):
        path = tmp_path / "rows.jsonl"
        path.write_text(text, encoding="latin1")
        with pytest.raises(InputError, match=r"rows\.jsonl, row 0"):
            validate_rows(path)

    def test_unknown_records(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"text": "a"}')
        with pytest.raises(InputError, match="neither the released format nor verl's"):
            validate_rows(path)

    def test_missing_column(self, qa_file):
        pq.write_table(pq.read_table(qa_file).drop_columns(["answer"]), qa_file)
        with pytest.raises(InputError, match=r"train\.parquet, field answer: the column is missing"):
            validate_rows(qa_file)

    def test_wrong_type(self, qa_file):
        table = pq.read_table(qa_file)
        options = pa.array(["left,right"] * table.num_rows)
        pq.write_table(table.set_column(table.column_names.index("options"), "options", options), qa_file)
        with pytest.raises(InputError, match=r"train\.parquet, field options: the column holds string"):
            validate_rows(qa_file)


class TestOptions:
    def test_unknown_template(self, qa_file):
        with pytest.raises(InputError, match="Did you mean 'direct'"):
            validate_rows(qa_file, template="directt")

    def test_unknown_task(self, qa_file):
        with pytest.raises(InputError, match="unknown task 'distance'"):
            validate_rows(qa_file, tasks=["distance"])

    def test_other_number_of_frames(self, qa_file):
        with pytest.raises(InputError, match=r"train\.parquet, row 0, field num_frames: data\.num_frames is 16"):
            validate_rows(qa_file, num_frames=16)


class TestRows:
    @pytest.mark.parametrize(
        ("changes", "field", "problem"),
        [
            ({"answer": "E"}, "answer", "not among the options"),
            ({"answer": "right"}, "answer", "not among the options"),
            ({"answer": None}, "answer", "null"),
            ({"task": "distance"}, "task", "unknown task"),
            ({"camera_center": [[0.0, float("nan"), 0.0], None]}, "camera_center", "finite"),
            ({"object_center": [[0.0, 1.0], None]}, "object_center", r"\[x, y, z\]"),
            ({"value": float("inf")}, "value", "finite"),
            ({"num_frames": 7}, "num_frames", "even"),
            ({"end_frame": 8}, "end_frame", "not among the frames"),
            ({"question": "Is <image> this?"}, "question", "placeholders"),
        ],
    )
    def test_broken_value(self, qa_file, changes, field, problem):
        rewrite(qa_file, 2, answer_text=None, **changes)
        with pytest.raises(InputError, match=rf"train\.parquet, row 2, field {field}: .*{problem}"):
            validate_rows(qa_file)

    def test_nothing_to_train_on(self, qa_file):
        validate_rows(qa_file)
        validate_rows(qa_file, template="direct", for_sft=True)
        with pytest.raises(InputError, match=r"train\.parquet, row 2, field response"):
            validate_rows(qa_file, for_sft=True)

    def test_own_messages_are_absent(self, qa_file):
        with pytest.raises(InputError, match=r"train\.parquet, row 0, field meta"):
            validate_rows(qa_file, template="dataset")

    def test_datasets_make_the_same_checks(self, qa_file, qwen3_processor, data_config):
        rewrite(qa_file, 1, answer="Z", answer_text=None)
        config = data_config(custom_cls={"path": "pkg://mllm4d_verl.datasets", "name": "MLLM4DDataset"})
        assert get_dataset_class(config) is MLLM4DDataset
        with pytest.raises(InputError, match=r"train\.parquet, row 1, field answer"):
            MLLM4DDataset(qa_file, qwen3_processor.tokenizer, config, qwen3_processor)


class TestVideos:
    def test_missing(self, qa_file, tmp_path):
        (tmp_path / "clip_1" / "left.mp4").unlink()
        with pytest.raises(InputError, match=r"train\.parquet, row 1, field video: .*clip_1/left\.mp4 does not exist"):
            validate_rows(qa_file)

    def test_unreadable(self, qa_file, tmp_path):
        (tmp_path / "clip_1" / "left.mp4").write_bytes(np.arange(2000, dtype=np.uint8).tobytes())
        with pytest.raises(InputError, match=r"train\.parquet, row 1, field video: .*clip_1/left\.mp4: .*decode"):
            validate_rows(qa_file)

    def test_too_short_for_any_of_its_rows(self, qa_file, tmp_path):
        rows = read_qa(qa_file)
        rows[2].num_frames = 14  # clip_0 has 12 frames; row 0 asks for 8 of them
        write_qa(qa_file, rows)
        with pytest.raises(InputError, match=r"train\.parquet, row 2, field num_frames: .*14 frames .*of 12"):
            validate_rows(qa_file)
