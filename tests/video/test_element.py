"""The video entry of a verl row."""

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.video import resolve_video, video_element

ROW = {"id": "q0", "video": "clip_00000/left.mp4", "num_frames": 8}


class TestResolveVideo:
    def test_below_the_parquet_folder(self):
        assert resolve_video("a/left.mp4", None, "/data/qa") == "/data/qa/a/left.mp4"

    def test_media_root_replaces_the_parquet_folder(self):
        assert resolve_video("a/left.mp4", "/clips", "/data/qa") == "/clips/a/left.mp4"

    def test_absolute_stays(self):
        assert resolve_video("/v/left.mp4", "/clips", "/data/qa") == "/v/left.mp4"

    def test_parent_folders_are_resolved(self):
        assert resolve_video("../clips/left.mp4", None, "/data/qa") == "/data/clips/left.mp4"


class TestVideoElement:
    def test_entry(self):
        element = video_element(ROW, None, "/data", min_pixels=1024, max_pixels=50176)
        assert element == {
            "type": "video",
            "video": "/data/clip_00000/left.mp4",
            "nframes": 8,
            "min_pixels": 1024,
            "max_pixels": 50176,
        }

    def test_limits_that_are_not_given_are_absent(self):
        assert set(video_element(ROW, None, "/data")) == {"type", "video", "nframes"}

    def test_the_frame_count_of_the_question_stands(self):
        assert video_element(ROW, None, "/data", num_frames=8)["nframes"] == 8
        with pytest.raises(InputError, match="names them by index"):
            video_element(ROW, None, "/data", num_frames=16)

    def test_odd_frame_count(self):
        with pytest.raises(InputError, match="even"):
            video_element({**ROW, "num_frames": 7}, None, "/data")

    @pytest.mark.parametrize("limits", [(2000, 1000), (0, 1000), (1000, -1)])
    def test_pixel_limits_that_exclude_each_other(self, limits):
        with pytest.raises(InputError, match="pixels"):
            video_element(ROW, None, "/data", *limits)
