"""What is measured of frames as they pass, and which limits it breaks."""

import cv2
import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation.quality import FrameMeter, QualityLimits, broken_limits, frame_figures
from mllm4d_verl.data_tools.stereo.clip import StereoPair
from mllm4d_verl.data_tools.synthetic import clip_scene, world_preset
from mllm4d_verl.data_tools.synthetic.render import render_stereo

FRAMES = 6


@pytest.fixture(scope="module")
def shots():
    """Left and right images (T, 96, 128, 3) of four scenes with a moving camera."""
    config = world_preset("default").replace(camera_motions={"left": 1, "forward": 1, "turn_right": 1}, supersample=1)
    renders = [render_stereo(clip_scene(seed, 0, FRAMES, 0.75, config), config, 128, 96) for seed in range(4)]
    return [(render.left, render.right) for render in renders]


def look(lefts, rights=None):
    meter = FrameMeter()
    rights = lefts if rights is None else rights
    return [meter.see(StereoPair(t, *pair)) for t, pair in enumerate(zip(lefts, rights, strict=True))]


def figures(lefts, rights=None):
    return frame_figures(look(lefts, rights))


def test_a_plain_shot_has_no_fault(shots):
    for left, right in shots:
        seen = look(left, right)
        assert not any(frame.is_cut for frame in seen)
        measured = frame_figures(seen)
        assert (measured["black"], measured["frozen"], measured["exposure_jumps"]) == (0, 0, 0)


def test_cuts_are_found_where_they_are(shots):
    lefts = [frame for left, _ in shots for frame in left]
    cuts = [t for t, frame in enumerate(look(lefts)) if frame.is_cut]
    assert cuts == [FRAMES, 2 * FRAMES, 3 * FRAMES]


def test_noise_and_blur_are_no_cut(shots):
    rng = np.random.default_rng(0)
    left = [np.clip(frame + rng.normal(0, 12, frame.shape), 0, 255).astype(np.uint8) for frame in shots[0][0]]
    left[3] = cv2.GaussianBlur(left[3], (9, 9), 2)
    assert not any(frame.is_cut for frame in look(left))


def test_a_change_of_light_is_a_jump_and_no_cut(shots):
    left = list(shots[1][0])
    left[3:] = [np.clip(frame * 1.6, 0, 255).astype(np.uint8) for frame in left[3:]]
    seen = look(left)
    assert not any(frame.is_cut for frame in seen)
    assert [frame.exposure_jumps for frame in seen] == [False, False, False, True, False, False]


def test_frozen_frames(shots):
    left, right = (list(eye) for eye in shots[2])
    assert figures([*left[:3], left[2], left[2], *left[3:]])["frozen"] == pytest.approx(2 / 7)
    assert figures([left[0]] * 5)["frozen"] == 0  # nothing ever moves: static, not frozen
    assert figures(left, [*right[:3], right[2], *right[4:]])["frozen"] == pytest.approx(1 / 5)  # in one eye only


def test_black_frames_belong_to_no_shot(shots):
    left = list(shots[0][0])
    black = np.full_like(left[0], 3)
    seen = look([*left[:3], black, black, *left[3:]])
    assert [frame.is_black for frame in seen] == [False] * 3 + [True] * 2 + [False] * 3
    assert not any(frame.is_cut for frame in seen)
    other = shots[1][0]
    assert [frame.is_cut for frame in look([left[0], black, other[0], other[1]])] == [False, False, True, False]
    assert frame_figures(look([black] * 4))["black"] == 1


def test_every_broken_limit_is_told():
    limits = QualityLimits(min_matches=50, min_valid_depth=0.4, max_reprojection_px=1)
    reasons = broken_limits({"num_matches": 20.0, "valid_depth": 0.1, "reprojection_px": 0.5}, limits)
    assert [(reason.name, reason.value, reason.limit) for reason in reasons] == [
        ("num_matches", 20, 50),
        ("valid_depth", 0.1, 0.4),
    ]
    assert reasons[0].text == "num_matches 20 is below quality.min_matches 50"


def test_what_was_not_measured_breaks_no_limit():
    assert broken_limits({}, QualityLimits()) == []
    assert broken_limits({"num_matches": None}, QualityLimits()) == []


def test_static_scenes_are_kept_where_allowed():
    assert [reason.name for reason in broken_limits({"static": True}, QualityLimits())] == ["static"]
    assert broken_limits({"static": True}, QualityLimits(allow_static=True)) == []
