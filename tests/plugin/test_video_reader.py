"""qwen_vl_utils' choice of a video reader, for verl's own datasets: one that fails is replaced, others stay."""

import pytest
import torch

from mllm4d_verl.verl_compat import ADAPTATIONS, video_reader

pytestmark = pytest.mark.pins


@pytest.fixture
def choose(monkeypatch):
    """`choose(name, forced=None)`: what is chosen where stock qwen_vl_utils chooses `name`."""
    from qwen_vl_utils import vision_process

    def run(name, forced=None):
        monkeypatch.setattr(vision_process, "FORCE_QWENVL_VIDEO_READER", forced)
        return ADAPTATIONS["read_videos_with_pyav"].change(lambda: name)()

    video_reader._works.cache_clear()
    yield run
    video_reader._works.cache_clear()


def broken(element):
    raise RuntimeError("Could not load libtorchcodec")


def test_a_reader_that_fails_is_replaced(choose, monkeypatch, write_video, tmp_path):
    from qwen_vl_utils import vision_process

    monkeypatch.setitem(vision_process.VIDEO_READER_BACKENDS, "torchcodec", broken)
    name = choose("torchcodec")
    element = {"video": str(write_video(tmp_path / "a.mp4")), "nframes": 4}
    frames, metadata, sampled_fps = vision_process.VIDEO_READER_BACKENDS[name](element)
    assert (frames.shape, frames.dtype) == ((4, 3, 64, 96), torch.uint8)
    assert metadata["video_backend"] == "pyav"
    assert sampled_fps == pytest.approx(4 / 12 * 10)


def test_a_reader_that_works_and_one_that_the_user_chose_stay(choose, monkeypatch):
    from qwen_vl_utils import vision_process

    monkeypatch.setitem(vision_process.VIDEO_READER_BACKENDS, "torchcodec", video_reader.read)
    monkeypatch.setitem(vision_process.VIDEO_READER_BACKENDS, "other", broken)
    assert choose("torchcodec") == "torchcodec"
    assert choose("other", forced="other") == "other"
