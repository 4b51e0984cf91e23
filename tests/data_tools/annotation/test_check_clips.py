"""Figures of estimated clips whose errors are put in by hand, so that each figure is known beforehand."""

import copy
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mllm4d_verl.cli import data
from mllm4d_verl.data_tools.annotation.check import (
    CheckConfig,
    MaskOverlap,
    answer_figures,
    check_answer,
    check_clips,
    count_switches,
    cut_clip,
    depth_errors,
    match_frames,
    match_identities,
    path_length_m,
    plot_report,
    point_depth_errors,
    pose_figures,
    questions_of,
    rotation_angle_deg,
    source_frames,
    tally_objects,
)
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import Clip4D, ObjectTrack, write_clip, write_clip_index

T = 12


def rotation_about(axis, angle):
    """(3, 3) rotation by `angle` radians."""
    return cv2.Rodrigues(np.asarray(axis, float) / np.linalg.norm(axis) * angle)[0]


def true_clip(clip_id="clip_00000", step_m=(0.0, 0.0, 0.1)):
    """A camera that goes straight, two balls that cross its view in opposite directions, and one that stays."""
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (T, 1, 1))
    poses[:, :3, 3] = np.arange(T)[:, None] * np.asarray(step_m)
    shape = rng.uniform(-0.2, 0.2, (60, 3))
    paths = {
        1: ("red", [-1.0, 0, 5.0], [0.1, 0, 0]),
        2: ("blue", [1.0, 0.8, 6.0], [-0.1, 0, 0.1]),
        3: ("green", [0.0, -1.0, 6.0], [0, 0, 0]),
    }
    objects = [
        ObjectTrack(
            number,
            "ball",
            f"the {colour} ball",
            bool(np.any(step)),
            [(shape + start + t * np.asarray(step)).astype(np.float32) for t in range(T)],
        )
        for number, (colour, start, step) in paths.items()
    ]
    return Clip4D(
        clip_id, "test", "CC0-1.0", f"{clip_id}/left.mp4", 8.0, T, 128, 96,
        np.array([[115.2, 0, 63.5], [0, 115.2, 47.5], [0, 0, 1]]), 0.12, poses, objects, {},
    )  # fmt: skip


def without(clip, *numbers):
    return replace(clip, objects=[track for track in clip.objects if track.id not in numbers])


def empty():
    return np.zeros((0, 3), np.float32)


class TestDepth:
    def test_error_is_relative_to_the_truth_and_ignores_what_is_unknown(self):
        true = np.array([[1.0, 2.0, 4.0], [8.0, 9.0, 5.0]])
        estimated = np.array([[5.0, 2.2, 3.8], [8.0, 1.0, np.nan]], np.float16)
        errors, in_range = depth_errors(estimated, true, (2.0, 8.0))
        assert in_range == 4
        assert errors == pytest.approx([0.1, 0.05, 0.0], abs=1e-3)

    def test_zero_and_infinite_depths_are_unknown(self):
        errors, in_range = depth_errors(np.array([0.0, np.inf, -1.0]), np.full(3, 4.0), (2.0, 8.0))
        assert (len(errors), in_range) == (0, 3)

    def test_points_are_judged_in_their_own_camera(self):
        true = true_clip()
        depth = np.full((T, 96, 128), 4.0)
        clip = without(true, 2, 3)
        pixels = np.array([[40, 30], [64, 48], [100, 90]], float)
        rays = np.concatenate([pixels, np.ones((3, 1))], 1) @ np.linalg.inv(clip.intrinsics).T
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation_about([0, 1, 0], 0.4), [3.0, 0.0, 1.0]  # far from the true one
        clip.cam_to_world[5] = pose
        for t in range(T):
            clip.objects[0].points[t] = empty()
        clip.objects[0].points[5] = (4.2 * rays @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
        assert point_depth_errors(clip, depth, (2.0, 8.0)) == pytest.approx([0.05] * 3, abs=1e-5)

    def test_points_beside_the_image_have_no_truth(self):
        clip = true_clip()
        for track in clip.objects:
            track.points = [np.array([[9.0, 0, 4], [0, 0, -4]], np.float32)] * T
        assert len(point_depth_errors(clip, np.full((T, 96, 128), 4.0), (2.0, 8.0))) == 0


class TestPoses:
    def test_a_centimetre_a_frame_adds_up(self):
        true = true_clip().cam_to_world
        estimated = true.copy()
        estimated[:, 0, 3] += 0.01 * np.arange(T)
        figures = pose_figures(estimated, true)
        assert figures["path_m"] == pytest.approx(0.1 * (T - 1))
        assert figures["end_center_m"] == pytest.approx(0.01 * (T - 1))
        assert figures["end_center_percent"] == pytest.approx(10.0)
        assert figures["ate_m"] == pytest.approx(0.01 * np.sqrt(np.mean(np.arange(T) ** 2)))
        assert figures["step_m"] == pytest.approx(0.01)
        assert figures["step_m_p90"] == pytest.approx(0.01)
        assert figures["max_rotation_deg"] == pytest.approx(0.0, abs=1e-9)

    def test_a_turn_in_one_frame_shows_in_the_largest_but_not_in_the_last(self):
        true = true_clip().cam_to_world
        estimated = true.copy()
        estimated[4, :3, :3] = rotation_about([1, 2, 3], np.radians(0.5))
        figures = pose_figures(estimated, true)
        assert figures["max_rotation_deg"] == pytest.approx(0.5)
        assert figures["end_rotation_deg"] == pytest.approx(0.0, abs=1e-9)
        assert figures["step_deg"] == pytest.approx(0.0, abs=1e-9)
        assert figures["step_deg_p90"] == pytest.approx(0.5)

    def test_drift_of_rotation(self):
        true = true_clip().cam_to_world
        estimated = true.copy()
        for t in range(T):
            estimated[t, :3, :3] = rotation_about([0, 1, 0], np.radians(0.02 * t))
        figures = pose_figures(estimated, true)
        assert figures["end_rotation_deg"] == pytest.approx(0.02 * (T - 1))
        assert figures["step_deg"] == pytest.approx(0.02)

    def test_a_still_camera_has_no_percentage(self):
        still = np.tile(np.eye(4), (T, 1, 1))
        moved = still.copy()
        moved[-1, 2, 3] = 0.03
        figures = pose_figures(moved, still)
        assert figures["end_center_percent"] is None
        assert figures["end_center_m"] == pytest.approx(0.03)

    def test_one_frame(self):
        figures = pose_figures(np.eye(4)[None], np.eye(4)[None])
        assert figures["step_m"] is None
        assert figures["ate_m"] == 0

    @pytest.mark.parametrize("degrees", [1e-7, 0.1, 90.0, 179.9])
    def test_angles_of_every_size(self, degrees):
        assert rotation_angle_deg(rotation_about([3, -1, 2], np.radians(degrees))[None]) == pytest.approx([degrees])

    def test_path_is_the_sum_of_steps(self):
        poses = np.tile(np.eye(4), (3, 1, 1))
        poses[1, 0, 3] = 1.0  # and back again
        assert path_length_m(poses) == pytest.approx(2.0)


class TestMatching:
    def test_the_old_pair_stays_while_it_is_within_the_gate(self):
        near = np.array([[0.1, 0.2]])
        swapped = np.array([[0.2, 0.1]])
        gone = np.array([[0.9, 0.1]])
        gates = [np.array([0.3])] * 3
        assert match_frames([near, swapped, gone], gates) == [{0: 0}, {0: 0}, {0: 1}]

    def test_as_many_pairs_as_possible_come_before_the_least_distance(self):
        # taking the nearest pair first would leave the other true object alone
        assert match_frames([np.array([[0.05, 0.25], [0.1, 9.0]])], [np.array([0.3, 0.3])]) == [{0: 1, 1: 0}]

    def test_nothing_beyond_the_gate_or_unseen(self):
        assert match_frames([np.array([[0.31, np.inf]])], [np.array([0.3])]) == [{}]

    def test_no_objects(self):
        assert match_frames([np.zeros((0, 2)), np.zeros((2, 0))], [np.zeros(0), np.zeros(2)]) == [{}, {}]

    def test_a_switch_is_remembered_over_a_gap(self):
        assert count_switches([{0: 1}, {}, {0: 2}, {0: 2}]) == 1
        assert count_switches([{0: 1}, {}, {0: 1}]) == 0


class TestObjects:
    def test_the_truth_itself(self):
        figures = tally_objects(true_clip(), true_clip()).figures()
        assert (figures["true_moving"], figures["found"], figures["false_moving"]) == (2, 2, 0)
        assert figures["recall"] == figures["precision"] == figures["mota"] == 1
        assert figures["switches"] == 0
        assert figures["center_m_median"] == figures["displacement_m_median"] == 0
        assert figures["moving"] == {"true moving, estimated moving": 2, "true still, estimated still": 1}

    def test_a_lost_object(self):
        figures = tally_objects(without(true_clip(), 2), true_clip()).figures()
        assert figures["recall"] == 0.5
        assert figures["misses"] == T
        assert figures["mota"] == pytest.approx(0.5)
        assert figures["precision"] == 1

    @pytest.mark.parametrize(("seen", "found"), [(T // 2, 2), (T // 2 - 1, 1)])
    def test_found_means_half_of_the_frames(self, seen, found):
        estimated = true_clip()
        for t in range(seen, T):
            estimated.objects[1].points[t] = empty()
        assert tally_objects(estimated, true_clip()).found == found

    def test_an_object_that_does_not_exist(self):
        estimated = true_clip()
        ghost = [np.full((20, 3), 3.0, np.float32) + t for t in range(T)]
        estimated.objects.append(ObjectTrack(9, "object", "the ghost", True, ghost))
        figures = tally_objects(estimated, true_clip()).figures()
        assert figures["precision"] == pytest.approx(2 / 3)
        assert figures["false_alarms"] == T
        assert figures["mota"] == pytest.approx(0.5)

    def test_a_still_object_taken_for_a_moving_one_is_false(self):
        estimated = true_clip()
        estimated.objects[2].is_moving = True
        figures = tally_objects(estimated, true_clip()).figures()
        assert figures["false_moving"] == 1
        assert figures["moving"] == {"true moving, estimated moving": 2, "true still, estimated moving": 1}

    def test_a_moving_object_taken_for_a_still_one_is_not_found(self):
        estimated = true_clip()
        estimated.objects[0].is_moving = False
        figures = tally_objects(estimated, true_clip()).figures()
        assert figures["found"] == 1
        assert figures["moving"]["true moving, estimated still"] == 1

    def test_a_second_estimate_of_the_same_object_is_false(self):
        estimated = true_clip()
        estimated.objects.append(replace(estimated.objects[0], id=9))
        assert tally_objects(estimated, true_clip()).false_moving == 1

    def test_a_new_identity_half_way_is_one_switch(self):
        estimated = true_clip()
        second = copy.deepcopy(estimated.objects[0])
        second.id = 9
        for t in range(T):
            (second if t < T // 2 else estimated.objects[0]).points[t] = empty()
        estimated.objects.append(second)
        figures = tally_objects(estimated, true_clip()).figures()
        assert figures["switches"] == 1
        assert figures["switch_share"] == pytest.approx(1 / (2 * T))
        assert figures["recall"] == figures["precision"] == 1
        assert figures["mota"] == pytest.approx(1 - 1 / (2 * T))

    def test_two_identities_that_swap_are_two_switches(self):
        estimated = true_clip()
        first, second = estimated.objects[:2]
        for t in range(T // 2, T):
            first.points[t], second.points[t] = second.points[t], first.points[t]
        assert tally_objects(estimated, true_clip()).switches == 2

    def test_errors_of_centre_and_displacement(self):
        estimated = true_clip()
        for t in range(T):
            estimated.objects[0].points[t] = estimated.objects[0].points[t] + np.float32([0.0, 0.06, 0.0])
            estimated.objects[1].points[t] = estimated.objects[1].points[t] + np.float32([0.01 * t, 0.0, 0.0])
        tally = tally_objects(estimated, true_clip())
        assert sorted(tally.center_m) == pytest.approx(sorted([0.06] * T + [0.01 * t for t in range(T)]), abs=1e-6)
        # a constant offset is no displacement
        assert sorted(tally.displacement_m) == pytest.approx([0.0, 0.01 * (T - 1)], abs=1e-6)

    def test_the_gate_opens_with_distance(self):
        estimated = true_clip()
        for track in estimated.objects[:2]:
            track.points = [points + np.float32([0, 0.45, 0]) for points in track.points]
        # centres are some 4 to 6 m away: a tenth of that reaches 0.45 m at times, 0.3 m never
        assert 0 < tally_objects(estimated, true_clip()).matched < 2 * T
        assert tally_objects(estimated, true_clip(), CheckConfig(gate_share=0.0)).matched == 0

    def test_what_hardly_shows_is_not_asked_for(self):
        true = true_clip()
        for t in range(4, T):
            true.objects[0].points[t] = true.objects[0].points[t][:3]
        tally = tally_objects(without(true_clip(), 1), true)
        assert tally.visible == 4 + T
        assert tally.misses == 4
        assert tally_objects(true_clip(), true).false_alarms == 0

    @pytest.mark.parametrize(("frames", "asked"), [(2, 1), (3, 2)])
    def test_what_shows_in_two_frames_is_not_asked_for(self, frames, asked):
        true = true_clip()
        for t in range(frames, T):
            true.objects[0].points[t] = empty()
        assert tally_objects(true_clip(), true).true_moving == asked

    def test_counts_of_clips_add_up(self):
        tally = tally_objects(true_clip(), true_clip())
        tally.add(tally_objects(without(true_clip(), 1), true_clip()))
        figures = tally.figures()
        assert (figures["true_moving"], figures["found"], figures["visible_frames"]) == (4, 3, 4 * T)
        assert figures["moving"]["true moving, estimated moving"] == 3

    def test_no_objects_at_all(self):
        figures = tally_objects(without(true_clip(), 1, 2, 3), without(true_clip(), 1, 2, 3)).figures()
        assert figures["recall"] is figures["precision"] is figures["mota"] is None


def square_masks(*corners):
    """Masks (T, 96, 128): object k + 1 is a square of ten pixels whose upper left corner is corners[k]."""
    masks = np.zeros((T, 96, 128), np.uint8)
    for number, (y, x) in enumerate(corners, start=1):
        masks[:, y : y + 10, x : x + 10] = number
    return masks


class TestMasks:
    def test_overlap_of_masks(self):
        true, estimated = square_masks((10, 10), (50, 50)), square_masks((10, 14), (50, 50))
        overlap = MaskOverlap.of(estimated, true)
        assert overlap.iou[:, 1, 1] == pytest.approx(np.full(T, 60 / 140))
        assert overlap.iou[:, 1, 2] == pytest.approx(np.zeros(T))
        assert (overlap.true_pixels[:, 1:3] == 100).all()
        tally = tally_objects(true_clip(), true_clip(), overlap=overlap)
        assert sorted(tally.mask_iou) == pytest.approx([60 / 140] * T + [1.0] * T)

    def test_masks_decide_where_there_are_any(self):
        # the points say that both objects are where they should be; the masks say that one is not
        true, estimated = square_masks((10, 10), (50, 50)), square_masks((10, 16), (50, 50))
        tally = tally_objects(true_clip(), true_clip(), overlap=MaskOverlap.of(estimated, true))
        assert (tally.found, tally.matched, tally.false_moving) == (1, T, 1)

    def test_points_far_off_do_not_undo_a_match_of_masks(self):
        estimated = true_clip()
        for track in estimated.objects:
            track.points = [points + np.float32([0, 0, 2]) for points in track.points]
        masks = square_masks((10, 10), (50, 50), (70, 90))
        assert tally_objects(estimated, true_clip()).matched == 0
        tally = tally_objects(estimated, true_clip(), overlap=MaskOverlap.of(masks, masks))
        assert tally.found == 2
        assert tally.center_m == pytest.approx([2.0] * 2 * T)
        assert match_identities(estimated, true_clip(), CheckConfig(), MaskOverlap.of(masks, masks)) == {
            1: 1,
            2: 2,
            3: 3,
        }

    def test_ids_that_swap_in_the_masks_are_two_switches(self):
        estimated, true = square_masks((10, 10), (50, 50)), square_masks((10, 10), (50, 50))
        estimated[T // 2 :] = np.array([0, 2, 1], np.uint8)[estimated[T // 2 :]]
        assert tally_objects(true_clip(), true_clip(), overlap=MaskOverlap.of(estimated, true)).switches == 2

    def test_fewer_than_thirty_pixels_are_not_asked_for(self):
        true = square_masks((10, 10), (50, 50))
        true[4:, 13:20, 10:20] = 0  # thirty pixels are left
        overlap = MaskOverlap.of(true, true)
        assert tally_objects(true_clip(), true_clip(), overlap=overlap).visible == 2 * T
        true[4:, 12, 10] = 0
        overlap = MaskOverlap.of(true, true)
        assert tally_objects(true_clip(), true_clip(), overlap=overlap).visible == 4 + T


def checks_of(estimated, true):
    identities = match_identities(estimated, true, CheckConfig())
    return [(row, check_answer(row, true, identities)) for row in questions_of([estimated], T, 0)]


class TestAnswers:
    def test_the_truth_agrees_with_itself(self):
        found = checks_of(true_clip(), true_clip())
        assert {row.task for row, _ in found} >= {"camera_absolute_distance", "object_absolute_distance"}
        assert len(found) > 50
        assert all(check.outcome == "same" and check.agrees and check.not_asked is None for _, check in found)
        assert max(check.error for _, check in found if check.error is not None) < 1e-6

    def test_identities_need_not_be_equal(self):
        estimated = true_clip()
        for track in estimated.objects:
            track.id += 40
        assert match_identities(estimated, true_clip(), CheckConfig()) == {41: 1, 42: 2, 43: 3}
        assert all(check.agrees for _, check in checks_of(estimated, true_clip()))

    def test_a_camera_that_goes_the_other_way(self):
        estimated = true_clip(step_m=(0, 0, -0.1))
        for row, result in checks_of(estimated, true_clip()):
            if row.task == "camera_relative_direction":
                assert result.outcome == "other"
            if row.task == "camera_absolute_distance":
                assert result.outcome == "same"

    @pytest.mark.parametrize(("scale", "within", "all_same"), [(1.01, 1, True), (1.11, 1, False), (1.3, 0, False)])
    def test_distances_by_tolerance_and_by_option(self, scale, within, all_same):
        estimated = true_clip(step_m=(0, 0, 0.1 * scale))
        found = [item for row, item in checks_of(estimated, true_clip()) if row.task == "camera_absolute_distance"]
        figures = answer_figures(found)
        assert figures["questions"] == 5
        assert figures["distances_within"] == within
        assert figures["distance_error_median"] == pytest.approx(scale - 1, abs=1e-3)
        # options lie about a fifth apart
        assert (figures["agreement"] == 1) == all_same

    def test_mirrored_motion_turns_the_answers_about_it_and_no_others(self):
        estimated = true_clip()
        red = estimated.objects[0]
        red.points = [points * np.float32([-1, 1, 1]) + np.float32([-2, 0, 0]) for points in red.points]
        # It starts where it was and goes left instead of right; masks would still say that it is the same ball.
        found = [(row, check_answer(row, true_clip(), {1: 1, 2: 2, 3: 3})) for row in questions_of([estimated], T, 0)]
        lateral = [check for row, check in found if row.meta.get("object_id") == 1 and row.task.endswith("_lateral")]
        assert lateral
        assert all(check.fault == "other" and check.truth == "right" and check.true_value > 0 for check in lateral)
        assert all(check.agrees for row, check in found if row.meta.get("object_id") != 1)
        assert answer_figures([check for _, check in found])["agreement"] < 1

    def test_a_match_by_chance_in_a_few_frames_is_no_identity(self):
        estimated = true_clip()
        red = estimated.objects[0]
        red.points = [points + np.float32([0, 0, 0.2 * t]) for t, points in enumerate(red.points)]
        assert 1 not in match_identities(estimated, true_clip(), CheckConfig())

    def test_the_threshold_is_that_of_the_question(self):
        true = true_clip()
        start = true.objects[0].points[0]
        true.objects[0].points = [start + np.float32([0.16 / (T - 1) * t, 0, 0]) for t in range(T)]
        row = next(
            row
            for row in questions_of([true], T, 0)
            if row.meta.get("object_id") == 1
            and row.task.endswith("_lateral")
            and row.meta["clip_frames"] == [0, T - 1]
        )
        assert check_answer(row, true, {1: 1}).agrees
        # what an estimate that puts the object at 11 m would ask with
        row.meta["tau_m"] = 0.22
        check = check_answer(row, true, {1: 1})
        assert (check.truth, check.fault, check.not_asked) == (
            "not moving",
            "dead zone",
            "change too close to the threshold",
        )
        assert answer_figures([check])["faults"] == {"dead zone": 1}
        assert answer_figures([check])["dead_zone"] == 1

    def test_an_object_that_does_not_exist_is_wrong(self):
        estimated = true_clip()
        ghost = [np.random.default_rng(1).uniform(2, 3, (20, 3)).astype(np.float32) + 0.1 * t for t in range(T)]
        estimated.objects.append(ObjectTrack(9, "object", "the ghost", True, ghost))
        ghosts = [check for row, check in checks_of(estimated, true_clip()) if row.meta.get("object_id") == 9]
        assert ghosts
        assert all((check.outcome, check.agrees) == ("no such object", False) for check in ghosts)

    def test_the_truth_has_no_answer_for_a_thing_that_stays(self):
        estimated = true_clip()
        green = estimated.objects[2]
        green.is_moving = True
        green.points = [points + np.float32([0.02 * t, 0, 0]) for t, points in enumerate(green.points)]
        found = [
            check
            for row, check in checks_of(estimated, true_clip())
            if row.meta.get("object_id") == 3 and row.task == "object_absolute_distance"
        ]
        assert found
        assert all(check.outcome == "no answer" and check.not_asked == "object motion too small" for check in found)

    def test_what_the_truth_would_not_be_asked_is_still_judged(self):
        # 8 cm in depth over the clip lies between the dead zone's ends; the estimate says 30 cm
        true, estimated = true_clip(), true_clip()
        for clip, step in ((true, 0.12 / (T - 1)), (estimated, 0.3 / (T - 1))):
            start = clip.objects[0].points[0]
            clip.objects[0].points = [start + np.float32([0, 0, step * t]) for t in range(T)]
        found = [
            check
            for row, check in checks_of(estimated, true)
            if row.meta.get("object_id") == 1
            and row.task.endswith("_longitudinal")
            and row.meta["clip_frames"] == [0, T - 1]
        ]
        assert [(check.outcome, check.not_asked) for check in found] == [("same", "change too close to the threshold")]

    def test_equal_words_in_the_truth_do_not_matter(self):
        true = true_clip()
        for track in true.objects:
            track.description = "the thing"
        assert all(check.agrees for _, check in checks_of(true_clip(), true))

    def test_nothing_to_ask(self):
        still = without(true_clip(step_m=(0, 0, 0)), 1, 2, 3)
        assert questions_of([still], T, 0) == []


class TestStretches:
    def test_the_frames_of_a_stretch(self):
        true = true_clip()
        part = cut_clip(true, range(4, 12, 2))
        assert part.num_frames == 4
        assert np.allclose(part.cam_to_world[0], np.eye(4))
        assert part.camera_centers[-1] == pytest.approx([0, 0, 0.6])
        # seen from its own first camera, everything is where it was
        assert part.objects[0].points[0] == pytest.approx(true.objects[0].points[4] - [0, 0, 0.4], abs=1e-6)

    def test_frames_by_note_by_count_or_not_at_all(self):
        true = true_clip()
        noted = replace(cut_clip(true, range(3, 9)), quality={"source_frames": [3, 9, 1]})
        assert source_frames(noted, true) == range(3, 9)
        assert source_frames(true, true) == range(T)
        assert source_frames(replace(noted, quality={}), true) is None
        assert source_frames(replace(noted, quality={"source_frames": [8, 14, 1]}), true) is None


def write_root(folder, clips):
    for clip in clips:
        write_clip(folder, clip)
    write_clip_index(folder)


@pytest.fixture
def folders(tmp_path):
    """Three true clips; of the second one only a stretch was estimated, the third was kept out."""
    clips = [true_clip(f"clip_{number:05d}") for number in range(3)]
    write_root(tmp_path / "world" / "truth", clips)
    drifting = copy.deepcopy(clips[0])
    drifting.cam_to_world[:, 0, 3] += 0.001 * np.arange(T)
    stretch = replace(cut_clip(clips[1], range(2, 10)), clip_id="clip_00001_s1", quality={"source_frames": [2, 10, 1]})
    write_root(tmp_path / "out" / "clip4d", [drifting, stretch])
    depth = np.full((T, 96, 128), 4.0, np.float32)
    depth[:, :48] = 20.0  # beyond the range
    mask = np.zeros((T, 96, 128), np.uint8)
    for number in range(3):
        path = tmp_path / "world" / "truth" / "dense" / f"clip_{number:05d}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, depth=depth, mask=mask)
    measured = (depth * 1.02).astype(np.float16)
    measured[:, 48:72] = np.nan
    (tmp_path / "out" / "masks").mkdir()
    np.savez(tmp_path / "out" / "masks" / "clip_00000.npz", depth=measured, masks=mask)
    np.savez(tmp_path / "out" / "masks" / "clip_00001_s1.npz", depth=measured[2:10], masks=mask[2:10])
    return tmp_path / "out", tmp_path / "world"


class TestFolders:
    def test_everything_at_once(self, folders):
        seen = []
        report = check_clips(*folders, progress=lambda *numbers: seen.append(numbers))
        assert seen == [(1, 2), (2, 2)]
        assert report.clips == {"truth": 3, "estimated": 2, "compared": 2, "kept_share": pytest.approx(2 / 3)}
        assert report.depth["relative_error_median"] == pytest.approx(0.02, abs=1e-3)
        assert report.depth["valid_share"] == pytest.approx(0.5)
        assert report.depth["pixels_in_range"] == (T + 8) * 48 * 128
        assert report.poses["end_center_m"]["max"] == pytest.approx(0.001 * (T - 1))
        assert report.poses["end_center_m"]["median"] == pytest.approx(0.0005 * (T - 1))
        assert report.poses["center_within_limit"] == report.poses["rotation_within_limit"] == 1
        assert len(report.disagreements) == sum(report.answers["faults"].values())
        assert report.objects["recall"] == report.objects["precision"] == 1
        assert report.answers["agreement"] > 0.95
        assert report.answers["questions"] == sum(task["questions"] for task in report.answers["tasks"].values())
        assert report.per_clip["clip_00001_s1"]["poses"]["end_center_m"] == pytest.approx(0, abs=1e-9)

    def test_a_stranger_and_a_stretch_that_does_not_say_which_are_left_out(self, folders):
        out, world = folders
        write_clip(out / "clip4d", true_clip("other"))
        write_clip(out / "clip4d", replace(cut_clip(true_clip(), range(6)), clip_id="clip_00002"))
        write_clip_index(out / "clip4d")
        report = check_clips(out, world)
        assert sorted(note.split(":")[0] for note in report.notes) == ["clip_00002", "other"]
        assert report.clips["compared"] == 2

    def test_nothing_in_common(self, folders, tmp_path):
        write_root(tmp_path / "else", [true_clip("other")])
        with pytest.raises(InputError, match="no estimated clip has a true one"):
            check_clips(tmp_path / "else", folders[1])

    def test_depth_of_another_size(self, folders):
        out, world = folders
        np.savez(out / "masks" / "clip_00000.npz", depth=np.ones((T, 48, 64)), masks=np.zeros((T, 48, 64), np.uint8))
        with pytest.raises(InputError, match=r"clip_00000.*\(12, 48, 64\)"):
            check_clips(out, world)

    def test_a_broken_mask_file(self, folders):
        out, world = folders
        (out / "masks" / "clip_00000.npz").write_bytes(b"PK half")
        with pytest.raises(InputError, match="not a readable npz"):
            check_clips(out, world)

    def test_without_depth(self, folders):
        out, world = folders
        for path in (world / "truth" / "dense").iterdir():
            path.unlink()
        report = check_clips(out, world)
        assert report.depth["relative_error_median"] is None
        assert report.depth["valid_share"] is None

    def test_command(self, folders, tmp_path):
        arguments = ["check", str(folders[0]), "--truth", str(folders[1]), "--per-clip", "--json", "--figures"]
        result = CliRunner().invoke(data.app, [*arguments, str(tmp_path / "figures.jsonl")])
        assert result.exit_code == 0, result.output
        assert "clip_00001_s1" in result.stdout
        record = json.loads(result.stdout.strip().splitlines()[-1])
        assert record["clips"]["compared"] == 2
        assert set(record["per_clip"]) == {"clip_00000", "clip_00001_s1"}
        lines = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text().splitlines()]
        assert [line["clip_id"] for line in lines] == ["clip_00000", "clip_00001_s1"]

    @pytest.mark.parametrize("truth", ["world", "world/truth"])
    def test_the_truth_itself_is_perfect_everywhere(self, tmp_path, truth):
        clips = [true_clip(f"clip_{number:05d}") for number in range(2)]
        write_root(tmp_path / "world" / "truth", clips)
        write_root(tmp_path / "out" / "clip4d", clips)
        depth, masks = np.full((T, 96, 128), 4.0, np.float16), square_masks((10, 10), (50, 50), (70, 90))
        for folder, name in (("out/masks", "masks"), ("world/truth/dense", "mask")):
            (tmp_path / folder).mkdir(parents=True)
            for clip in clips:
                np.savez(tmp_path / folder / f"{clip.clip_id}.npz", depth=depth, **{name: masks})
        command = ["check", str(tmp_path / "out"), "--truth", str(tmp_path / truth), "--json"]
        result = CliRunner().invoke(data.app, command)
        assert result.exit_code == 0, result.output
        record = json.loads(result.stdout.strip().splitlines()[-1])
        depth_figures, poses, objects, answers = (record[part] for part in ("depth", "poses", "objects", "answers"))
        assert (depth_figures["valid_share"], depth_figures["relative_error_p90"]) == (1, 0)
        assert poses["center_within_limit"] == poses["rotation_within_limit"] == 1
        assert poses["ate_m"]["max"] == poses["max_rotation_deg"]["max"] == poses["end_center_m"]["max"] == 0
        perfect = ("recall", "frame_recall", "precision", "mota", "mask_iou_median")
        assert [objects[name] for name in perfect] == [1] * len(perfect)
        assert objects["switches"] == objects["center_m_p90"] == objects["displacement_m_p90"] == 0
        assert answers["questions"] > 100
        assert answers["agreement"] == answers["agreement_asked"] == answers["distances_within"] == 1
        assert record["disagreements"] == []
        assert record["clips"]["kept_share"] == 1

    def test_pictures(self, folders, tmp_path):
        report = check_clips(*folders)
        plot_report(report, tmp_path / "figures.png")
        assert (tmp_path / "figures.png").stat().st_size > 10_000
        with pytest.raises(InputError, match="figures"):
            plot_report(report, tmp_path / "figures.what")

    def test_a_range_that_runs_backwards(self):
        with pytest.raises(InputError, match="depth-range"):
            CheckConfig(depth_range_m=(8.0, 2.0))
