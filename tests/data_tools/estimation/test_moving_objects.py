"""Moving objects of rendered clips against the truth: which are found, where they are, and that stills are none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rendered_clips import FPS, RenderedClip, fast_mover, one_mover, still_and_fine, still_things, two_movers

from mllm4d_verl.data_tools.annotation.clip import annotate_clip
from mllm4d_verl.data_tools.annotation.config import load_config
from mllm4d_verl.data_tools.annotation.run import find_source
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.estimation.objects import FoundObjects, Looks, ObjectConfig, ObjectFinder, is_of
from mllm4d_verl.data_tools.estimation.odometry import StereoOdometry, Trajectory
from mllm4d_verl.data_tools.estimation.surfaces import shrink_camera, shrink_disparity, surface_points, thin_points
from mllm4d_verl.data_tools.estimation.track_checks import (
    agrees_with_flow,
    center_noise,
    net_motion,
    stands_still,
    without_odd,
    without_rims,
)
from mllm4d_verl.data_tools.estimation.tracking import Sighting, Track
from mllm4d_verl.data_tools.geometry import project_points, world_to_camera_points
from mllm4d_verl.data_tools.readers import open_clip
from mllm4d_verl.data_tools.schema import MAX_POINTS_PER_OBJECT, read_clip
from mllm4d_verl.data_tools.stereo.camera import StereoCamera

KITTI = Path(__file__).parents[4] / "shared" / "data" / "kitti_odom_gray_seq2"


def find(
    clip: RenderedClip, config: ObjectConfig | None = None, trajectory: Trajectory | None = None, fps: float = FPS
) -> FoundObjects:
    finder = ObjectFinder(clip.camera, fps, config or ObjectConfig())
    for image, disparity_px in zip(clip.left, clip.disparity, strict=True):
        finder.add(image, disparity_px)
    return finder.finish(trajectory or clip.trajectory)


def estimated_trajectory(clip: RenderedClip) -> Trajectory:
    odometry = StereoOdometry(clip.camera)
    for image, disparity_px in zip(clip.left, clip.disparity, strict=True):
        odometry.add(image, disparity_px)
    return odometry.finish()


def true_masks(clip: RenderedClip, number: int, shape: tuple[int, int]) -> np.ndarray:
    size = shape[::-1]
    return np.stack(
        [cv2.resize((m == number).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for m in clip.mask]
    ).astype(bool)


def overlaps(found: FoundObjects, clip: RenderedClip, found_id: int, number: int) -> np.ndarray:
    """(T,) intersection over union of a found and a true object; NaN where neither is."""
    truth = true_masks(clip, number, found.masks.shape[1:])
    masks = found.masks == found_id
    with np.errstate(invalid="ignore"):
        return (masks & truth).sum(axis=(1, 2)) / (masks | truth).sum(axis=(1, 2))


@pytest.fixture(scope="module")
def one() -> FoundObjects:
    return find(one_mover())


@pytest.fixture(scope="module")
def two() -> FoundObjects:
    return find(two_movers())


class TestFound:
    def test_a_mover_is_found_as_one_object_where_it_is(self, one):
        assert [item.id for item in one.objects] == [1]
        assert np.nanmedian(overlaps(one, one_mover(), 1, 1)) > 0.7

    def test_its_centre_moves_as_far_as_the_truth(self, one):
        clip = one_mover()
        (item,) = one.objects
        seen = [t for t, points in enumerate(item.points) if len(points)]
        assert len(seen) >= 8
        first, last = seen[0], seen[-1]
        moved = item.points[last].mean(axis=0) - item.points[first].mean(axis=0)
        truth = clip.center(last, 1) - clip.center(first, 1)
        assert np.linalg.norm(moved - truth) < max(0.05, 0.1 * np.linalg.norm(truth))
        assert item.motion_m == pytest.approx(np.linalg.norm(truth), rel=0.3)
        assert 0 <= item.noise_m < 0.1
        assert one.noise_m == item.noise_m

    def test_its_points_lie_on_its_pixels(self, one):
        clip = one_mover()
        (item,) = one.objects
        shares = []
        for t, points in enumerate(item.points):
            if len(points):
                local = world_to_camera_points(clip.cam_to_world[t], points.astype(np.float64))
                u, v = project_points(clip.camera.intrinsics, local).round().astype(int).clip(0, 191).T
                shares.append((clip.mask[t][v, u] == 1).mean())
        assert np.median(shares) > 0.8

    def test_with_estimated_poses_too(self):
        clip = one_mover()
        found = find(clip, trajectory=estimated_trajectory(clip))
        best = [np.nanmedian(overlaps(found, clip, item.id, 1)) for item in found.objects]
        assert max(best) > 0.7

    def test_at_half_the_size_too(self):
        clip = one_mover()
        found = find(clip, ObjectConfig(max_width=96))
        assert found.masks.shape == (len(clip.left), 96, 96)
        assert found.images.shape == (len(clip.left), 96, 96, 3)
        best = [np.nanmedian(overlaps(found, clip, item.id, 1)) for item in found.objects]
        assert max(best) > 0.6

    @pytest.mark.parametrize("motion", ["right", "forward", "turn_left", "still"])
    def test_in_a_still_world_nothing_moves_however_the_camera_goes(self, motion):
        clip = still_things(motion)
        found = find(clip)
        assert found.objects == []
        assert not found.masks.any()
        assert found.noise_m == 0

    def test_nor_with_fine_texture_and_estimated_poses(self):
        clip = still_and_fine()
        assert find(clip, trajectory=estimated_trajectory(clip)).objects == []

    def test_the_same_clip_gives_the_same_objects(self, one):
        again = find(one_mover())
        assert again.masks.tobytes() == one.masks.tobytes()
        for item, other in zip(again.objects, one.objects, strict=True):
            assert b"".join(p.tobytes() for p in item.points) == b"".join(p.tobytes() for p in other.points)


class TestFast:
    def test_what_goes_more_than_its_length_between_compared_frames_is_found_beside_its_neighbours(self):
        clip = fast_mover()
        looks = Looks.of(len(clip.left), 10.0, ObjectConfig())
        assert (looks.gap, looks.short_gap) == (4, 1)
        assert np.linalg.norm(clip.center(7 + looks.gap, 1) - clip.center(7, 1)) > 1.4 * 0.5
        found = find(clip, fps=10.0)
        assert len(found.objects) == 1
        assert np.nanmedian(overlaps(found, clip, 1, 1)) > 0.7
        points = found.objects[0].points
        assert all(len(cloud) > 0 for cloud in points)
        moved = points[12].mean(axis=0) - points[1].mean(axis=0)
        assert np.linalg.norm(moved - (clip.center(12, 1) - clip.center(1, 1))) < 0.08

    def test_no_short_gap_where_frames_are_farther_apart(self):
        looks = Looks.of(20, 2.0, ObjectConfig())
        assert looks.short_gap == looks.gap == 1

    def test_a_region_that_wanders_over_pixels_that_stay_is_no_thing(self):
        stays, goes = np.zeros(3), np.array([0.5, 0, 0])
        centers = np.arange(8)[:, None] * goes
        lawn = [one._replace(velocity=stays + 0.02) for one in track_of(centers).sightings]
        thing = [one._replace(velocity=0.5 * goes) for one in track_of(centers).sightings]
        assert stands_still(Track(lawn))
        assert not stands_still(Track(thing))
        assert not stands_still(track_of(centers))  # nothing is known of its pixels


@pytest.mark.skipif(not KITTI.is_dir(), reason="KITTI frames are not here")
class TestRealFrames:
    @pytest.mark.parametrize("poses", ["source", "estimate"])
    def test_the_car_that_crosses_the_view_is_found_and_nothing_else(self, poses, tmp_path):
        (ref,) = find_source(KITTI).refs
        changes = {"write_masks": True, "origin.poses": poses}
        (outcome,) = annotate_clip(open_clip(ref), load_config(None, changes), tmp_path)
        assert outcome.is_kept
        record = read_clip(next((tmp_path / "clip4d").glob("*.npz")))
        with np.load(next((tmp_path / "masks").glob("*.npz"))) as archive:
            masks = archive["masks"]
        (car,) = record.objects
        # By eye, the body of the car: left, top, right, bottom.
        boxes = {8: (980, 160, 1115, 215), 16: (1055, 160, 1135, 205), 22: (949, 173, 1003, 203)}
        for frame, box in boxes.items():
            inside = np.zeros(masks[frame].shape, bool)
            inside[box[1] : box[3], box[0] : box[2]] = True
            mask = masks[frame] == car.id
            assert (mask & inside).sum() / (mask | inside).sum() > 0.4, frame
        seen = [frame for frame in range(record.num_frames) if car.seen(frame)]
        assert len(seen) >= 18
        way = car.points[seen[-1]].mean(axis=0) - car.points[seen[0]].mean(axis=0)
        assert 15 < np.linalg.norm(way) * record.fps / (seen[-1] - seen[0]) < 40  # metres per second


class TestIdentities:
    def test_ids_count_from_one_by_first_appearance(self, two):
        assert [item.id for item in two.objects] == list(range(1, len(two.objects) + 1))
        first = [next(t for t, points in enumerate(item.points) if len(points)) for item in two.objects]
        assert first == sorted(first)

    def test_each_mover_keeps_one_id(self, two):
        clip = two_movers()
        # The red box (2) is there from the start, the cyan one (1) comes into view.
        for found_id, number in ((1, 2), (2, 1)):
            assert np.nanmedian(overlaps(two, clip, found_id, number)) > 0.7

    def test_masks_hold_the_ids_where_there_are_points(self, two):
        ids = set(np.unique(two.masks)) - {0}
        assert ids == {item.id for item in two.objects}
        for item in two.objects:
            for mask, points in zip(two.masks, item.points, strict=True):
                assert (mask == item.id).any() == (len(points) > 0)

    def test_points_are_at_most_256_and_empty_where_unseen(self, two):
        clip = two_movers()
        for item in two.objects:
            assert len(item.points) == len(clip.left)
            for points in item.points:
                assert points.dtype == np.float32
                assert points.shape[1:] == (3,)
                assert len(points) <= MAX_POINTS_PER_OBJECT
                assert np.isfinite(points).all()
        assert max(len(points) for points in two.objects[0].points) == MAX_POINTS_PER_OBJECT
        late = two.objects[1].points
        unseen = ~(clip.mask == 1).any(axis=(1, 2))
        assert all(len(late[t]) == 0 for t in np.flatnonzero(unseen))

    def test_rejected_tracks_are_counted(self, two):
        assert two.num_rejected >= 0


class TestEdges:
    def test_other_counts_of_frames_and_poses_are_refused(self):
        clip = one_mover()
        finder = ObjectFinder(clip.camera, FPS)
        for image, disparity_px in zip(clip.left[:3], clip.disparity[:3], strict=True):
            finder.add(image, disparity_px)
        with pytest.raises(InputError, match="3 frames and 12 poses") as caught:
            finder.finish(clip.trajectory)
        assert caught.value.field == "trajectory"

    @pytest.mark.parametrize("num_frames", [1, 2, 3])
    def test_the_shortest_clips(self, num_frames):
        clip = one_mover()
        finder = ObjectFinder(clip.camera, FPS)
        for image, disparity_px in zip(clip.left[:num_frames], clip.disparity[:num_frames], strict=True):
            finder.add(image, disparity_px)
        exact = clip.trajectory
        found = finder.finish(Trajectory(*(getattr(exact, name)[:num_frames] for name in exact.__dataclass_fields__)))
        assert found.masks.shape == (num_frames, 192, 192)
        assert all(len(item.points) == num_frames for item in found.objects)

    def test_without_any_disparity_nothing_is_found(self):
        clip = one_mover()
        finder = ObjectFinder(clip.camera, FPS)
        for image in clip.left:
            finder.add(image, np.full(image.shape[:2], np.nan, np.float32))
        assert finder.finish(clip.trajectory).objects == []

    def test_frames_are_kept_not_referred_to(self):
        clip = one_mover()
        finder = ObjectFinder(clip.camera, FPS)
        image = clip.left[0].copy()
        finder.add(image, clip.disparity[0])
        image[:] = 0
        exact = clip.trajectory
        found = finder.finish(Trajectory(*(getattr(exact, name)[:1] for name in exact.__dataclass_fields__)))
        np.testing.assert_array_equal(found.images[0], clip.left[0])

    def test_an_image_of_any_size_is_shrunk_as_its_camera_says(self):
        width, height = 65, 50
        camera = StereoCamera(width, height, np.array([[60.0, 0, 32], [0, 60, 24.5], [0, 0, 1]]), 0.1)
        finder = ObjectFinder(camera, FPS, ObjectConfig(max_width=32))
        ramp = np.broadcast_to((3 * np.arange(width, dtype=np.uint8))[None, :, None], (height, width, 3))
        finder.add(np.ascontiguousarray(ramp), np.ones((height, width), np.float32))
        one = np.zeros(1)
        found = finder.finish(Trajectory(np.eye(4)[None], one, one.astype(int), one.astype(int), one, one.astype(bool)))
        # Pixel i of three to one is the mean of pixels 3 i .. 3 i + 2, which is grey level 3 (3 i + 1).
        np.testing.assert_allclose(found.images[0, 5, :, 0], 3 * (3 * np.arange(21) + 1), atol=1)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("max_width", 8), ("gap_s", 0.0), ("flow_std_px", -1.0), ("seed_sigmas", float("nan")), ("grow_sigmas", 0.0)],
    )
    def test_a_config_that_cannot_be_names_its_field(self, field, value):
        with pytest.raises(InputError) as caught:
            ObjectConfig(**{field: value})
        assert caught.value.field == f"objects.{field}"


def track_of(centers: np.ndarray, frames=None) -> Track:
    cloud = np.random.default_rng(0).normal(0, 0.2, (40, 3))
    cloud -= cloud.mean(axis=0)
    mask = np.zeros((2, 2), np.bool_)
    colours = np.full(96, 1 / 96, np.float32)
    frames = range(len(centers)) if frames is None else frames
    return Track(
        [
            Sighting(t, mask, cloud + center, center, 0.3, 0.01, colours, 5.0, np.full(3, np.nan))
            for t, center in zip(frames, centers, strict=True)
        ]
    )


class TestFlowOfATrack:
    def track(self, flows: np.ndarray) -> Track:
        centers = np.outer(np.arange(len(flows)), [0.06, 0.0, 0.0])
        track = track_of(centers)
        track.sightings = [one._replace(velocity=flow) for one, flow in zip(track.sightings, flows, strict=True)]
        return track

    def test_one_frame_that_is_off_by_metres_does_not_count(self):
        flows = np.tile([0.05, 0.0, 0.0], (12, 1))
        assert agrees_with_flow(self.track(flows), gap=4)
        flows[5] = [0.0, 0.0, -2.0]
        assert agrees_with_flow(self.track(flows), gap=4)

    def test_what_stands_still_by_its_flow_does_not_agree(self):
        assert not agrees_with_flow(self.track(np.zeros((12, 3))), gap=4)


class TestNoise:
    @pytest.mark.parametrize("noise_m", [0.002, 0.02, 0.1])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_a_known_noise_is_recovered_whatever_the_motion(self, noise_m, seed):
        times = np.arange(200)
        smooth = np.stack([0.03 * times, np.sin(times / 40), 5 - 0.01 * times], axis=1)
        noisy = smooth + np.random.default_rng(seed).normal(0, noise_m, smooth.shape)
        assert center_noise(track_of(noisy)) == pytest.approx(noise_m, rel=0.3)

    def test_smooth_motion_has_none(self):
        assert center_noise(track_of(np.arange(30)[:, None] * np.array([0.1, 0, -0.05]))) == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("frames", [[0], [0, 1], [0, 1, 4]])
    def test_without_three_frames_evenly_spaced_none_is_known(self, frames):
        centers = np.random.default_rng(0).normal(size=(len(frames), 3))
        assert center_noise(track_of(centers, frames)) == 0

    def test_net_motion_is_the_way_between_first_and_last(self):
        line = np.arange(12)[:, None] * np.array([0.1, 0, 0])
        assert net_motion(track_of(line)) == pytest.approx(0.9)  # medians of three frames at either end
        assert net_motion(track_of(line[:1])) == 0

    def test_there_and_back_counts_as_far_as_it_went(self):
        way = np.concatenate([np.arange(8), np.arange(8)[::-1]])[:, None] * np.array([0.1, 0, 0])
        assert net_motion(track_of(way)) > 0.4


@st.composite
def cameras(draw) -> StereoCamera:
    width, height = draw(st.integers(40, 300)), draw(st.integers(40, 300))
    focal = draw(st.floats(50, 400))
    matrix = np.array([[focal, 0, draw(st.floats(0, width))], [0, focal * 1.1, draw(st.floats(0, height))], [0, 0, 1]])
    return StereoCamera(width, height, matrix, draw(st.floats(0.05, 1)), draw(st.floats(-5, 5)))


class TestShrink:
    @settings(max_examples=60, deadline=None)
    @given(
        camera=cameras(),
        scale=st.integers(1, 5),
        x=st.floats(-1, 1),
        y=st.floats(-1, 1),
        depth=st.floats(0.5, 50),
    )
    def test_a_point_lands_on_the_pixel_that_holds_its_block(self, camera, scale, x, y, depth):
        small = shrink_camera(camera, scale)
        point = np.array([x * depth, y * depth, depth])
        large_pixel = project_points(camera.intrinsics, point)
        # Pixel i covers pixels scale * i .. scale * i + scale - 1, from edge to edge.
        expected = (large_pixel + 0.5) / scale - 0.5
        np.testing.assert_allclose(project_points(small.intrinsics, point), expected, atol=1e-6)
        assert (small.width, small.height) == (camera.width // scale, camera.height // scale)
        assert small.baseline == camera.baseline

    @settings(max_examples=40, deadline=None)
    @given(camera=cameras(), scale=st.integers(1, 5), depth=st.floats(0.5, 50))
    def test_disparities_shrink_with_the_camera(self, camera, scale, depth):
        small = shrink_camera(camera, scale)
        size = (small.width, small.height)
        large = np.full((camera.height, camera.width), camera.disparity(np.array(depth)), np.float32)
        shrunk = shrink_disparity(large, scale, size)
        assert shrunk.shape == (small.height, small.width)
        assert shrunk.dtype == np.float32
        np.testing.assert_allclose(shrunk, small.disparity(np.array(depth)), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(small.depth(shrunk), depth, rtol=1e-2)

    @settings(max_examples=30, deadline=None)
    @given(scale=st.integers(1, 5), width=st.integers(10, 40), height=st.integers(10, 40), seed=st.integers(0, 9))
    def test_each_pixel_is_one_of_its_block(self, scale, width, height, seed):
        large = np.random.default_rng(seed).uniform(1, 60, (height, width)).astype(np.float32)
        small = shrink_disparity(large, scale, (width // scale, height // scale))
        for row, column in np.ndindex(small.shape):
            block = large[row * scale : (row + 1) * scale, column * scale : (column + 1) * scale]
            assert np.isclose(block / scale, small[row, column], rtol=1e-6).any()


class TestOddFrames:
    def with_sizes(self, sizes) -> Track:
        track = track_of(np.zeros((len(sizes), 3)))
        return Track(
            [one._replace(points=np.zeros((size, 3))) for one, size in zip(track.sightings, sizes, strict=True)]
        )

    def test_half_a_thing_and_a_thing_with_its_neighbour_are_left_out(self):
        track = self.with_sizes([100, 102, 50, 104, 106, 108, 210, 110, 112])
        assert without_odd(track).frames == [0, 1, 3, 4, 5, 7, 8]

    def test_so_are_those_at_the_ends(self):
        assert without_odd(self.with_sizes([20, 100, 101, 102, 103, 200])).frames == [1, 2, 3, 4]

    def test_what_goes_behind_something_shrinks_and_stays(self):
        sizes = [round(400 * 0.9**n) for n in range(20)]
        assert without_odd(self.with_sizes(sizes)).frames == list(range(20))

    def test_of_few_sightings_none_is_odd(self):
        assert without_odd(self.with_sizes([10, 100, 1000, 5])).frames == [0, 1, 2, 3]


class TestEndsOfAClip:
    """Where there is one frame to compare with, what a thing hides there is seen as a part of it."""

    @staticmethod
    def sighting(columns: slice) -> Sighting:
        mask = np.zeros((96, 96), bool)
        mask[30:50, columns] = True
        return track_of(np.zeros((1, 3))).last._replace(mask=mask, gap=2)

    @staticmethod
    def finder() -> ObjectFinder:
        clip = one_mover()
        finder = ObjectFinder(clip.camera, FPS, ObjectConfig(max_width=96))
        for image, disparity_px in zip(clip.left, clip.disparity, strict=True):
            finder.add(image, disparity_px)
        return finder

    def test_what_lies_beside_the_thing_carried_there_goes(self):
        seen, carried = self.sighting(slice(30, 60)), self.sighting(slice(30, 50))
        trimmed = self.finder()._trimmed(seen, carried, np.eye(4))
        np.testing.assert_array_equal(trimmed.mask, self.sighting(slice(30, 51)).mask)
        assert trimmed.gap == seen.gap

    def test_what_fits_stays_as_it_was_seen(self):
        seen = self.sighting(slice(31, 51))
        assert self.finder()._trimmed(seen, self.sighting(slice(30, 50)), np.eye(4)) is seen

    def test_a_part_gives_way_to_the_thing_carried_there(self):
        carried = self.sighting(slice(30, 50))
        assert self.finder()._trimmed(self.sighting(slice(30, 40)), carried, np.eye(4)) is carried

    @pytest.mark.parametrize(("frame", "one_sided"), [(0, True), (1, True), (2, False), (9, False), (10, True)])
    def test_frames_that_have_one_other(self, frame, one_sided):
        sighting = self.sighting(slice(30, 50))._replace(frame=frame)  # gap 2, of 12 frames
        assert self.finder()._is_one_sided(sighting) == one_sided


class TestSharedPixels:
    def test_what_is_left_of_a_thing_must_lie_on_it(self):
        sighting = track_of(np.array([[0.5, 0.2, 4.0]])).last  # 0.3 m of radius
        near = sighting.center + np.random.default_rng(0).normal(0, 0.05, (20, 3))
        assert is_of(sighting, near)
        assert not is_of(sighting, near + np.array([0, 0, 0.5]))
        assert not is_of(sighting, np.zeros((0, 3)))

    def test_a_pixel_is_of_the_thing_that_is_as_near_and_was_seen_before_of_one_that_was_carried(self):
        finder = ObjectFinder(StereoCamera(60, 40, np.array([[50.0, 0, 29.5], [0, 50, 19.5], [0, 0, 1]]), 0.2), 10.0)
        disparity = np.full((40, 60), 2.0, np.float32)
        disparity[:, 30:] = 4.0
        finder.add(np.zeros((40, 60, 3), np.uint8), disparity)
        left, right = np.zeros((2, 40, 60), np.bool_)
        left[:, 5:32], right[:, 28:50] = True, True
        near = track_of(np.zeros((1, 3))).sightings[0]._replace(mask=right)
        far = near._replace(mask=left)
        masks = finder._share_pixels([Track([far]), Track([near])])
        assert (masks[0][:, 5:30] == 1).all()
        assert (masks[0][:, 30:50] == 2).all()
        masks = finder._share_pixels([Track([far]), Track([near._replace(sigmas=0.0)])])
        assert (masks[0][:, 5:32] == 1).all()
        assert (masks[0][:, 32:50] == 2).all()


class TestRims:
    """A thing of 30 by 30 pixels at 4 m, and a sliver at its upper edge."""

    def thing(self, rows: slice, columns: int, width: int, depth_std_m: float, step_px: int = 2) -> Track:
        sightings = []
        for t, one in enumerate(track_of(np.zeros((8, 3))).sightings):
            mask = np.zeros((96, 96), bool)
            mask[rows, columns + step_px * t : columns + step_px * t + width] = True
            sightings.append(one._replace(mask=mask, depth_std_m=depth_std_m))
        return Track(sightings)

    @pytest.mark.parametrize(
        ("rows", "step_px", "depth_std_m", "kept"),
        [
            (slice(36, 40), 2, 0.04, 1),  # the wall behind, along with it
            (slice(36, 40), 2, 0.01, 2),  # as near as the thing: a hat
            (slice(20, 24), 2, 0.04, 2),  # apart
            (slice(36, 40), -1, 0.04, 2),  # goes another way
            (slice(30, 40), 2, 0.04, 2),  # too large for a rim
        ],
    )
    def test_a_sliver_of_the_background_that_goes_along_is_none(self, rows, step_px, depth_std_m, kept):
        whole = self.thing(slice(40, 70), 30, 30, 0.01)
        tracks = [whole, self.thing(rows, 38, 15, depth_std_m, step_px)]
        assert without_rims(tracks) == tracks[:kept]


class TestPoints:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 1000))
    def test_thinned_to_256_evenly(self, count):
        points = np.arange(3.0 * count).reshape(count, 3)
        thin = thin_points(points)
        assert thin.shape == (min(count, MAX_POINTS_PER_OBJECT), 3)
        assert thin.dtype == np.float32
        if count:
            np.testing.assert_array_equal(thin[[0, -1]], points[[0, -1]])
            assert (np.diff(thin[:, 0]) > 0).all()

    def test_what_is_off_the_surface_is_left_out(self):
        camera = StereoCamera(60, 40, np.array([[50.0, 0, 29.5], [0, 50, 19.5], [0, 0, 1]]), 0.2)
        depth = np.full((40, 60), 9.0, np.float32)
        depth[10:30, 20:40] = 3.0
        mask = np.zeros((40, 60), np.bool_)
        mask[10:30, 20:42] = True  # two columns of the wall behind
        disparity = camera.disparity(depth)
        disparity[12:14, 20:40] = np.nan
        points = surface_points(camera, disparity, mask)
        assert len(points) == 18 * 20
        np.testing.assert_allclose(points[:, 2], 3.0, rtol=1e-5)
        assert np.ptp(points[:, 0]) == pytest.approx(19 * 3 / 50, rel=1e-4)

    def test_a_receding_side_is_part_of_the_surface(self):
        camera = StereoCamera(60, 40, np.array([[50.0, 0, 29.5], [0, 50, 19.5], [0, 0, 1]]), 0.2)
        depth = np.full((40, 60), 9.0, np.float32)
        depth[10:30, 20:40] = 3.0
        depth[10:30, 40:46] = np.linspace(3.05, 3.4, 6)  # goes back by more than a tenth of the width
        mask = np.zeros((40, 60), np.bool_)
        mask[10:30, 20:48] = True  # two columns of the wall behind
        points = surface_points(camera, camera.disparity(depth), mask)
        assert points[:, 2].max() > 3.25
        assert points[:, 2].max() < 3.5

    def test_of_nothing_known_no_points(self):
        camera = StereoCamera(60, 40, np.array([[50.0, 0, 29.5], [0, 50, 19.5], [0, 0, 1]]), 0.2)
        unknown = np.full((40, 60), np.nan, np.float32)
        assert surface_points(camera, unknown, np.ones((40, 60), np.bool_)).shape == (0, 3)
