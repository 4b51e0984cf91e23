"""What is annotated is what is trained: the video of a record has the annotated frames, upright, for every decoder."""

import shutil

import av
import cv2
import numpy as np
import pytest
from video_files import encode, remux, set_display_matrix

from mllm4d_verl.data_tools.annotation.config import load_config
from mllm4d_verl.data_tools.annotation.run import annotate, find_source
from mllm4d_verl.data_tools.annotation.store import AnnotationFolder
from mllm4d_verl.data_tools.readers.pair import PairReader
from mllm4d_verl.data_tools.schema import read_clip
from mllm4d_verl.data_tools.synthetic import world_preset, write_world
from mllm4d_verl.data_tools.video import VideoFrames

FRAMES = 8
#: Small images are hard to match and to track: what is tested here is the video.
LOOSE = {
    "quality.min_matches": 5,
    "quality.min_valid_depth": 0.05,
    "quality.max_camera_noise_m": 10,
    "quality.min_track_coverage": 0,
    "quality.max_reprojection_px": 10,
    "quality.allow_static": True,
    "frames.min_frames": 6,
}
CODEC = {"g": 4, "bf": 0, "crf": 8}


def turned(_, stream):
    """The display matrix of a phone that was held upside down."""
    one = 1 << 16
    set_display_matrix(stream, [-one, 0, 0, 0, -one, 0, 0, 0, 1 << 30])


def trimmed(path, frames):
    """An mp4 that begins four frames before its first shown frame, which an edit list hides."""
    before = np.concatenate([np.zeros_like(frames[:4]), frames])
    whole = encode(path.with_name("whole.mp4"), before, options=CODEC, rate=8)
    with av.open(str(whole)) as container:
        ticks = sorted(packet.pts for packet in container.demux(video=0) if packet.size)
    # The second key frame is the first shown one; one frame later would be in the middle of a group.
    remux(whole, path, shift=-ticks[4], container_options={"avoid_negative_ts": "disabled", "use_editlist": "1"})
    whole.unlink()


WRITERS = {
    "plain": lambda path, frames: encode(path, frames, options=CODEC, rate=8),
    "turned": lambda path, frames: encode(path, frames, options=CODEC, rate=8, before=turned),
    "ten_bits": lambda path, frames: encode(path, frames, pix_fmt="yuv420p10le", options=CODEC, rate=8),
    "trimmed": trimmed,
}
if "libsvtav1" in av.codecs_available:
    WRITERS["av1"] = lambda path, frames: encode(path, frames, "libsvtav1", options={"crf": 12, "preset": 10}, rate=8)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """The sources, and the folder that was annotated from them: one clip in every form."""
    folder = tmp_path_factory.mktemp("videos")
    config = world_preset("default").replace(camera_motions={"left": 1}, detail=0.3)
    write_world(folder / "world", 1, seed=2, width=128, height=96, num_frames=FRAMES, config=config, dense=False)
    clip = next(folder.glob("world/*/left.mp4")).parent
    for name, write in WRITERS.items():
        (folder / "sources" / name).mkdir(parents=True)
        shutil.copy(clip / "calibration.json", folder / "sources" / name)
        for eye in ("left", "right"):
            frames = np.stack(list(VideoFrames(clip / f"{eye}.mp4").frames()))
            write(folder / "sources" / name / f"{eye}.mp4", frames)
    report = annotate(find_source(folder / "sources"), folder / "out", load_config(None, LOOSE), workers=2)
    assert report.kept == len(WRITERS), report
    return folder / "sources", folder / "out"


@pytest.mark.parametrize("name", WRITERS)
def test_training_gets_the_annotated_frames(annotated, name):
    from mllm4d_verl.video import load_video

    sources, out = annotated
    (ref,) = PairReader().find(sources / name)
    clip = read_clip(AnnotationFolder(out).clips / f"{name}.npz")
    want = [pair.left for pair in PairReader().open(ref).pairs()]
    assert len(want) == clip.num_frames == FRAMES
    element = {"video": str(out / clip.video), "nframes": FRAMES, "min_pixels": 96 * 128, "max_pixels": 96 * 128}
    frames, metadata = load_video(element, 16)
    assert metadata["frames_indices"] == list(range(FRAMES))
    assert metadata["fps"] == pytest.approx(clip.fps)
    for trained, left in zip(frames.permute(0, 2, 3, 1).numpy(), want, strict=True):
        # Where the video was written anew, compression costs a little.
        assert np.abs(trained - left).mean() < 2.5


def test_only_a_file_that_reads_alike_everywhere_is_kept(annotated):
    sources, out = annotated
    videos = {name: read_clip(AnnotationFolder(out).clips / f"{name}.npz").video for name in WRITERS}
    assert (out / videos.pop("plain")).resolve() == (sources / "plain" / "left.mp4").resolve()
    assert videos == {name: f"videos/{name}.mp4" for name in videos}


@pytest.mark.parametrize("name", WRITERS)
def test_opencv_reads_the_same_number_of_frames(annotated, name):
    _, out = annotated
    clip = read_clip(AnnotationFolder(out).clips / f"{name}.npz")
    video, count = cv2.VideoCapture(str(out / clip.video)), 0
    while video.read()[0]:
        count += 1
    assert count == FRAMES
