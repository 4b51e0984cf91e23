"""One clip: what is the source's, what is estimated, what is written."""

from pathlib import Path

import av
import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation.clip import annotate_clip, camera_turn_deg
from mllm4d_verl.data_tools.annotation.config import load_config
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import read_clip
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.clip import SourceObject, StereoClip, StereoPair
from mllm4d_verl.data_tools.synthetic import clip_scene, world_preset
from mllm4d_verl.data_tools.synthetic.render import exact_clip, render_stereo

FRAMES, WIDTH, HEIGHT = 8, 160, 121  # an odd side, which no mp4 has
CONFIG = world_preset("default").replace(camera_motions={"left": 1}, object_motions={"farther": 1}, detail=0.3)
LOOSE = {"quality.min_matches": 5, "quality.max_camera_noise_m": 1, "quality.min_valid_depth": 0.05}


def settings(**changes):
    return load_config(None, LOOSE | {key.replace("__", "."): value for key, value in changes.items()})


class Rendered(StereoClip):
    """Frames of the synthetic world in memory, with as much of its truth as is asked for."""

    def __init__(self, seeds=(1,), truth=()):
        scenes = [clip_scene(seed, 0, FRAMES, HEIGHT / WIDTH, CONFIG) for seed in seeds]
        self.renders = [render_stereo(scene, CONFIG, WIDTH, HEIGHT) for scene in scenes]
        self.exact = exact_clip(
            scenes[0], self.renders[0], clip_id="x", video="x", fps=8.0, baseline_m=CONFIG.baseline_m
        )
        self.clip_id, self.source, self.license, self.path = "clip", "test", "CC0-1.0", Path("clip")
        self.fps, self.num_frames, self.notes = 8.0, FRAMES * len(seeds), {"place": "nowhere"}
        self.camera = StereoCamera(WIDTH, HEIGHT, self.renders[0].intrinsics, CONFIG.baseline_m)
        self.truth = truth
        if "poses" in truth:
            self.cam_to_world = self.exact.cam_to_world
        if "objects" in truth:
            centers = {
                track.id: np.stack([p.mean(axis=0) if len(p) else np.full(3, np.nan) for p in track.points])
                for track in self.exact.objects
            }
            self.objects = [SourceObject(number, "ball", values) for number, values in centers.items()]

    def pairs(self, start=0, stop=None):
        for frame in range(*slice(start, stop).indices(self.num_frames)):
            render = self.renders[frame // FRAMES]
            yield StereoPair(frame, render.left[frame % FRAMES], render.right[frame % FRAMES])

    def depth(self, frame):
        return self.renders[0].depth[frame].astype(np.float32) if "depth" in self.truth else None

    def instance_mask(self, frame):
        return self.renders[0].mask[frame].astype(np.int32) if "objects" in self.truth else None


def test_everything_estimated(tmp_path):
    clip = Rendered()
    (outcome,) = annotate_clip(clip, settings(write_masks=True), tmp_path)
    assert outcome.is_kept, outcome.reasons
    record = read_clip(tmp_path / "clip4d" / "clip.npz")
    assert (record.num_frames, record.width, record.height) == (FRAMES, WIDTH, HEIGHT)
    assert [record.quality[part] for part in ("poses", "depth", "objects")] == ["estimate"] * 3
    assert (record.quality["place"], record.quality["source_frames"]) == ("nowhere", [0, FRAMES, 1])
    assert record.quality["disparity_offset_px"] == 0
    true = clip.exact.cam_to_world
    assert np.linalg.norm(record.camera_centers[-1] - true[-1, :3, 3]) < 0.1 * np.linalg.norm(true[-1, :3, 3])
    with av.open(str(tmp_path / record.video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.shape(frames) == (FRAMES, HEIGHT - 1, WIDTH, 3)
    assert np.abs(frames[3].astype(int) - clip.renders[0].left[3][:-1]).mean() < 5
    with np.load(tmp_path / "masks" / "clip.npz") as dense:
        assert dense["masks"].shape == dense["depth"].shape == (FRAMES, HEIGHT, WIDTH)
        disparity = clip.camera.disparity(dense["depth"])
    # small images: a third of a pixel is a lot of depth
    assert np.nanmedian(np.abs(disparity - clip.camera.disparity(clip.renders[0].depth))) < 0.33


def test_the_source_is_believed(tmp_path):
    clip = Rendered(truth=("poses", "depth", "objects"))
    (outcome,) = annotate_clip(clip, settings(write_masks=True), tmp_path)
    assert outcome.is_kept, outcome.reasons
    record = read_clip(tmp_path / "clip4d" / "clip.npz")
    np.testing.assert_allclose(record.cam_to_world, clip.exact.cam_to_world, atol=1e-9)
    assert [record.quality[part] for part in ("poses", "depth", "objects")] == ["source"] * 3
    assert not {"num_matches", "disparity_offset_px"} & set(record.quality)
    found = {track.id: track for track in record.objects}
    for track in clip.exact.objects:
        frame = next((t for t in range(FRAMES) if len(track.points[t]) > 100), None)
        if frame is not None:
            gap = found[track.id].points[frame].mean(axis=0) - track.points[frame].mean(axis=0)
            assert np.linalg.norm(gap) < 0.1
            assert found[track.id].is_moving == track.is_moving
    with np.load(tmp_path / "masks" / "clip.npz") as dense:
        np.testing.assert_array_equal(dense["masks"], clip.renders[0].mask)


class Shifted(Rendered):
    """Its right eye is moved by whole pixels, which adds to all disparities; depth may be the source's."""

    def pairs(self, start=0, stop=None):
        for pair in super().pairs(start, stop):
            yield pair._replace(right=np.roll(pair.right, -2, axis=1))


def test_a_calibration_that_is_off_is_mended_where_depth_is_estimated(tmp_path):
    rejected = {"quality__allow_static": True, "quality__max_reprojection_px": 9}
    (mended,) = annotate_clip(Shifted(), settings(**rejected), tmp_path / "mended")
    assert mended.figures["disparity_offset_px"] == pytest.approx(2, abs=0.5)
    true_m = annotate_clip(Rendered(), settings(), tmp_path / "true")[0].figures["median_depth_m"]
    (as_given,) = annotate_clip(Shifted(), settings(odometry__fit_offset=False, **rejected), tmp_path / "given")
    assert "disparity_offset_px" not in as_given.figures
    off_m, left_over_m = (abs(outcome.figures["median_depth_m"] - true_m) for outcome in (as_given, mended))
    assert left_over_m < 0.5 * off_m
    (source,) = annotate_clip(Shifted(truth=("depth",)), settings(**rejected), tmp_path / "source")
    assert "disparity_offset_px" not in source.figures


def test_the_source_is_not_asked_where_estimates_are_wanted(tmp_path):
    clip = Rendered(truth=("poses", "depth", "objects"))
    wanted = {f"origin__{part}": "estimate" for part in ("poses", "depth", "objects")}
    annotate_clip(clip, settings(**wanted), tmp_path / "forced")
    annotate_clip(Rendered(), settings(), tmp_path / "without")
    forced, without = (read_clip(tmp_path / name / "clip4d" / "clip.npz") for name in ("forced", "without"))
    np.testing.assert_array_equal(forced.cam_to_world, without.cam_to_world)
    assert len(forced.objects) == len(without.objects)


@pytest.mark.parametrize("part", ["poses", "depth", "objects"])
def test_what_the_source_has_not_is_named(part, tmp_path):
    with pytest.raises(InputError, match="the source has no") as caught:
        annotate_clip(Rendered(), settings(**{f"origin__{part}": "source"}), tmp_path)
    assert caught.value.field == f"origin.{part}"
    assert not list(tmp_path.rglob("*.npz"))


def test_shots_become_records_of_their_own(tmp_path):
    outcomes = annotate_clip(Rendered(seeds=(1, 2)), settings(), tmp_path)
    assert [(outcome.clip_id, outcome.frames) for outcome in outcomes] == [
        ("clip_s0", (0, FRAMES, 1)),
        ("clip_s1", (FRAMES, 2 * FRAMES, 1)),
    ]
    kept = [outcome.clip_id for outcome in outcomes if outcome.is_kept]
    assert {path.stem for path in (tmp_path / "clip4d").glob("*.npz")} == set(kept)
    for name in kept:
        record = read_clip(tmp_path / "clip4d" / f"{name}.npz")
        np.testing.assert_allclose(record.cam_to_world[0], np.eye(4), atol=1e-9)
        assert record.video == f"videos/{name}.mp4"


def test_bad_poses_are_refused_before_any_work(tmp_path):
    clip = Rendered(truth=("poses",))
    clip.cam_to_world = clip.cam_to_world.copy()
    clip.cam_to_world[3, 0, 3] = np.nan
    with pytest.raises(InputError, match=r"frame 3.*NaN"):
        annotate_clip(clip, settings(), tmp_path)
    (outcome,) = annotate_clip(clip, settings(origin__poses="estimate"), tmp_path)
    assert outcome.is_kept


def test_labels_alone(tmp_path):
    clip = Rendered(truth=("poses", "objects"))
    clip.has_frames = False
    (outcome,) = annotate_clip(clip, settings(), tmp_path)
    record = read_clip(tmp_path / "clip4d" / "clip.npz")
    assert (outcome.figures["depth"], record.video) == ("none", "videos/clip.mp4")
    assert record.quality["video"] == "absent"
    assert {track.category for track in record.objects} == {"ball"}
    clip.objects = None
    with pytest.raises(InputError, match="neither frames nor both poses and objects"):
        annotate_clip(clip, settings(), tmp_path)


def test_turns_are_measured_from_the_first_camera():
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1, :3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    assert camera_turn_deg(poses) == pytest.approx(90)
