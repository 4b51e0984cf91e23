"""Frames: the ones the question names, decoded once."""

import threading
import time
import weakref

import pytest
import torch
from qwen_vl_utils import fetch_video

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.sampling import sample_frame_indices
from mllm4d_verl.video import FrameCache, load_video
from mllm4d_verl.video.frames import StoredVideo


def _element(path, nframes=8, **limits):
    return {"type": "video", "video": str(path), "nframes": nframes, **limits}


class TestLoadVideo:
    @pytest.mark.parametrize("total", [2, 3, 9, 31, 48, 150, 301])
    def test_sampled_frames_are_the_ones_questions_name(self, write_video, tmp_path, total):
        path = write_video(tmp_path / "left.mp4", num_frames=total, width=32, height=32)
        for count in {n for n in (2, 4, 8, 16, 32, total - total % 2) if n <= total}:
            _, metadata = load_video(_element(path, count, min_pixels=784), 14, FrameCache())
            assert metadata["frames_indices"] == sample_frame_indices(total, count)

    @pytest.mark.parametrize("patch", [14, 16])
    def test_equals_qwen_vl_utils_whether_cached_or_not(self, read_by_us, write_video, tmp_path, patch):
        element = _element(write_video(tmp_path / "left.mp4", width=120, height=90), min_pixels=784, max_pixels=8000)
        want, want_metadata = fetch_video(element, image_patch_size=patch, return_video_metadata=True)
        cache = FrameCache()
        for _ in range(2):
            frames, metadata = load_video(element, patch, cache)
            assert torch.equal(frames, want)
            assert frames.dtype == want.dtype
            assert metadata == want_metadata
        assert (cache.misses, cache.hits) == (1, 1)
        assert cache.bytes == want.numel()  # a byte a value

    def test_metadata_belongs_to_the_caller(self, write_video, tmp_path):
        element, cache = _element(write_video(tmp_path / "left.mp4")), FrameCache()
        load_video(element, 16, cache)[1]["frames_indices"].clear()
        assert len(load_video(element, 16, cache)[1]["frames_indices"]) == 8

    def test_frames_are_shared_while_they_are_in_use(self, write_video, tmp_path):
        element, cache = _element(write_video(tmp_path / "left.mp4")), FrameCache()
        frames, _ = load_video(element, 16, cache)
        assert load_video(element, 16, cache)[0] is frames
        released, want = weakref.ref(frames), frames.clone()
        del frames
        assert released() is None
        assert torch.equal(load_video(element, 16, cache)[0], want)

    def test_a_rewritten_file_is_read_again(self, write_video, tmp_path):
        path, cache = tmp_path / "left.mp4", FrameCache()
        first, _ = load_video(_element(write_video(path, seed=1)), 16, cache)
        second, _ = load_video(_element(write_video(path, seed=2)), 16, cache)
        assert not torch.equal(first, second)

    def test_other_parameters_are_other_entries(self, write_video, tmp_path):
        path, cache = write_video(tmp_path / "left.mp4"), FrameCache()
        shapes = {
            tuple(load_video(_element(path, n, min_pixels=low), patch, cache)[0].shape)
            for n, low, patch in [(8, 784, 14), (4, 784, 14), (8, 50000, 14), (8, 784, 16)]
        }
        assert len(shapes) == len(cache) == 4

    def test_file_url(self, write_video, tmp_path):
        path, cache = write_video(tmp_path / "left.mp4"), FrameCache()
        load_video(_element(path), 16, cache)
        load_video(_element(f"file://{path}"), 16, cache)
        assert (cache.misses, cache.hits) == (1, 1)

    def test_missing_broken_and_short_videos_are_named(self, write_video, tmp_path):
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"no")
        short = write_video(tmp_path / "short.mp4", num_frames=4)
        for path, problem in [(tmp_path / "absent.mp4", "opened"), (broken, "decode"), (short, "of 4")]:
            with pytest.raises(InputError, match=rf"{path.name}.*{problem}"):
                load_video(_element(path), 16, FrameCache())


class TestFrameCache:
    @staticmethod
    def _entry(size):
        return StoredVideo(torch.zeros(size, dtype=torch.uint8), {})

    def test_the_least_recently_used_entry_goes_first(self):
        cache = FrameCache(max_bytes=100)
        for key in "ab":
            cache.get(key, lambda: self._entry(40))
        cache.get("a", lambda: pytest.fail("a is there"))
        cache.get("c", lambda: self._entry(40))
        cache.get("a", lambda: pytest.fail("a was used last"))
        assert (len(cache), cache.bytes) == (2, 80)

    def test_what_is_larger_than_the_cache_is_not_kept(self):
        cache = FrameCache(max_bytes=10)
        assert cache.get("a", lambda: self._entry(11)).nbytes == 11
        assert (len(cache), cache.bytes) == (0, 0)

    def test_threads_wait_for_one_load(self):
        cache, loads = FrameCache(), []

        def load():
            loads.append(1)
            time.sleep(0.05)
            return self._entry(4)

        threads = [threading.Thread(target=cache.get, args=("a", load)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(loads) == 1

    def test_a_failed_load_is_tried_again(self):
        cache = FrameCache()
        with pytest.raises(OSError, match="x"):
            cache.get("a", lambda: (_ for _ in ()).throw(OSError("x")))
        assert cache.get("a", lambda: self._entry(4)).nbytes == 4
