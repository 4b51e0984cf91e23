"""What a video element may name, and what of a file reaches the prompt: turns, times, stretches, frame rates."""

import numpy as np
import pytest
import torch
from verl.utils.tokenizer import build_multimodal_processor_inputs
from video_files import encode, frame_numbers, moving_frames, set_display_matrix, write_h264, write_images

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.video import VideoFrames
from mllm4d_verl.video import FrameCache, VideoGeometry, load_video, probe_video, video_element, video_tokens

SIZE = {"min_pixels": 96 * 64, "max_pixels": 96 * 64}  # frames of `moving_frames` keep their size for Qwen3-VL
TIMES = (0, 40, 90, 120, 700, 720, 1500, 1550, 1600, 3000)  # ms


def element(video, nframes=8, **more):
    return {"type": "video", "video": str(video), "nframes": nframes, **SIZE, **more}


def as_images(frames):
    return frames.permute(0, 2, 3, 1).numpy()


def turned(_, stream):
    """A phone held upright: shown after a quarter turn clockwise."""
    one = 1 << 16
    set_display_matrix(stream, [0, one, 0, -one, 0, 0, 0, 0, 1 << 30])


@pytest.fixture
def irregular(tmp_path):
    return encode(tmp_path / "irregular.mp4", moving_frames(10), options={"g": 4}, times=TIMES)


class TestFiles:
    @pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
    def test_pixels_are_those_of_annotation(self, tmp_path, pix_fmt):
        path = encode(tmp_path / "a.mp4", moving_frames(30), pix_fmt=pix_fmt)
        frames, metadata = load_video(element(path), 16, FrameCache())
        whole = list(VideoFrames(path).frames())
        for frame, index in zip(as_images(frames), metadata["frames_indices"], strict=True):
            np.testing.assert_array_equal(frame, whole[index])

    def test_a_turned_file_is_upright_in_the_prompt_and_in_its_token_count(self, tmp_path):
        path = encode(tmp_path / "a.mp4", moving_frames(10), before=turned)
        frames, _ = load_video(element(path), 16, FrameCache())
        assert frames.shape[2:] == (96, 64)
        np.testing.assert_array_equal(as_images(frames)[0], np.rot90(next(VideoFrames(path).frames()), -1))
        info = probe_video(path)
        assert (info.height, info.width) == (96, 64)

    def test_a_folder_of_images(self, tmp_path):
        write_images(tmp_path / "frames", moving_frames(12))
        frames, metadata = load_video(element(tmp_path / "frames", raw_fps=5.0), 16, FrameCache())
        assert (metadata["fps"], metadata["total_num_frames"]) == (5.0, 12)
        assert frame_numbers(as_images(frames)) == metadata["frames_indices"]

    def test_a_list_of_images_is_sampled(self, tmp_path):
        write_images(tmp_path, moving_frames(12))
        files = [str(tmp_path / f"{number:06d}.png") for number in range(12)]
        frames, metadata = load_video({**element(""), "video": files, "raw_fps": 5.0}, 16, FrameCache())
        assert frame_numbers(as_images(frames)) == metadata["frames_indices"]
        assert len(frames) == 8

    def test_images_without_a_rate(self, tmp_path):
        write_images(tmp_path / "frames", moving_frames(12))
        with pytest.raises(InputError, match=r"field meta\.fps: the frame rate is not known"):
            load_video(element(tmp_path / "frames"), 16, FrameCache())

    def test_an_image_of_a_folder_that_changes_is_read_again(self, tmp_path):
        folder, cache = write_images(tmp_path / "frames", moving_frames(12)), FrameCache()
        first, _ = load_video(element(folder, raw_fps=5.0), 16, cache)
        write_images(folder, moving_frames(12, seed=1))
        second, _ = load_video(element(folder, raw_fps=5.0), 16, cache)
        assert not torch.equal(first, second)

    def test_an_animated_image(self, tmp_path):
        path = encode(tmp_path / "a.gif", moving_frames(10), "gif", "rgb8", times=TIMES)
        frames, metadata = load_video(element(path), 16, FrameCache())
        assert frame_numbers(as_images(frames))[-1] == 9
        assert metadata["frames_indices"][-1] == 3000

    def test_a_remote_video(self, tmp_path):
        fsspec = pytest.importorskip("fsspec")
        path = write_h264(tmp_path / "a.mp4", moving_frames(12))
        with fsspec.open("memory://videos/a.mp4", "wb") as file:
            file.write(path.read_bytes())
        row = {"id": "q", "video": "a.mp4", "num_frames": 8, "meta": {}}
        remote = video_element(row, "memory://videos", tmp_path, **SIZE)
        assert remote["video"] == "memory://videos/a.mp4"
        cache = FrameCache()
        for _ in range(2):
            assert torch.equal(load_video(remote, 16, cache)[0], load_video(element(path), 16, FrameCache())[0])
        assert (cache.misses, cache.hits) == (1, 1)
        assert probe_video(remote).num_frames == 12

    def test_a_damaged_frame_is_named(self, tmp_path):
        path = encode(tmp_path / "a.mp4", moving_frames(30), "mpeg4", options={"g": 1})
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.mp4, field video: the video does not decode \(frame \d+"):
            load_video(element(path, 30), 16, FrameCache())

    def test_the_time_limit(self, tmp_path):
        path = write_h264(tmp_path / "a.mp4", moving_frames(12))
        with pytest.raises(InputError, match="took more than 1e-09 s"):
            load_video(element(path), 16, FrameCache(), time_limit_s=1e-9)
        load_video(element(path), 16, FrameCache(), time_limit_s=None)

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"video": []}, "field video: the list of frames is empty"),
            ({"video": "/a\0b.mp4"}, "field video: the video cannot be opened"),
            ({"video_start": float("nan")}, "field video_start: not a time: nan"),
            ({"video_end": "1"}, "field video_end: not a time: '1'"),
            ({"nframes": 0}, r"field nframes: .*interval \[2, 12\]"),
            ({"nframes": 14}, "14 frames are to be sampled from a video of 12"),
        ],
    )
    def test_elements_that_mean_nothing(self, tmp_path, changes, match):
        path = write_h264(tmp_path / "a.mp4", moving_frames(12))
        with pytest.raises(InputError, match=match):
            load_video({**element(path), **changes}, 16, FrameCache())

    @pytest.mark.parametrize(
        ("video", "meta"), [("d", {"fps": "x"}), ("a.mp4", {"start_s": "x"}), ("a.mp4", {"start_s": 0, "end_s": [1]})]
    )
    def test_numbers_of_a_row_that_are_none(self, tmp_path, video, meta):
        row = {"id": "q7", "video": video, "num_frames": 8, "meta": meta}
        with pytest.raises(InputError, match=r"row q7, field meta\.\w+: not a number"):
            video_element(row, None, tmp_path)

    @pytest.mark.parametrize("name", ["a b.mp4", "a#b.mp4", "a?b.mp4", "a%20b.mp4", "ä'.mp4"])
    def test_names_that_an_address_would_escape(self, tmp_path, name):
        path = write_h264(tmp_path / name, moving_frames(12))
        assert torch.equal(
            load_video(element(path), 16, FrameCache())[0], load_video(element(path.as_uri()), 16, FrameCache())[0]
        )


class TestTimes:
    def test_metadata_tell_the_time_of_each_frame(self, irregular):
        _, metadata = load_video(element(irregular), 16, FrameCache())
        indices = [0, 1, 3, 4, 5, 6, 8, 9]
        assert [index / metadata["fps"] for index in metadata["frames_indices"]] == [TIMES[i] / 1000 for i in indices]
        assert metadata["total_num_frames"] == round(3000 * 10 / 9)

    def test_a_prompt_has_the_true_times_and_the_length_that_was_counted(self, qwen3_processor, irregular):
        inputs = build_multimodal_processor_inputs(
            qwen3_processor,
            text=["<|vision_start|><|video_pad|><|vision_end|>"],
            videos=[load_video(element(irregular), 16, FrameCache())],
        )
        text = qwen3_processor.tokenizer.decode(inputs["input_ids"][0])
        assert [f"<{seconds} seconds>" in text for seconds in ("0.0", "0.4", "1.1", "2.3")] == [True] * 4
        info = probe_video(irregular)
        tokens = video_tokens(
            VideoGeometry.from_processor(qwen3_processor),
            8,
            info.height,
            info.width,
            **SIZE,
            total_frames=info.num_frames,
            fps=info.fps,
            irregular_times_s=info.irregular_times_s,
            count_text_tokens=lambda text: len(qwen3_processor.tokenizer(text)["input_ids"]),
        )
        assert tokens == inputs["input_ids"].shape[1]

    @pytest.mark.parametrize(
        ("stretch", "want"),
        [
            ({"video_start": 0.05}, [90, 120, 700, 720, 1500, 1550, 1600, 3000]),
            ({"video_end": 1.55}, [0, 40, 90, 120, 700, 720, 1500, 1550]),
        ],
    )
    def test_a_part_is_cut_by_time(self, irregular, stretch, want):
        _, metadata = load_video(element(irregular, **stretch), 16, FrameCache())
        assert metadata["frames_indices"] == want
        assert probe_video(irregular).frames_between(stretch.get("video_start"), stretch.get("video_end")) == 8

    def test_a_part_without_frames(self, irregular, tmp_path):
        with pytest.raises(InputError, match=r"field meta\.start_s: no two frames lie between 1\.7 s and 2\.5 s"):
            load_video(element(irregular, 2, video_start=1.7, video_end=2.5), 16, FrameCache())
        path = write_h264(tmp_path / "a.mp4", moving_frames(12))
        with pytest.raises(InputError, match=r"a\.mp4, field meta\.start_s"):
            load_video(element(path, 2, video_start=1.0, video_end=1.05), 16, FrameCache())

    @pytest.mark.parametrize(
        "stretch", [{}, {"video_start": 0.35}, {"video_end": 0.75}, {"video_start": 0.2, "video_end": 0.9}]
    )
    def test_a_regular_part_is_that_of_qwen_vl_utils(self, read_by_us, tmp_path, stretch):
        from qwen_vl_utils import fetch_video

        path = write_h264(tmp_path / "a.mp4", moving_frames(30))
        wanted = element(path, 6, **stretch)
        frames, metadata = load_video(wanted, 16, FrameCache())
        info = probe_video(path)
        assert info.frames_between(stretch.get("video_start"), stretch.get("video_end")) == metadata["total_num_frames"]
        same, _ = fetch_video(wanted, image_patch_size=16, return_video_metadata=True)
        assert torch.equal(frames, same)
