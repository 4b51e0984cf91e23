"""The stereo clip that two sources of frames make."""

import pickle

import numpy as np
import pytest
from stereo_files import frame_numbers, moving_frames, write_images

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.readers.media import PairedClip
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.video import ImageFrames, list_images


class TestPairedClip:
    def clip(self, folder, left_count=4, right_count=4, **changes):
        eyes = {
            name: ImageFrames(list_images(write_images(folder / name, moving_frames(count))), 10.0)
            for name, count in (("left", left_count), ("right", right_count))
        }
        intrinsics = np.array([[90.0, 0, 47.5], [0, 90.0, 31.5], [0, 0, 1]])
        settings = {"camera": StereoCamera(96, 64, intrinsics, 0.1), **eyes, **changes}
        return PairedClip(clip_id="a", source="user", path=folder, **settings)

    def test_pairs(self, tmp_path):
        clip = pickle.loads(pickle.dumps(self.clip(tmp_path)))
        assert (clip.num_frames, clip.fps, clip.has_frames, clip.video) == (4, 10.0, True, None)
        pairs = list(clip.pairs(1, 3))
        assert [pair.frame for pair in pairs] == [1, 2]
        assert frame_numbers(pair.left for pair in pairs) == [1, 2]
        np.testing.assert_array_equal(pairs[0].left, pairs[0].right)

    def test_unequal_counts(self, tmp_path):
        with pytest.raises(InputError, match="the left eye has 4 frames, the right one 3"):
            self.clip(tmp_path, right_count=3)

    def test_wrong_size_for_the_calibration(self, tmp_path):
        camera = StereoCamera(48, 64, np.array([[90.0, 0, 23.5], [0, 90.0, 31.5], [0, 0, 1]]), 0.1)
        with pytest.raises(InputError, match="the frames have 96x64 pixels, the calibration is for 48x64"):
            self.clip(tmp_path, camera=camera)

    def test_eyes_of_different_size(self, tmp_path):
        small = ImageFrames(list_images(write_images(tmp_path / "small", moving_frames(4, 48, 32))), 10.0)
        with pytest.raises(InputError, match="left image has 96x64 pixels, the right one 48x32"):
            next(self.clip(tmp_path, right=small).pairs())

    def test_no_rate(self, tmp_path):
        left = ImageFrames(list_images(write_images(tmp_path / "l", moving_frames(4))))
        with pytest.raises(InputError, match="the frame rate is not known"):
            self.clip(tmp_path, left=left)
        assert self.clip(tmp_path, left=left, fps=7).fps == 7.0
