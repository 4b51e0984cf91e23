"""Words for objects: colours of rendered things, and what tells things apart that share a colour."""

import numpy as np
import pytest

from mllm4d_verl.data_tools.estimation.description import (
    COLOUR_EXAMPLES,
    ObjectAppearance,
    colour_name,
    describe_objects,
    extent_m,
    lit_colour,
    measure_appearance,
    to_lab,
)
from mllm4d_verl.data_tools.synthetic.config import COLOURS, world_preset
from mllm4d_verl.data_tools.synthetic.render import render_stereo, surface_points
from mllm4d_verl.data_tools.synthetic.world import clip_scene


def name_of(*rgb):
    return colour_name(to_lab(np.array([rgb], float))[0])


def thing(rgb=(242, 20, 20), size=1.0, place=(0.5, 0.5), first=0, category=None):
    return ObjectAppearance(np.array([rgb], float), size, place, first, category)


def texts(*things):
    return [text for _, text in describe_objects(things)]


class TestColourName:
    def test_every_example_has_its_own_name(self):
        for name, colours in COLOUR_EXAMPLES.items():
            assert [name_of(*colour) for colour in colours] == [name] * len(colours)

    @pytest.mark.parametrize("shade", [1.0, 0.9, 0.8, 0.7])
    def test_colours_of_the_synthetic_world_in_light_and_shade(self, shade):
        for name, colour in COLOURS.items():
            if name == "white" and shade < 0.75:
                continue  # a white thing in deep shade is grey to anyone who sees nothing else
            assert name_of(*(255 * shade * np.array(colour))) == name

    @pytest.mark.parametrize(
        ("rgb", "name"),
        [
            ((178, 34, 34), "red"),
            ((255, 165, 0), "orange"),
            ((139, 69, 19), "brown"),
            ((255, 192, 203), "pink"),
            ((128, 0, 128), "purple"),
            ((135, 206, 235), "blue"),
            ((0, 0, 128), "blue"),
            ((107, 142, 35), "green"),
            ((64, 224, 208), "cyan"),
            ((30, 30, 32), "black"),
            ((120, 122, 118), "grey"),
            ((235, 235, 228), "white"),
            ((210, 180, 140), "brown"),
        ],
    )
    def test_colours_that_people_name(self, rgb, name):
        assert name_of(*rgb) == name

    def test_the_lighter_half_counts(self):
        pixels = np.array([[240, 20, 20]] * 60 + [[10, 0, 0]] * 40, np.uint8)
        assert lit_colour(pixels) == pytest.approx([240, 20, 20])
        assert lit_colour(np.array([[5, 6, 7]], np.uint8)) == pytest.approx([5, 6, 7])


class TestDescribe:
    def test_colour_and_label(self):
        found = describe_objects([thing(category="Ball "), thing((18, 26, 200))])
        assert found == [("ball", "the red ball"), ("object", "the blue object")]

    def test_nothing_known(self):
        assert describe_objects([ObjectAppearance()]) == [("object", "the object")]
        assert describe_objects([]) == []

    def test_a_label_that_says_the_colour(self):
        assert texts(thing(category="red car")) == ["the red car"]

    def test_size_tells_two_apart(self):
        assert texts(thing(size=0.5), thing(size=1.0)) == ["the small red object", "the large red object"]

    def test_place_where_size_does_not_tell(self):
        assert texts(thing(size=1.1, place=(0.7, 0.5)), thing(place=(0.2, 0.5))) == [
            "the red object on the right",
            "the red object on the left",
        ]
        assert texts(thing(place=(0.5, 0.2)), thing(place=(0.52, 0.9))) == [
            "the red object at the top",
            "the red object at the bottom",
        ]

    def test_more_than_two(self):
        assert texts(thing(place=(0.5, 0.5)), thing(place=(0.1, 0.5)), thing(place=(0.9, 0.5))) == [
            "the second red object from the left",
            "the first red object from the left",
            "the third red object from the left",
        ]

    def test_size_and_place(self):
        assert texts(thing(size=2), thing(place=(0.1, 0.5)), thing(place=(0.9, 0.5))) == [
            "the large red object",
            "the small red object on the left",
            "the small red object on the right",
        ]

    def test_time_where_place_does_not_tell(self):
        assert texts(thing(first=8), thing(first=2)) == [
            "the red object that appears later",
            "the red object that appears first",
        ]

    def test_twins_are_numbered(self):
        assert texts(thing(), thing()) == ["the red object number 1", "the red object number 2"]

    def test_never_two_equal_ones(self):
        rng = np.random.default_rng(0)
        labels = (None, "car", "red car", "large red car", "red car number 1", "red car on the left")
        for _ in range(300):
            things = [
                thing(
                    rgb=((242, 20, 20), (18, 26, 200))[rng.integers(2)],
                    size=float(rng.choice([0, 0.5, 1.0, 2.0])),
                    place=None if rng.random() < 0.1 else tuple(rng.choice([0.1, 0.15, 0.5, 0.9], 2)),
                    first=int(rng.integers(3)),
                    category=labels[rng.integers(len(labels))],
                )
                for _ in range(rng.integers(1, 14))
            ]
            found = texts(*things)
            assert len(set(found)) == len(found)
            assert found == texts(*things)


class TestMeasure:
    def test_a_thing_in_two_frames(self):
        frames = np.full((3, 40, 60, 3), 90, np.uint8)
        masks = np.zeros((3, 40, 60), np.uint8)
        masks[1, 10:20, 30:42] = 4
        masks[2, 10:20, 36:48] = 4
        frames[masks == 4] = (20, 30, 230)
        cloud = np.array([[x, y, 5.0] for x in np.linspace(0, 1, 21) for y in np.linspace(0, 2, 21)], np.float32)
        found = measure_appearance(frames, masks, 4, [np.zeros((0, 3), np.float32), cloud, cloud[:5]], "car")
        assert found.colour == "blue"
        assert found.place == pytest.approx((36 / 60, 15 / 40))
        assert (found.first_frame, found.category) == (1, "car")
        assert found.extent_m == pytest.approx(0.9 * np.hypot(1, 2), rel=0.02)

    def test_masks_of_another_size(self):
        frames = np.zeros((1, 80, 120, 3), np.uint8)
        frames[:, 20:40, 60:84] = (20, 217, 31)
        masks = np.zeros((1, 40, 60), np.uint8)
        masks[0, 10:20, 30:42] = 1
        assert measure_appearance(frames, masks, 1, [np.zeros((0, 3))]).colour == "green"

    def test_a_thin_thing_and_the_edge_of_the_image(self):
        frames = np.zeros((1, 20, 20, 3), np.uint8)
        frames[0, :, 0] = (250, 230, 10)
        masks = np.zeros((1, 20, 20), np.uint8)
        masks[0, :, 0] = 1
        assert measure_appearance(frames, masks, 1, [np.zeros((0, 3))]).colour == "yellow"

    def test_a_frame_that_hardly_shows_it_does_not_count(self):
        frames = np.zeros((3, 40, 40, 3), np.uint8)
        masks = np.zeros((3, 40, 40), np.uint8)
        masks[0, 10:30, 10:30] = 1
        masks[1:, 20, 20] = 1
        frames[0, masks[0] == 1] = (242, 20, 20)
        frames[1:, 20, 20] = (0, 0, 255)
        assert len(measure_appearance(frames, masks, 1, [np.zeros((0, 3))] * 3).rgb) == 1

    def test_never_seen(self):
        found = measure_appearance(np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.uint8), 1, [])
        assert (found.colour, found.place, found.extent_m) == (None, None, 0.0)

    def test_size_is_that_of_the_frames_that_show_most(self):
        cloud = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
        assert extent_m([cloud] * 3 + [0.2 * cloud] * 2) == pytest.approx(0.9 * 2 * np.sqrt(3), rel=0.05)
        assert extent_m([cloud[:3]]) == 0

    def test_rendered_clips(self):
        """Shaded solids with a fine pattern, as the renderer makes them before any codec."""
        config = world_preset("default").replace(supersample=1)
        right = total = 0
        for number in range(8):
            scene = clip_scene(77, number, 2, 1.0, config)
            render = render_stereo(scene, config, 96, 96)
            for index, solid in enumerate(scene.objects, start=1):
                points = [surface_points(render, frame, index) for frame in range(2)]
                found = measure_appearance(render.left, render.mask, index, points, solid.shape)
                if len(found.rgb):
                    right += found.colour == solid.colour
                    total += 1
                    assert 0.2 < found.extent_m < 2.0
        assert total > 20
        assert right == total
