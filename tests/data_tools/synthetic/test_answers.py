"""The answers of the seven solvers are the scripted motion: geometry, sign conventions and scripts agree."""

import numpy as np
import pytest

from mllm4d_verl.data_tools.questions.applicability import solve
from mllm4d_verl.data_tools.questions.config import Thresholds
from mllm4d_verl.data_tools.synthetic import clip_scene, world_preset
from mllm4d_verl.data_tools.synthetic.render import exact_clip, render_stereo

FRAMES = 8
# Points lie on the visible side, which changes as camera and object pass each other: up to 0.4 m for these objects.
LIMITS = Thresholds(tau_m=0.45)
STILL_CAMERA = {"camera_motions": {"still": 1.0}}
STILL_OBJECT = {"object_motions": {"still": 1.0}}


def clips(count: int = 6, **changes):
    """(scene, clip) pairs of a one-object world."""
    config = world_preset("tiny").replace(handheld=0.0, num_objects=(1, 1), one_mover=False, **changes)
    for number in range(count):
        scene = clip_scene(21, number, FRAMES, 1.0, config)
        render = render_stereo(scene, config, 64, 64)
        yield scene, exact_clip(scene, render, clip_id="c", video="v.mp4", fps=8.0, baseline_m=config.baseline_m)


def solution(task, clip):
    """From the first frame to the last, or the reason why the metadata does not support the question."""
    track = None if task.startswith("camera") else clip.objects[0]
    return solve(task, clip, 0, FRAMES - 1, track, LIMITS)


def label(task, clip):
    """The solved label, or None where the question is not asked."""
    found = solution(task, clip)
    return None if isinstance(found, str) else found.label


def measure(task, clip):
    return solution(task, clip).measure


@pytest.mark.parametrize("motion", ["left", "right", "up", "down", "forward", "backward"])
def test_camera_direction_and_distance(motion):
    for scene, clip in clips(camera_motions={motion: 1.0}, camera_pitch_deg=(3.0, 6.0)):
        assert label("camera_relative_direction", clip) == motion
        travelled = np.linalg.norm(scene.camera_to_level[-1, :3, 3] - scene.camera_to_level[0, :3, 3])
        assert measure("camera_absolute_distance", clip) == pytest.approx(travelled)


@pytest.mark.parametrize("motion", ["still", "turn_left", "turn_right"])
def test_a_camera_that_stays_in_place_is_not_asked_about(motion):
    for _, clip in clips(camera_motions={motion: 1.0}):
        assert label("camera_relative_direction", clip) is None
        assert label("camera_absolute_distance", clip) is None


@pytest.mark.parametrize("camera", ["still", "left", "up", "backward"])
@pytest.mark.parametrize(
    ("motion", "lateral", "longitudinal"),
    [
        ("left", "left", "not moving"),
        ("right", "right", "not moving"),
        ("closer", "not moving", "closer"),
        ("farther", "not moving", "farther"),
        ("still", "not moving", "not moving"),
    ],
)
def test_object_directions_ignore_the_camera_motion(camera, motion, lateral, longitudinal):
    found = set()
    for _, clip in clips(camera_motions={camera: 1.0}, object_motions={motion: 1.0}):
        found.add((label("object_camera_relative_direction_lateral", clip), lateral))
        found.add((label("object_camera_relative_direction_longitudinal", clip), longitudinal))
    # Where the visible side changes too much, the question is skipped; it is never answered against the script.
    assert {pair for pair in found if pair[0] is not None} == {(lateral, lateral), (longitudinal, longitudinal)}


@pytest.mark.parametrize(("motion", "answer"), [("closer", "closer"), ("farther", "farther"), ("still", "not moving")])
def test_relative_distance_with_a_still_camera(motion, answer):
    answers = {
        label("object_camera_relative_distance", clip)
        for _, clip in clips(object_motions={motion: 1.0}, **STILL_CAMERA)
    }
    assert answers == {answer}


@pytest.mark.parametrize(("motion", "answer"), [("forward", "closer"), ("backward", "farther")])
def test_relative_distance_with_a_still_object(motion, answer):
    answers = {
        label("object_camera_relative_distance", clip)
        for _, clip in clips(camera_motions={motion: 1.0}, **STILL_OBJECT)
    }
    assert answers == {answer}


def test_one_mover_keeps_objects_where_the_camera_moves():
    config = world_preset("tiny").replace(one_mover=True)
    scenes = [clip_scene(4, number, FRAMES, 1.0, config) for number in range(40)]
    movers = {(scene.camera_motion != "still", any(item.is_moving for item in scene.objects)) for scene in scenes}
    assert movers == {(True, False), (False, True), (False, False)}


def test_object_distances_are_those_of_the_script():
    for scene, clip in clips(object_motions={"left": 1.0, "right": 1.0}, **STILL_CAMERA):
        solid = scene.objects[0]
        travelled = np.linalg.norm(solid.centre[-1] - solid.centre[0])
        # The points lie on the side that is seen, which turns a little as the object passes by.
        assert measure("object_absolute_distance", clip) == pytest.approx(travelled, abs=0.25)
        to_centre = np.linalg.norm(solid.centre[-1] - scene.camera_to_level[0, :3, 3])
        gap = measure("object_camera_absolute_distance", clip)
        assert to_centre - solid.bounding_radius_m - 0.1 < gap < to_centre
