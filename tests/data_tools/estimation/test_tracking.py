"""Identities through crossings, occlusions and wrong detections, on clouds of points that are made here."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from mllm4d_verl.data_tools.estimation.tracking import (
    Sighting,
    Track,
    colour_distance,
    colour_histogram,
    join_fragments,
    join_pieces,
    track_sightings,
)

FOCAL, SIZE = 100.0, 120
RADIUS = 0.3
CLOUD = np.random.default_rng(0).normal(size=(150, 3))
CLOUD *= RADIUS * np.random.default_rng(1).random((150, 1)) ** (1 / 3) / np.linalg.norm(CLOUD, axis=1, keepdims=True)
CLOUD -= np.median(CLOUD, axis=0)


def histogram(colour: str) -> np.ndarray:
    image = np.empty((4, 4, 3), np.uint8)
    image[:] = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 220, 20), "grey": (130, 130, 130)}[colour]
    return colour_histogram(image, np.ones((4, 4), np.bool_))


def sighting(frame: int, center, colour: str = "red", velocity=None, scale: float = 1.0) -> Sighting:
    """A cloud of points around a centre (3,), seen by a camera that stays at the origin."""
    center = np.asarray(center, np.float64)
    points = CLOUD * scale + center
    u, v = (FOCAL * points[:, :2] / points[:, 2:] + SIZE / 2).round().astype(int).T
    inside = (u >= 0) & (v >= 0) & (u < SIZE) & (v < SIZE)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[v[inside], u[inside]] = 1
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    radius = float(np.percentile(np.linalg.norm(points - center, axis=1), 90))
    flow = np.full(3, np.nan) if velocity is None else np.asarray(velocity, np.float64)
    return Sighting(frame, mask, points, np.median(points, axis=0), radius, 0.02, histogram(colour), 6.0, flow)


def passing(frames, start, step, colour: str = "red", **options) -> dict[int, Sighting]:
    """Sightings by frame of what is at `start` in frame 0 and goes by `step` a frame."""
    start, step = np.array(start, np.float64), np.array(step, np.float64)
    return {t: sighting(t, start + t * step, colour, velocity=step, **options) for t in frames}


def in_frames(num_frames: int, *things: dict[int, Sighting]) -> list[list[Sighting]]:
    return [[thing[t] for thing in things if t in thing] for t in range(num_frames)]


def is_of(track: Track, thing: dict[int, Sighting]) -> bool:
    """Whether a track holds every sighting of a thing and nothing else."""
    return [id(one) for one in track.sightings] == [id(thing[t]) for t in sorted(thing)]


def assert_tracks(tracks: list[Track], *things: dict[int, Sighting]) -> None:
    assert len(tracks) == len(things)
    for thing in things:
        assert any(is_of(track, thing) for track in tracks)


class TestTracks:
    def test_one_thing_is_one_track(self):
        thing = passing(range(8), (-0.5, 0, 4), (0.1, 0, 0.02))
        (track,) = track_sightings(in_frames(8, thing), max_gap=8)
        assert is_of(track, thing)
        assert track.frames == list(range(8))
        np.testing.assert_allclose(track.velocity(), [0.1, 0, 0.02], atol=1e-9)
        np.testing.assert_allclose(track.predicted_center(10), track.last.center + 3 * np.array([0.1, 0, 0.02]))

    @pytest.mark.parametrize("order", [1, -1])
    def test_things_of_other_colours_that_cross_keep_their_identities(self, order):
        left = passing(range(12), (-1.1, 0, 4.0), (0.2, 0, 0), "red")
        right = passing(range(12), (1.1, 0, 4.3), (-0.2, 0, 0), "blue")
        frames = in_frames(12, left, right)
        # Detections come in any order.
        frames = [found[::order] if t % 2 else found for t, found in enumerate(frames)]
        assert_tracks(track_sightings(frames, max_gap=12), left, right)

    @pytest.mark.parametrize("hidden", [1, 3, 5])
    def test_what_was_hidden_and_goes_on_is_the_same(self, hidden):
        frames = [t for t in range(16) if not 6 <= t < 6 + hidden]
        thing = passing(frames, (-1.0, 0, 4), (0.12, 0, 0))
        assert_tracks(track_sightings(in_frames(16, thing), max_gap=16), thing)

    def test_beyond_the_longest_gap_it_is_another(self):
        early = passing(range(6), (-1.0, 0, 4), (0.0, 0, 0.1))
        late = passing(range(12, 18), (1.4, 0, 3.0), (0.0, 0, 0.1))
        assert_tracks(track_sightings(in_frames(18, early, late), max_gap=3), early, late)

    def test_what_turns_up_with_other_colours_is_another(self):
        early = passing(range(6), (-1.0, 0, 4), (0.12, 0, 0), "red")
        late = passing(range(9, 15), (-1.0, 0, 4), (0.12, 0, 0), "green")
        assert_tracks(track_sightings(in_frames(15, early, late), max_gap=15), early, late)

    def test_things_far_apart_never_join(self):
        near = passing(range(10), (-1.2, 0, 4), (0.05, 0, 0))
        far = passing(range(10), (1.2, 0, 5), (0.05, 0, 0))
        assert_tracks(track_sightings(in_frames(10, near, far), max_gap=10), near, far)

    def test_of_two_things_that_take_turns_far_apart_each_is_its_own(self):
        early = passing(range(5), (-1.5, 0, 4), (0.02, 0, 0))
        late = passing(range(5, 10), (1.5, 0, 4), (0.02, 0, 0))
        assert_tracks(track_sightings(in_frames(10, early, late), max_gap=10), early, late)

    @pytest.mark.parametrize("first", [True, False])
    def test_a_wrong_detection_does_not_take_a_track(self, first):
        thing = passing(range(10), (-0.6, 0, 4), (0.1, 0, 0))
        wrong = {5: sighting(5, (0.35, 0.2, 4.2), "grey")}
        things = (wrong, thing) if first else (thing, wrong)
        assert_tracks(track_sightings(in_frames(10, *things), max_gap=10), thing, wrong)

    def test_a_wrong_detection_where_the_thing_was_missed_does_not_take_its_track(self):
        thing = passing([t for t in range(10) if t != 5], (-0.6, 0, 4), (0.1, 0, 0))
        wrong = {5: sighting(5, (1.2, 0.5, 5.0), "red")}
        assert_tracks(track_sightings(in_frames(10, thing, wrong), max_gap=10), thing, wrong)

    def test_the_whole_assignment_counts_not_the_first_that_fits(self):
        """Two alike in a row go on by one place: the second's new place is nearest to where the first was."""
        step = np.array([0.45, 0, 0])
        first = passing(range(8), (-2.0, 0, 6), step)
        second = passing(range(8), (-1.1, 0, 6), step)
        assert_tracks(track_sightings(in_frames(8, second, first), max_gap=8), first, second)

    def test_no_sightings_no_tracks(self):
        assert track_sightings([[], [], []], max_gap=3) == []
        assert track_sightings([], max_gap=3) == []

    def test_sightings_are_used_once(self):
        things = [passing(range(10), (-1.5 + k, 0, 5), (0.04, 0.01 * k, 0), "red") for k in range(4)]
        frames = in_frames(10, *things)
        used = [id(one) for track in track_sightings(frames, max_gap=10) for one in track.sightings]
        assert sorted(used) == sorted(id(one) for found in frames for one in found)


class TestTrack:
    def test_the_longest_run_stops_at_gaps(self):
        thing = passing([0, 1, 2, 3, 9, 10, 11], (0, 0, 4), (0.01, 0, 0))
        track = Track([thing[t] for t in sorted(thing)])
        assert track.longest_run(1) == 4
        assert track.longest_run(6) == 7

    def test_of_few_sightings_scene_flow_tells_the_velocity(self):
        track = Track([sighting(0, (0, 0, 4), velocity=(0.1, 0, 0)), sighting(1, (0.3, 0, 4))])
        np.testing.assert_allclose(track.velocity(), [0.1, 0, 0])
        np.testing.assert_array_equal(Track([sighting(0, (0, 0, 4))]).velocity(), [0, 0, 0])


class TestFragments:
    def test_parts_side_by_side_that_move_alike_are_joined(self):
        left = passing(range(8), (-0.5, 0, 4.0), (0.1, 0, 0))
        right = passing(range(1, 8), (-0.1, 0, 4.0), (0.1, 0, 0))
        tracks = [Track([thing[t] for t in sorted(thing)]) for thing in (left, right)]
        (whole,) = join_fragments(tracks)
        assert whole.frames == list(range(8))
        for one in whole.sightings[1:]:
            parts = left[one.frame], right[one.frame]
            np.testing.assert_array_equal(one.mask, parts[0].mask | parts[1].mask)
            assert len(one.points) == 2 * len(CLOUD)
            assert parts[0].center[0] < one.center[0] < parts[1].center[0]
            assert one.radius_m > RADIUS
            assert one.colours.sum() == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize(
        ("start", "step", "colour"),
        [
            ((1.2, 0, 4.0), (0.1, 0, 0), "red"),  # not near
            ((0.4, 0, 5.5), (0.1, 0, 0), "blue"),  # behind, and not alike
            ((-0.1, 0, 4.0), (-0.1, 0, 0), "red"),  # another way
        ],
    )
    def test_things_of_their_own_are_not(self, start, step, colour):
        thing = passing(range(8), (-0.5, 0, 4.0), (0.1, 0, 0), "red")
        other = passing(range(8), start, step, colour)
        tracks = [Track(list(thing.values())), Track(list(other.values()))]
        assert_tracks(join_fragments(tracks), thing, other)

    @pytest.mark.parametrize("unknown", [0, 1])
    def test_the_velocity_that_is_known_is_that_of_the_whole(self, unknown):
        parts = [Track(list(passing(range(8), (x, 0, 4.0), (0.1, 0, 0)).values())) for x in (-0.5, -0.1)]
        parts[unknown] = Track([one._replace(velocity=np.full(3, np.nan)) for one in parts[unknown].sightings])
        (whole,) = join_fragments(parts)
        for one in whole.sightings:
            np.testing.assert_allclose(one.velocity, (0.1, 0, 0))

    def test_one_after_the_other_are_no_fragments(self):
        early = passing(range(4), (-0.5, 0, 4.0), (0.1, 0, 0))
        late = passing(range(4, 8), (-0.5, 0, 4.0), (0.1, 0, 0))
        assert len(join_fragments([Track(list(early.values())), Track(list(late.values()))])) == 2


class TestPieces:
    """Two sightings of one frame, columns 10 to 20 and `right`."""

    def piece(self, columns: slice, velocity=(0.1, 0, 0)) -> Sighting:
        mask = np.zeros((40, 40), bool)
        mask[10:30, columns] = True
        return sighting(0, (0.1 * columns.start, 0, 4.0), velocity=velocity)._replace(mask=mask, gap=2)

    def joined(self, right: slice, velocity=(0.1, 0, 0), disparity_px: float = 8.0) -> list[Sighting]:
        disparities = np.full((40, 40), 8.0, np.float32)
        disparities[:, right] = disparity_px
        return join_pieces([self.piece(slice(10, 20)), self.piece(right, velocity)], disparities)

    def test_side_by_side_on_one_surface_and_moving_alike_they_are_one(self):
        (whole,) = self.joined(slice(21, 30), velocity=(0.12, 0, 0))
        np.testing.assert_array_equal(whole.mask, self.piece(slice(10, 20)).mask | self.piece(slice(21, 30)).mask)
        assert whole.gap == 2
        assert 0.1 < whole.velocity[0] < 0.12

    def test_three_in_a_row_are_one_too(self):
        row = [self.piece(slice(start, start + 8)) for start in (2, 20, 11)]
        assert len(join_pieces(row, np.full((40, 40), 8.0, np.float32))) == 1

    def test_nor_where_only_the_edge_between_them_is_as_near(self):
        disparities = np.full((40, 40), 8.0, np.float32)
        disparities[:, 23:] = 7.0
        right = self.piece(slice(21, 30))
        assert len(join_pieces([self.piece(slice(10, 20)), right], disparities)) == 2

    @pytest.mark.parametrize(
        ("right", "options"),
        [
            (slice(26, 36), {}),  # apart
            (slice(21, 30), {"velocity": (-0.1, 0, 0)}),  # another way
            (slice(21, 30), {"velocity": (np.nan, 0, 0)}),  # nobody knows which way
            (slice(21, 30), {"disparity_px": 9.0}),  # nearer
            (slice(21, 30), {"disparity_px": np.nan}),  # nobody knows how near
        ],
    )
    def test_else_they_stay_two(self, right, options):
        assert len(self.joined(right, **options)) == 2


class TestColours:
    def test_equal_is_zero_and_disjoint_is_one(self):
        red, blue = histogram("red"), histogram("blue")
        assert colour_distance(red, red) == pytest.approx(0, abs=1e-3)
        assert colour_distance(red, blue) == pytest.approx(1, abs=1e-6)

    @settings(max_examples=40, deadline=None)
    @given(
        left=arrays(np.uint8, (5, 6, 3)),
        right=arrays(np.uint8, (5, 6, 3)),
        mask=arrays(np.bool_, (5, 6)),
    )
    def test_a_histogram_sums_to_one_and_distance_is_symmetric(self, left, right, mask):
        first, second = colour_histogram(left, mask), colour_histogram(right, mask)
        assert first.sum() == pytest.approx(1, abs=1e-5)
        distance = colour_distance(first, second)
        assert 0 <= distance <= 1
        assert distance == pytest.approx(colour_distance(second, first), abs=1e-6)

    def test_only_what_is_inside_the_mask_counts(self):
        image = np.zeros((6, 8, 3), np.uint8)
        image[:, :4], image[:, 4:] = (220, 20, 20), (20, 20, 220)
        mask = np.zeros((6, 8), np.bool_)
        mask[2:5, 1:3] = True
        assert colour_distance(colour_histogram(image, mask), histogram("red")) == pytest.approx(0, abs=1e-3)
