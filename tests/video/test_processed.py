"""A video is processed once for all rollouts of its prompt."""

import gc
import threading

import pytest
import torch
from transformers.video_processing_utils import BaseVideoProcessor
from verl.utils.tokenizer import build_multimodal_processor_inputs

from mllm4d_verl.video import processed


@pytest.fixture
def calls(monkeypatch):
    """Names of the video processors that worked, with `process_once` in place."""
    stock = BaseVideoProcessor.preprocess
    stock = getattr(stock, "__wrapped__", stock)
    worked = []

    def counted(self, videos, **kwargs):
        worked.append(type(self).__name__)
        return stock(self, videos, **kwargs)

    monkeypatch.setattr(BaseVideoProcessor, "preprocess", processed.process_once(counted))
    return worked


def _video(frames=4, fps=2.0):
    pixels = torch.arange(frames * 3 * 64 * 64).remainder(255).float().view(frames, 3, 64, 64)
    return pixels, {"fps": fps, "frames_indices": list(range(frames)), "total_num_frames": frames}


def _inputs(processor, *videos):
    text = "<|vision_start|><|video_pad|><|vision_end|>" * len(videos) + "what?"
    return build_multimodal_processor_inputs(processor, text=[text], videos=list(videos))


def test_once_and_the_same_as_without(processor, calls, monkeypatch):
    video = _video()
    got = [_inputs(processor, video) for _ in range(3)]
    assert len(calls) == 1
    monkeypatch.undo()
    want = _inputs(processor, video)
    for inputs in got:
        assert set(inputs) == set(want)
        assert all(torch.equal(torch.as_tensor(inputs[name]), torch.as_tensor(want[name])) for name in want)


def test_results_may_be_taken_apart(processor, calls):
    video = _video()
    first = _inputs(processor, video)
    first.pop("pixel_values_videos")
    assert "pixel_values_videos" in _inputs(processor, video)
    assert len(calls) == 1


def test_other_settings_are_processed_anew(processor, calls, monkeypatch):
    pixels, metadata = _video()
    _inputs(processor, (pixels, metadata))
    _inputs(processor, (pixels, {**metadata, "fps": 7.0}))
    assert len(calls) == 2
    monkeypatch.setattr(processor.video_processor, "image_mean", [0.1, 0.1, 0.1])
    _inputs(processor, (pixels, metadata))
    assert len(calls) == 3


def test_families_do_not_share(qwen3_processor, processor, calls):
    video = _video()
    for one in (qwen3_processor, processor):
        _inputs(one, video)
    assert len(set(calls)) == len(calls)


def test_forgotten_with_the_frames(qwen3_processor, calls):
    video = _video()
    _inputs(qwen3_processor, video)
    key = id(video[0])
    assert key in processed._results
    del video
    gc.collect()
    assert key not in processed._results


def test_several_videos_pass_through(qwen3_processor, calls):
    videos = _video(), _video(6)
    for _ in range(2):
        assert _inputs(qwen3_processor, *videos)["video_grid_thw"].tolist() == [[2, 4, 4], [3, 4, 4]]
    assert len(calls) == 2


def test_threads_wait_for_the_first(qwen3_processor, calls):
    video = _video()
    threads = [threading.Thread(target=_inputs, args=(qwen3_processor, video)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
