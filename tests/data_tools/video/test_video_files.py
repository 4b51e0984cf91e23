"""Frames of videos and image folders: counts, order, colours, damage."""

import pickle

import cv2
import numpy as np
import pytest
from video_files import frame_numbers, moving_frames, write_h264, write_images

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4
from mllm4d_verl.data_tools.video import VideoFrames, list_images, open_frames, read_image


@pytest.fixture(scope="module")
def h264(tmp_path_factory):
    return write_h264(tmp_path_factory.mktemp("video") / "a.mp4", moving_frames(30))


def damaged(path, copy, share, length=200):
    """A copy with random bytes at `share` of the file."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * share)
    data[start : start + length] = np.random.default_rng(0).bytes(length)
    copy.write_bytes(data)
    return copy


class TestVideoFrames:
    def test_header(self, h264):
        video = VideoFrames(h264)
        assert (video.num_frames, video.width, video.height, video.fps) == (30, 96, 64, 10.0)

    def test_frames_come_in_the_order_they_are_shown(self, h264):
        assert frame_numbers(VideoFrames(h264).frames()) == [t % 12 for t in range(30)]

    @pytest.mark.parametrize(("start", "stop"), [(0, 3), (1, 2), (7, 12), (9, 30), (29, None), (25, 99), (5, 5)])
    def test_a_stretch_is_a_slice_of_the_whole(self, h264, start, stop):
        video = VideoFrames(h264)
        whole = list(video.frames())[start:stop]
        part = list(video.frames(start, stop))
        assert len(part) == len(whole)
        for one, other in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_an_open_group_of_pictures(self, tmp_path):
        path = write_h264(tmp_path / "a.mp4", moving_frames(30), **{"x264-params": "open-gop=1:bframes=3:b-adapt=0"})
        video = VideoFrames(path)
        whole = list(video.frames())
        for start in range(1, 30, 3):
            np.testing.assert_array_equal(next(video.frames(start)), whole[start])

    def test_colours_are_rgb(self, tmp_path):
        frames = np.zeros((2, 32, 32, 3), np.uint8)
        frames[..., 0] = 200
        write_mp4(tmp_path / "red.mp4", frames, 10.0)
        red, green, blue = next(VideoFrames(tmp_path / "red.mp4").frames()).mean(axis=(0, 1))
        assert red > 180
        assert max(green, blue) < 20

    @pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mov"])
    def test_containers(self, tmp_path, suffix):
        path = write_h264(tmp_path / f"a{suffix}", moving_frames(12), bf="0")
        assert VideoFrames(path).num_frames == 12
        assert frame_numbers(VideoFrames(path).frames()) == list(range(12))

    def test_fragmented_mp4_has_no_count_in_its_header(self, tmp_path):
        options = {"movflags": "frag_keyframe+empty_moov"}
        assert VideoFrames(write_h264(tmp_path / "a.mp4", moving_frames(20), options)).num_frames == 20

    def test_cut_is_a_source_of_its_own(self, h264):
        part = pickle.loads(pickle.dumps(VideoFrames(h264).cut(4, 9)))
        assert part.num_frames == 5
        assert frame_numbers(part.frames()) == [4, 5, 6, 7, 8]
        assert frame_numbers(part.frames(3)) == [7, 8]
        with pytest.raises(InputError, match="there are 30"):
            VideoFrames(h264).cut(4, 31)


class TestDamagedVideo:
    def test_an_mp4_that_lost_its_end(self, h264, tmp_path):
        (tmp_path / "a.mp4").write_bytes(h264.read_bytes()[:-600])
        with pytest.raises(InputError, match=r"a\.mp4: not a video, or one that is cut off"):
            VideoFrames(tmp_path / "a.mp4")

    def test_a_header_that_promises_more_than_the_file_holds(self, tmp_path):
        path = write_h264(tmp_path / "a.mp4", moving_frames(30), {"movflags": "faststart"}, bf="0")
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * 0.6)])
        with pytest.raises(InputError, match=r"cut off at frame \d+ of 30") as error:
            VideoFrames(path)
        assert 5 < error.value.row < 25

    @pytest.mark.parametrize("suffix", [".mkv", ".avi"])
    def test_other_containers_that_are_cut_off(self, tmp_path, suffix):
        path = write_h264(tmp_path / f"a{suffix}", moving_frames(30), bf="0")
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * 0.6)])
        with pytest.raises(InputError, match="cut off at frame"):
            VideoFrames(path)

    def test_a_frame_in_the_middle(self, tmp_path):
        write_mp4(tmp_path / "whole.mp4", moving_frames(30), 10.0)
        video = VideoFrames(damaged(tmp_path / "whole.mp4", tmp_path / "a.mp4", 0.5))
        assert video.num_frames == 30
        read = []
        with pytest.raises(InputError, match=r"frame \d+") as error:
            read.extend(video.frames())
        assert error.value.file.endswith("a.mp4")
        assert 5 < len(read) < 25
        assert frame_numbers(read) == [t % 12 for t in range(len(read))]

    def test_not_a_video(self, tmp_path):
        (tmp_path / "a.mp4").write_text("hello")
        with pytest.raises(InputError, match="not a video"):
            VideoFrames(tmp_path / "a.mp4")
        with pytest.raises(InputError, match="no such video"):
            VideoFrames(tmp_path / "b.mp4")


class TestImages:
    def test_natural_order(self, tmp_path):
        write_images(tmp_path, moving_frames(11), "frame_{}.png")
        (tmp_path / "notes.txt").write_text("")
        source = open_frames(tmp_path, fps=5)
        assert (source.num_frames, source.width, source.height, source.fps) == (11, 96, 64, 5)
        assert frame_numbers(source.frames()) == list(range(11))
        assert frame_numbers(source.frames(9, 20)) == [9, 10]

    def test_pattern(self, tmp_path):
        write_images(tmp_path, moving_frames(3), "left{}.png")
        write_images(tmp_path, moving_frames(2), "right{}.png")
        assert len(list_images(tmp_path, "left*.png")) == 3
        assert open_frames(tmp_path, pattern="right*").num_frames == 2
        with pytest.raises(InputError, match=r"no images that match 'top\*'"):
            open_frames(tmp_path, pattern="top*")

    def test_grey_and_alpha_become_rgb(self, tmp_path):
        grey = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
        cv2.imwrite(str(tmp_path / "grey.png"), grey)
        np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, 2))
        blue_green_red_alpha = np.tile(np.uint8([10, 20, 30, 128]), (8, 8, 1))
        cv2.imwrite(str(tmp_path / "alpha.png"), blue_green_red_alpha)
        assert read_image(tmp_path / "alpha.png")[0, 0].tolist() == [30, 20, 10]

    def test_sixteen_bits_are_refused_with_a_reason(self, tmp_path):
        cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8), 4000, np.uint16))
        with pytest.raises(InputError, match=r"16 bits a channel.*one fixed scale"):
            read_image(tmp_path / "a.png")

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_an_image_that_is_cut_off_names_its_frame(self, tmp_path, suffix):
        write_images(tmp_path, moving_frames(3), "{}" + suffix)
        broken = tmp_path / f"1{suffix}"
        broken.write_bytes(broken.read_bytes()[:-900])
        with pytest.raises(InputError, match="cut off") as error:
            list(open_frames(tmp_path, 5).frames())
        assert error.value.row == 1
        assert error.value.file == str(broken)

    def test_another_size_in_the_middle(self, tmp_path):
        write_images(tmp_path, moving_frames(2))
        cv2.imwrite(str(tmp_path / "000002.png"), np.zeros((32, 96, 3), np.uint8))
        with pytest.raises(InputError, match="frame 2 has 96x32 pixels, the first one 96x64"):
            list(open_frames(tmp_path, 5).frames())

    def test_no_images(self, tmp_path):
        with pytest.raises(InputError, match="holds no images"):
            open_frames(tmp_path)
