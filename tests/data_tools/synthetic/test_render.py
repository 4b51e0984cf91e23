"""The renderer against plain geometry: what is drawn is where the truth says."""

import numpy as np
import pytest

from mllm4d_verl.data_tools.synthetic import WorldConfig, clip_scene, world_preset
from mllm4d_verl.data_tools.synthetic.camera_path import rotation_y
from mllm4d_verl.data_tools.synthetic.config import CAMERA_MOTIONS
from mllm4d_verl.data_tools.synthetic.raycast import _sine, cast, pixel_rays, view_room
from mllm4d_verl.data_tools.synthetic.render import exact_clip, pinhole, render_stereo

WIDTH, HEIGHT, FRAMES = 96, 80, 6


def scene_and_render(config: WorldConfig, number: int = 0, frames: int = FRAMES):
    scene = clip_scene(11, number, frames, HEIGHT / WIDTH, config)
    return scene, render_stereo(scene, config, WIDTH, HEIGHT)


def inside(solid, points: np.ndarray, frame: int) -> np.ndarray:
    """Slow reference: which level-frame points (N,3) lie inside a solid."""
    local = points - solid.centre[frame]
    if solid.shape == "sphere":
        return np.linalg.norm(local, axis=-1) < solid.half_size_m[0]
    if solid.shape == "cylinder":
        return (np.hypot(local[:, 0], local[:, 2]) < solid.half_size_m[0]) & (
            np.abs(local[:, 1]) < solid.half_size_m[1]
        )
    return (np.abs(local @ rotation_y(solid.yaw)) < solid.half_size_m).all(-1)


@pytest.mark.parametrize("number", range(6))
def test_first_hit_agrees_with_marching_along_the_ray(number):
    scene = clip_scene(5, number, FRAMES, 1.0, world_preset("default"))
    rays = pixel_rays(pinhole(32, 32, 0.9), 32, 32)
    pose = scene.camera_to_level[3]
    _, depth, index = cast(scene, 3, pose, rays)
    directions = rays @ pose[:3, :3].T
    steps = np.arange(0.0, 20.0, 0.01)
    for v, u in np.ndindex(32, 32):
        if (v + u) % 3:
            continue
        points = pose[:3, 3] + steps[:, None] * directions[v, u]
        outside = ((points < scene.room.low) | (points > scene.room.high)).any(-1)
        kinds = [outside] + [inside(solid, points, 3) for solid in scene.objects]
        first = [steps[kind.argmax()] if kind.any() else np.inf for kind in kinds]
        # Marching overshoots by at most a step, and may step over a grazed edge; compare where it cannot.
        if index[v, u] == int(np.argmin(first)):
            assert depth[v, u] == pytest.approx(min(first), abs=0.0101)
        else:
            ray_hit = pose[:3, 3] + (depth[v, u] + np.array([-0.02, 0.02]))[:, None] * directions[v, u]
            solid = scene.objects[max(int(index[v, u]), 1) - 1]
            assert not inside(solid, ray_hit, 3).all()


def test_a_known_view_of_the_room_changes_nothing_and_colours_come_last():
    scene = clip_scene(5, 0, FRAMES, 0.75, world_preset("default"))
    rays = pixel_rays(pinhole(32, 24, 0.9), 32, 24)
    pose = scene.camera_to_level[3]
    view = view_room(scene.room, pose, rays)
    before = view.rgb.copy(), view.depth.copy()
    for plain, known in zip(cast(scene, 3, pose, rays), cast(scene, 3, pose, rays, view), strict=True):
        np.testing.assert_array_equal(plain, known)
    assert cast(scene, 3, pose, rays)[0].shape == (24, 32, 3)
    np.testing.assert_array_equal(view.rgb, before[0])  # it serves the next frame too
    np.testing.assert_array_equal(view.depth, before[1])


def test_sine_is_that_of_numpy():
    angle = np.random.default_rng(0).uniform(-500, 500, 20_000)
    np.testing.assert_allclose(_sine(angle), np.sin(angle), rtol=0, atol=1e-12)


@pytest.mark.parametrize("preset", ["default", "tiny"])
@pytest.mark.parametrize("number", range(4))
def test_points_reproject_onto_their_mask_and_depth(preset, number):
    config = world_preset(preset)
    scene, render = scene_and_render(config, number)
    clip = exact_clip(scene, render, clip_id="clip", video="v.mp4", fps=8.0, baseline_m=config.baseline_m)
    checked = 0
    for track in clip.objects:
        for frame in range(FRAMES):
            points = track.points[frame]
            assert len(points) == min(256, (render.mask[frame] == track.id).sum())
            world_to_cam = np.linalg.inv(clip.cam_to_world[frame])
            in_camera = points.astype(np.float64) @ world_to_cam[:3, :3].T + world_to_cam[:3, 3]
            pixels = in_camera @ clip.intrinsics.T
            u, v = (pixels[:, :2] / pixels[:, 2:]).T
            np.testing.assert_allclose(u, u.round(), atol=1e-3)
            column, row = u.round().astype(int), v.round().astype(int)
            assert (render.mask[frame, row, column] == track.id).all()
            np.testing.assert_allclose(render.depth[frame, row, column], in_camera[:, 2], rtol=1e-5)
            checked += len(points)
    assert checked > 0


def test_right_eye_sees_every_surface_at_disparity_f_b_over_z():
    config = world_preset("default")
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    for number in range(4):
        _, render = scene_and_render(config, number, frames=2)
        disparity = render.intrinsics[0, 0] * config.baseline_m / render.depth[0].astype(np.float64)
        assert disparity.max() > 0.5

        def error_at(shift, render=render):
            x = u - shift
            low = np.clip(np.floor(x).astype(int), 0, WIDTH - 2)
            part = np.clip(x - low, 0, 1)[..., None]
            seen = render.right[0][v, low] * (1 - part) + render.right[0][v, low + 1] * part
            return np.abs(seen - render.left[0].astype(float)).mean(-1)[:, 12:-2]

        right = error_at(disparity)
        # Edges and surfaces that one eye alone sees differ; everything else agrees to the interpolation error.
        assert np.median(right) < 2.0
        assert right.mean() < 0.6 * error_at(-disparity).mean()
        assert right.mean() < error_at(0.7 * disparity).mean()
        assert right.mean() < error_at(1.3 * disparity).mean()


@pytest.mark.parametrize("motion", CAMERA_MOTIONS)
def test_poses_follow_the_scripted_camera_motion(motion):
    config = world_preset("default").replace(camera_motions={motion: 1.0}, handheld=0.0)
    scene, render = scene_and_render(config)
    assert scene.camera_motion == motion
    poses = render.cam_to_world
    np.testing.assert_array_equal(poses[0], np.eye(4))
    rotation, moved = poses[:, :3, :3], poses[-1, :3, 3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (FRAMES, 1, 1)), atol=1e-12)
    axes = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1), "backward": (2, -1), "forward": (2, 1)}
    if motion in axes:
        axis, sign = axes[motion]
        assert moved[axis] * sign > 0.25
        np.testing.assert_allclose(np.delete(moved, axis), 0, atol=1e-12)
        np.testing.assert_allclose(rotation[-1], np.eye(3), atol=1e-12)
    elif motion.startswith(("turn", "orbit")):
        view_x = rotation[-1, 0, 2]
        assert (view_x > 0) == (motion in ("turn_right", "orbit_left"))
        if motion.startswith("orbit"):
            assert (moved[0] < 0) == (motion == "orbit_left")
    else:
        assert np.abs(poses[:, :3, 3]).max() < 0.1
        assert (np.abs(poses[1:, :3, 3]).max() > 0) == (motion == "shake")


@pytest.mark.parametrize(
    ("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("closer", 2, -1), ("farther", 2, 1), ("up", 1, -1)]
)
def test_objects_follow_their_scripted_motion(motion, axis, sign):
    config = world_preset("tiny").replace(
        object_motions={motion: 1.0}, camera_motions={"still": 1.0}, num_objects=(1, 1)
    )
    for number in range(5):
        scene, render = scene_and_render(config, number)
        clip = exact_clip(scene, render, clip_id="clip", video="v.mp4", fps=8.0, baseline_m=config.baseline_m)
        (track,) = clip.objects
        assert track.is_moving
        moved = track.points[-1].mean(0) - track.points[0].mean(0)
        assert np.abs(moved).argmax() == axis
        assert moved[axis] * sign > 0.3


def test_a_clip_shows_most_of_its_objects_at_both_ends():
    shown = total = 0
    for number in range(30):
        scene, render = scene_and_render(world_preset("tiny"), number)
        for index in range(1, len(scene.objects) + 1):
            total += 1
            shown += bool((render.mask[0] == index).sum() > 20 and (render.mask[-1] == index).sum() > 20)
    assert shown / total > 0.9


class TestWorldToMeasure:
    """The preset "tiny_stereo"."""

    def test_either_the_camera_or_the_object_moves(self):
        config = world_preset("tiny_stereo")
        scenes = [clip_scene(0, number, FRAMES, 1.0, config) for number in range(40)]
        for scene in scenes:
            assert [item.is_moving for item in scene.objects] == [scene.camera_motion == "still"]
        assert 10 < sum(scene.camera_motion == "still" for scene in scenes) < 30

    def test_half_the_size_averages_most_of_the_pattern_out(self):
        config = world_preset("tiny_stereo")
        calm = config.replace(detail=0.0)
        for number in range(3):
            patterned, plain = (
                render_stereo(clip_scene(0, number, FRAMES, 1.0, each), each, 128, 128).left[0].astype(np.float64)
                for each in (config, calm)
            )
            full = np.abs(patterned - plain).mean()
            half = np.abs((patterned - plain).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))).mean()
            assert 2 < full < 6  # grey levels of 255
            assert half < 0.8 * full
