"""A small set of questions with a video each."""

import numpy as np
import pytest

from mllm4d_verl.data_tools.schema import QARow, write_qa

CUES = {
    "camera_shift": "left", "camera_drift": "none", "camera_turn": "none", "parallax": "clear",
    "start_place": "left", "end_place": "middle", "start_level": "middle", "end_level": "middle",
    "image_shift": "right", "distance": "closer", "size": "larger", "outline": "larger", "own_motion": [0, 0, -1],
    "moving": True, "edge": "none", "gap": "none",
}  # fmt: skip


@pytest.fixture
def make_rows():
    """`make_rows(count)`: rows about distance and direction in turns, of clips in turns."""

    def make(count, **changes):
        rng = np.random.default_rng(0)
        rows = []
        for number in range(count):
            camera = rng.normal(size=(2, 3)).round(4).tolist()
            is_distance = number % 2 == 0
            rows.append(
                QARow(
                    id=f"row-{number:03d}",
                    clip_id=f"clip_{number % 3}",
                    video=f"videos/clip_{number % 3}.mp4",
                    num_frames=4,
                    task="camera_absolute_distance" if is_distance else "object_camera_relative_distance",
                    start_frame=0,
                    end_frame=3,
                    question="How far?" if is_distance else "Nearer?",
                    options=["1.0", "2.0"] if is_distance else ["closer", "farther"],
                    answer="A" if number % 4 < 2 else "B",
                    value=1.0 if is_distance else None,
                    unit="meters" if is_distance else None,
                    camera_center=camera,
                    object_center=None if is_distance else rng.normal(size=(2, 3)).round(4).tolist(),
                    object_description=None if is_distance else "the red ball",
                    meta={"cues": CUES},
                    **changes,
                )
            )
        return rows

    return make


@pytest.fixture
def qa_file(tmp_path, make_rows, write_video):
    """`qa_file(count)`: a parquet file of such rows in a folder with their videos."""

    def write(count, **changes):
        for number in range(3):
            write_video(
                tmp_path / "qa" / "videos" / f"clip_{number}.mp4", num_frames=7, width=64, height=48, seed=number
            )
        return write_qa(tmp_path / "qa" / "train.parquet", make_rows(count, **changes))

    return write
