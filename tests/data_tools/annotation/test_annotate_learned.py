"""Objects found by name in the annotation: their masks make the points, their motion is measured as ever."""

from pathlib import Path

import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation.clip import source_trajectory
from mllm4d_verl.data_tools.annotation.config import AnnotateConfig, load_config
from mllm4d_verl.data_tools.annotation.learned import FoundByName, LearnedConfig
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.estimation.disparity import SourceDisparity
from mllm4d_verl.data_tools.estimation.learned_objects import SegmentedVideo
from mllm4d_verl.data_tools.estimation.objects import ObjectConfig
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.clip import StereoClip, StereoPair
from mllm4d_verl.data_tools.synthetic import clip_scene, world_preset
from mllm4d_verl.data_tools.synthetic.render import exact_clip, render_stereo

FRAMES, WIDTH, HEIGHT = 12, 224, 168
#: A piece of the wall, which stays where it is.
WALL = 9


class Exact(StereoClip):
    """A rendered clip with true depth and poses."""

    def __init__(self):
        config = world_preset("default").replace(camera_motions={"left": 1}, object_motions={"farther": 1}, detail=0.3)
        scene = clip_scene(3, 0, FRAMES, HEIGHT / WIDTH, config)
        self.render = render_stereo(scene, config, WIDTH, HEIGHT)
        self.masks = self.render.mask.astype(np.uint8)
        self.masks[:, :50, 10:60][self.masks[:, :50, 10:60] == 0] = WALL
        self.exact = exact_clip(scene, self.render, clip_id="x", video="x", fps=8.0, baseline_m=config.baseline_m)
        self.clip_id, self.source, self.license, self.path = "clip", "test", "", Path("clip")
        self.fps, self.num_frames, self.notes = 8.0, FRAMES, {}
        self.camera = StereoCamera(WIDTH, HEIGHT, self.render.intrinsics, config.baseline_m)
        self.cam_to_world = self.exact.cam_to_world

    def pairs(self, start=0, stop=None):
        for frame in range(*slice(start, stop).indices(self.num_frames)):
            yield StereoPair(frame, self.render.left[frame], self.render.right[frame])

    def depth(self, frame):
        return self.render.depth[frame].astype(np.float32)


class TrueMasks:
    """Gives the world's masks, as networks would that make no mistake."""

    def __init__(self, clip):
        self.clip = clip

    def segment(self, frames, entities):
        assert np.shape(frames) == (FRAMES, HEIGHT, WIDTH, 3)
        names = {int(number): entities[0] for number in np.unique(self.clip.masks) if number}
        return SegmentedVideo(self.clip.masks, names)


def found(clip, segmenter, **settings):
    part = FoundByName(clip, np.stack(clip.render.left), segmenter, ["toy"], ObjectConfig(), **settings)
    estimator = SourceDisparity(clip)
    for pair in clip.pairs():
        part.add(pair.frame, pair.left, estimator.compute(pair.left, pair.right, pair.frame))
    return part.finish(source_trajectory(clip))


@pytest.fixture(scope="module")
def clip():
    return Exact()


def test_still_and_moving_objects_are_told_apart(clip):
    objects = found(clip, TrueMasks(clip), keep_masks=True)
    truth = {track.id: track for track in clip.exact.objects}
    assert {track.category for track in objects.tracks} == {"toy"}
    assert objects.origin == "estimate"
    np.testing.assert_array_equal(objects.masks, clip.masks)
    moving = [track.id for track in objects.tracks if track.is_moving]
    assert [track.id for track in objects.tracks] == [*sorted(truth), WALL]
    assert WALL not in moving
    assert len(moving) >= 3  # all four move; how many are seen to is a matter of the finder's
    for track in objects.tracks[:-1]:
        gap = track.points[0].mean(axis=0) - truth[track.id].points[0].mean(axis=0)
        assert np.linalg.norm(gap) < 0.1


def test_nothing_found_is_no_object(clip):
    class Blind:
        def segment(self, frames, entities):
            return SegmentedVideo(np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8), {})

    objects = found(clip, Blind(), keep_masks=False)
    assert (objects.tracks, objects.masks) == ([], None)


class TestSettings:
    def test_off_by_default_and_older_folders_stay_valid(self):
        assert not AnnotateConfig().learned.is_on
        assert "learned" not in AnnotateConfig().deciding()
        on = load_config(None, {"learned.tracker": "sam3", "learned.names": ["car"]})
        elsewhere = load_config(None, {"learned.tracker": "sam3", "learned.names": ["car"], "learned.device": "cuda"})
        assert on.learned.names == ("car",)
        assert on.fingerprint == elsewhere.fingerprint != AnnotateConfig().fingerprint

    @pytest.mark.parametrize(
        ("settings", "field"),
        [({"tracker": "sam3"}, "learned.names"), ({"names": ("car",)}, "learned.tracker"),
         ({"detector": "dino"}, "learned.tracker")],
    )  # fmt: skip
    def test_what_is_half_set_is_refused(self, settings, field):
        with pytest.raises(InputError) as caught:
            LearnedConfig(**settings)
        assert caught.value.field == field
