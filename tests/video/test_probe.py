"""What is said about good and bad video files."""

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.video import VideoInfo, check_video, probe_video


def test_header(write_video, tmp_path):
    path = write_video(tmp_path / "left.mp4", num_frames=12, width=96, height=64, fps=10.0)
    assert probe_video(path) == VideoInfo(num_frames=12, fps=10.0, height=64, width=96)


def test_a_rewritten_file_is_probed_again(write_video, tmp_path):
    path = tmp_path / "left.mp4"
    assert probe_video(write_video(path, num_frames=12)).num_frames == 12
    assert probe_video(write_video(path, num_frames=20)).num_frames == 20


def test_missing(tmp_path):
    with pytest.raises(InputError, match=r"absent\.mp4, field video: .*media_root"):
        probe_video(tmp_path / "absent.mp4")


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_not_a_video(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.mp4, field video: the video does not decode"):
        probe_video(path)


def test_cut_off(write_video, tmp_path):
    path = write_video(tmp_path / "cut.mp4", num_frames=40)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="does not decode"):
        probe_video(path)


def test_too_short(write_video, tmp_path):
    path = write_video(tmp_path / "left.mp4", num_frames=12)
    assert check_video(path, 12).num_frames == 12
    with pytest.raises(InputError, match=r"row 3, field num_frames: 14 frames .* of 12"):
        check_video(path, 14, row=3)


def test_odd(write_video, tmp_path):
    with pytest.raises(InputError, match="even"):
        check_video(write_video(tmp_path / "left.mp4"), 5)
