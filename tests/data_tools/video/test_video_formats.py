"""What files say of themselves is honoured: codecs, containers, turns, pixel aspects, times, cuts."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from video_files import encode, frame_numbers, moving_frames, remux, set_display_matrix, write_h264

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.video import VideoFrames, open_frames

SHARED = Path(__file__).parents[4] / "shared" / "repro" / "stereo"

#: name: suffix, codec, pixel format, options of the codec.
FORMATS = {
    "h264": (".mp4", "libx264", "yuv420p", {"g": 8, "bf": 2}),
    "h264 10 bit": (".mp4", "libx264", "yuv420p10le", {"g": 8}),
    "h264 4:4:4": (".mkv", "libx264", "yuv444p", {"g": 8}),
    "h264 RGB": (".mkv", "libx264rgb", "rgb24", {"g": 8}),
    "h264 in mov": (".mov", "libx264", "yuv420p", {"g": 8, "bf": 2}),
    "h264 in avi": (".avi", "libx264", "yuv420p", {"g": 8, "bf": 0}),
    "h264 in ts": (".ts", "libx264", "yuv420p", {"g": 8, "bf": 2}),
    "hevc": (".mp4", "libx265", "yuv420p", {"g": 8, "x265-params": "log-level=none"}),
    "hevc 10 bit": (".mp4", "libx265", "yuv420p10le", {"g": 8, "x265-params": "log-level=none"}),
    "av1": (".mp4", "libsvtav1", "yuv420p", {"g": 8, "crf": 20, "preset": 10}),
    "av1 in mkv": (".mkv", "libsvtav1", "yuv420p", {"g": 8, "crf": 20, "preset": 10}),
    "vp9": (".webm", "libvpx-vp9", "yuv420p", {"g": 8, "crf": 10, "b": 0, "auto-alt-ref": 1, "lag-in-frames": 12}),
    "vp8": (".webm", "libvpx", "yuv420p", {"g": 8, "crf": 4, "b": 2_000_000, "auto-alt-ref": 1, "lag-in-frames": 12}),
    "mpeg4": (".mp4", "mpeg4", "yuv420p", {"g": 8, "qmax": 3}),
    "mpeg4 with B frames in avi": (".avi", "mpeg4", "yuv420p", {"g": 8, "bf": 2, "qmax": 3}),
    "mpeg2": (".mpg", "mpeg2video", "yuv420p", {"g": 8, "bf": 2, "qmax": 3}),
    "mjpeg": (".avi", "mjpeg", "yuvj420p", {"qmax": 3}),
    "prores": (".mov", "prores_ks", "yuv422p10le", {}),
    "ffv1 grey": (".mkv", "ffv1", "gray", {}),
    "png with alpha": (".mov", "png", "rgba", {}),
    "gif": (".gif", "gif", "rgb8", {}),
    "apng": (".apng", "apng", "rgb24", {}),
}


def write(folder, name, count=30, **more):
    suffix, codec, pix_fmt, options = FORMATS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    rate = 25 if name == "mpeg2" else 10  # MPEG-2 knows few rates
    return encode(folder / f"a{suffix}", moving_frames(count), codec, pix_fmt, options, rate=rate, **more)


@pytest.fixture(scope="module", params=FORMATS)
def video(request, tmp_path_factory):
    return VideoFrames(write(tmp_path_factory.mktemp("format"), request.param))


class TestFormats:
    def test_every_frame_is_there_in_order(self, video):
        assert video.num_frames == 30
        assert frame_numbers(video.frames()) == [number % 12 for number in range(30)]

    def test_frames_by_index_are_those_of_the_whole(self, video):
        whole = list(video.frames())
        rng = np.random.default_rng(0)
        for count in (1, 2, 5):
            indices = sorted(rng.integers(0, 30, count).tolist())
            for frame, index in zip(video.frames_at(indices), indices, strict=True):
                np.testing.assert_array_equal(frame, whole[index])

    def test_rate(self, video):
        assert video.fps == pytest.approx(25.0 if video.path.suffix == ".mpg" else 10.0, rel=0.02)
        assert video.irregular_times_s is None


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gop=st.integers(1, 40),
    b_frames=st.integers(0, 4),
    is_open=st.booleans(),
    suffix=st.sampled_from([".mp4", ".mkv", ".ts", ".avi"]),
    indices=st.lists(st.integers(0, 59), min_size=1, max_size=6).map(sorted),
)
def test_seeking_finds_the_frame_that_counting_finds(tmp_path_factory, gop, b_frames, is_open, suffix, indices):
    path = tmp_path_factory.mktemp("gop") / f"a{suffix}"
    params = f"keyint={gop}:bframes={b_frames}:open-gop={int(is_open)}:b-adapt=0:scenecut=0"
    video = VideoFrames(encode(path, moving_frames(60), options={"x264-params": params, "crf": 20}))
    whole = list(video.frames())
    assert len(whole) == 60
    for frame, index in zip(video.frames_at(indices), indices, strict=True):
        np.testing.assert_array_equal(frame, whole[index])


class TestIndices:
    def test_an_index_may_repeat_and_none_is_nothing(self, tmp_path):
        video = VideoFrames(write_h264(tmp_path / "a.mp4", moving_frames(30)))
        assert frame_numbers(video.frames_at([3, 3, 20, 29, 29])) == [3, 3, 8, 5, 5]
        assert list(video.frames_at([])) == []

    @pytest.mark.parametrize("indices", [[-1], [30], [5, 4]])
    def test_out_of_range_or_order(self, tmp_path, indices):
        video = VideoFrames(write_h264(tmp_path / "a.mp4", moving_frames(30)))
        with pytest.raises(InputError, match=r"a\.mp4, field frames: frame -?\d+ asked for after frame"):
            video.frames_at(indices)


class TestTurns:
    """A display matrix turns what is shown; the stored pixels are those of the camera."""

    @staticmethod
    def matrix(a, b, c, d):
        """{a b u; c d v; x y w} with the fixed point of ISO/IEC 14496-12."""
        one = 1 << 16
        return np.array([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30], np.int32)

    @pytest.mark.parametrize(
        ("matrix", "shown"),
        [
            ((1, 0, 0, 1), lambda frame: frame),
            ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
            ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),  # a phone held upright
            ((0, -1, 1, 0), lambda frame: np.rot90(frame, 1)),
            ((-1, 0, 0, 1), np.fliplr),
            ((1, 0, 0, -1), np.flipud),
            ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
        ],
    )
    def test_as_shown_and_as_stored(self, tmp_path, matrix, shown):
        plain = list(VideoFrames(encode(tmp_path / "plain.mp4", moving_frames(4))).frames())
        path = encode(
            tmp_path / "a.mp4",
            moving_frames(4),
            before=lambda _, stream: set_display_matrix(stream, self.matrix(*matrix).tolist()),
        )
        stored, turned = VideoFrames(path), VideoFrames(path, as_shown=True)
        assert (stored.width, stored.height) == (96, 64)
        for frame, as_stored, as_shown in zip(plain, stored.frames(), turned.frames(), strict=True):
            np.testing.assert_array_equal(as_stored, frame)
            np.testing.assert_array_equal(as_shown, shown(frame))
        assert next(turned.frames()).shape == (turned.height, turned.width, 3)
        assert stored.stated_presentation.is_plain == (matrix == (1, 0, 0, 1))

    @pytest.mark.parametrize(("degrees", "quarters"), [("90", 1), ("180", 2)])
    def test_files_of_a_phone(self, degrees, quarters):
        path = SHARED / f"rotation_metadata_{degrees}" / "left.mp4"
        if not path.is_file():
            pytest.skip("shared/repro is not here")
        stored, shown = next(VideoFrames(path).frames()), next(VideoFrames(path, as_shown=True).frames())
        assert any(np.array_equal(shown, np.rot90(stored, turns)) for turns in (quarters, -quarters))


class TestPixelAspect:
    def test_pixels_become_square(self, tmp_path):
        def wide(_, stream):
            stream.codec_context.sample_aspect_ratio = Fraction(2)

        path = encode(tmp_path / "a.mp4", moving_frames(4), before=wide)
        shown = VideoFrames(path, as_shown=True)
        assert (shown.width, shown.height) == (192, 64)
        assert next(shown.frames()).shape == (64, 192, 3)
        assert frame_numbers(frame[:, ::2] for frame in shown.frames()) == [0, 1, 2, 3]
        assert VideoFrames(path).width == 96

    def test_an_aspect_that_nobody_means_is_ignored(self, tmp_path):
        def absurd(_, stream):
            stream.codec_context.sample_aspect_ratio = Fraction(1, 60)

        assert VideoFrames(encode(tmp_path / "a.mp4", moving_frames(2), before=absurd), as_shown=True).height == 64


class TestColours:
    @pytest.mark.parametrize("matrix", [1, 6])  # ITU-R BT.709 and BT.601, numbered as in ITU-T H.273
    @pytest.mark.parametrize("color_range", [1, 2])  # limited and full
    def test_matrix_and_range_of_the_file(self, tmp_path, matrix, color_range):
        want = (200, 60, 30)
        red, green, blue = (level / 255 for level in want)
        of_red, of_blue = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}[matrix]
        luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
        chroma = (blue - luma) / (2 - 2 * of_blue), (red - luma) / (2 - 2 * of_red)
        scale = (219, 16, 224) if color_range == 1 else (255, 0, 255)
        planes = [round(luma * scale[0] + scale[1]), *(round(value * scale[2] + 128) for value in chroma)]
        path = tmp_path / "a.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, color_range
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.colorspace, frame.color_range = matrix, color_range
            for plane, level in zip(frame.planes, planes, strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        pixel = next(VideoFrames(path).frames())[32, 32]
        assert np.abs(pixel.astype(int) - want).max() <= 3


class TestTimes:
    TIMES = (0, 40, 90, 120, 700, 720, 1500, 1550, 1600, 3000)

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".gif"])
    def test_variable_frame_rate(self, tmp_path, suffix):
        codec = {".webm": "libvpx-vp9", ".gif": "gif"}.get(suffix, "libx264")
        path = encode(
            tmp_path / f"a{suffix}",
            moving_frames(10),
            codec,
            "rgb8" if suffix == ".gif" else "yuv420p",
            {"bf": 2, "g": 4} if codec == "libx264" else {},
            times=self.TIMES,
        )
        video = VideoFrames(path)
        assert video.num_frames == 10
        np.testing.assert_allclose(video.irregular_times_s, np.array(self.TIMES) / 1000, atol=0.011)
        assert video.fps == pytest.approx(3.0, rel=0.01)
        assert frame_numbers(video.frames_at([0, 4, 9])) == [0, 4, 9]
        part = video.cut(4, 9)
        np.testing.assert_allclose(part.irregular_times_s, np.array(self.TIMES[4:9]) / 1000 - 0.7, atol=0.011)

    def test_pictures_that_are_decoded_ahead_do_not_hide_it(self, tmp_path):
        """The index of an mp4 has decoding times, which look like one rate here."""
        times = [0, 100, 200, 300, 400, 1400]
        path = encode(tmp_path / "a.mp4", moving_frames(6), options={"bf": 2, "b_strategy": 0}, times=times)
        np.testing.assert_allclose(VideoFrames(path).irregular_times_s, np.array(times) / 1000)

    @pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30), Fraction(7)])
    def test_times_rounded_to_milliseconds_are_still_one_rate(self, tmp_path, rate):
        times = [round(1000 * number / rate) for number in range(100)]
        video = VideoFrames(encode(tmp_path / "a.mkv", moving_frames(100), times=times))
        assert video.irregular_times_s is None
        assert video.fps == pytest.approx(float(rate), rel=1e-3)

    def test_a_rate_given_by_the_user_wins(self, tmp_path):
        path = encode(tmp_path / "a.mp4", moving_frames(10), times=self.TIMES)
        source = open_frames(path, fps=5.0)
        assert (source.fps, source.irregular_times_s) == (5.0, None)


class TestCuts:
    @pytest.mark.parametrize("first", [10, 14])  # a key frame, and one in the middle of a group
    def test_an_edit_list_hides_frames(self, tmp_path, first):
        whole = encode(tmp_path / "whole.mp4", moving_frames(30), options={"g": 10, "bf": 0})
        ticks = VideoFrames(whole)._timeline.pts
        path = remux(
            whole,
            tmp_path / "a.mp4",
            keep=lambda number, _: number >= 10,
            shift=-int(ticks[first]),
            container_options={"avoid_negative_ts": "disabled", "use_editlist": "1"},
        )
        video = VideoFrames(path)
        assert video.num_frames == 30 - first
        assert frame_numbers(video.frames()) == [number % 12 for number in range(first, 30)]
        assert frame_numbers(video.frames_at([0, 12])) == [first % 12] * 2
        assert video.reads_alike_everywhere == (first == 10)  # then nothing is hidden

    def test_a_file_that_was_trimmed_without_encoding(self):
        path = SHARED / "trimmed_mp4" / "left.mp4"
        if not path.is_file():
            pytest.skip("shared/repro is not here")
        assert len(list(VideoFrames(path).frames())) == VideoFrames(path).num_frames == 18

    def test_the_first_frame_is_no_key_frame(self, tmp_path):
        whole = encode(tmp_path / "whole.ts", moving_frames(30), options={"g": 10, "bf": 2, "sc_threshold": 0})
        video = VideoFrames(remux(whole, tmp_path / "a.ts", keep=lambda number, _: number >= 3))
        assert video.num_frames == 20
        assert frame_numbers(video.frames()) == [number % 12 for number in range(10, 30)]
        assert frame_numbers(video.frames_at([19])) == [5]


class TestStreams:
    def test_an_audio_stream_first(self, tmp_path):
        path = tmp_path / "a.mkv"
        with av.open(str(path), "w") as container:
            sound = container.add_stream("pcm_s16le", rate=8000)
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
            silence.sample_rate = 8000
            container.mux(sound.encode(silence))
            for image in moving_frames(5):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
            container.mux(sound.encode())
        assert frame_numbers(VideoFrames(path).frames()) == [0, 1, 2, 3, 4]

    def test_a_cover_picture_first(self, tmp_path):
        path = tmp_path / "a.mp4"
        with av.open(str(path), "w") as container:
            cover = container.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(cover.encode(picture))
            container.mux(cover.encode())
            for image in moving_frames(5):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        video = VideoFrames(path)
        assert (video.width, video.num_frames) == (96, 5)
        assert frame_numbers(video.frames()) == [0, 1, 2, 3, 4]

    def test_sound_alone(self, tmp_path):
        path = tmp_path / "a.mkv"
        with av.open(str(path), "w") as container:
            sound = container.add_stream("pcm_s16le", rate=8000)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
            silence.sample_rate = 8000
            container.mux(sound.encode(silence))
        with pytest.raises(InputError, match="holds no video stream"):
            VideoFrames(path)


class TestPlaces:
    def test_a_file_address(self, tmp_path):
        path = write_h264(tmp_path / "a b.mp4", moving_frames(5))
        assert frame_numbers(VideoFrames(path.as_uri()).frames()) == [0, 1, 2, 3, 4]

    def test_a_remote_address(self, tmp_path):
        fsspec = pytest.importorskip("fsspec")
        path = write_h264(tmp_path / "a.mp4", moving_frames(30))
        with fsspec.open("memory://clips/a.mp4", "wb") as file:
            file.write(path.read_bytes())
        video = VideoFrames("memory://clips/a.mp4")
        assert video.num_frames == 30
        for here, there in zip(VideoFrames(path).frames(), video.frames(), strict=True):
            np.testing.assert_array_equal(here, there)
        assert frame_numbers(video.frames_at([1, 29])) == [1, 5]
        with pytest.raises(InputError, match=r"memory://clips/b\.mp4, field video: the video cannot be opened"):
            VideoFrames("memory://clips/b.mp4")
        with pytest.raises(InputError, match="cannot be opened"):
            VideoFrames("nobody-has-this://clips/b.mp4")

    def test_a_pipe_is_no_video(self, tmp_path):
        import os

        os.mkfifo(tmp_path / "a.mp4")
        with pytest.raises(InputError, match="there is no such video"):
            VideoFrames(tmp_path / "a.mp4")


class TestTimeLimit:
    def test_the_file_is_named(self, tmp_path):
        path = write_h264(tmp_path / "a.mp4", moving_frames(30))
        video = VideoFrames(path, time_limit_s=60.0)
        assert len(list(video.frames())) == 30
        video.time_limit_s = 1e-9
        with pytest.raises(InputError, match=r"a\.mp4, field video: reading the video took more than 1e-09 s"):
            list(video.frames())
