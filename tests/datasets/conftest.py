"""A small QA file over two clips."""

import pytest
from omegaconf import OmegaConf

from mllm4d_verl.data_tools.schema import QARow, write_qa

COT = (
    "<thinking>\n**Spatial State (Initial Frame):**\n- Camera Center: [0.0000, 0.0000, 0.0000]\n"
    "- Object Center: null\n**Spatial State (Final Frame):**\n- Camera Center: [0.5000, 0.0000, 0.0000]\n"
    "- Object Center: null\n</thinking>\n<answer>B</answer>"
)


def make_row(index=0, **changes):
    row = {
        "id": f"q{index}",
        "clip_id": f"clip_{index % 2}",
        "video": f"clip_{index % 2}/left.mp4",
        "num_frames": 8,
        "task": "camera_relative_direction",
        "start_frame": 1,
        "end_frame": 6,
        "question": f"Question {index}: where does the camera go from frame 1 to frame 6 of 7?",
        "options": ["left", "right", "up", "down"],
        "answer": "B",
        "camera_center": [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]],
        "response": COT,
    }
    return QARow(**{**row, **changes})


def mixed_rows():
    """Rows whose truths differ in which fields and states are null."""
    return [
        make_row(0),
        make_row(
            1,
            task="object_absolute_distance",
            options=["1.0", "2.0", "3.0", "4.0"],
            answer="C",
            value=3.0,
            unit="metres",
            camera_center=None,
            object_center=[[1.0, 2.0, 3.0], None],
            object_description="the red ball",
        ),
        make_row(2, camera_center=[None, None], object_center=[None, [0.0, 1.0, 2.0]], response=None),
        make_row(3, answer="A", options=["closer", "farther", "not moving"], task="object_camera_relative_distance"),
    ]


@pytest.fixture
def qa_file(tmp_path, write_video):
    """A file of four rows beside the two clips they are about."""
    write_video(tmp_path / "clip_0" / "left.mp4", num_frames=12, seed=0)
    write_video(tmp_path / "clip_1" / "left.mp4", num_frames=17, seed=1)
    return str(write_qa(tmp_path / "train.parquet", mixed_rows()))


@pytest.fixture
def data_config():
    """`data_config(**changes)`: the keys of verl's data config that the datasets read."""

    def make(**changes):
        base = {
            "min_pixels": 784,
            "max_pixels": 50176,
            "prompt_template": "st_cot",
            "max_prompt_length": 4096,
            "max_length": 4096,
            "truncation": "error",
            "pad_mode": "no_padding",
            "filter_overlong_prompts": False,
            "image_patch_size": None,
            "return_raw_chat": True,
        }
        return OmegaConf.create({**base, **changes})

    return make
