"""Pictures of a clip: what is drawn where, in which colour and at which scale."""

import json
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation import view as view_module
from mllm4d_verl.data_tools.annotation.view import ClipView, view_clip
from mllm4d_verl.data_tools.annotation.view_drawing import Box, id_color, place_labels
from mllm4d_verl.data_tools.annotation.view_input import cell_size, find_clip, stack_frames, stack_shapes
from mllm4d_verl.data_tools.annotation.view_scales import DepthScale, TopDown, nice_step
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import Clip4D, ObjectTrack, read_clip, write_clip, write_clip_index
from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4

FRAMES, WIDTH, HEIGHT = 6, 96, 64
GREY = 120


def square_points(x: float, z: float) -> np.ndarray:
    """A square of 0.4 m that faces the camera, its middle at (x, 0, z)."""
    sides = np.linspace(-0.2, 0.2, 12)
    grid = np.stack(np.meshgrid(sides, sides), axis=-1).reshape(-1, 2)
    return np.column_stack([x + grid[:, 0], grid[:, 1], np.full(len(grid), z)]).astype(np.float32)


def make_clip(**changes) -> Clip4D:
    """The camera goes 1 m to the right; object 3 stays at (0.5, 0, 4), object 7 goes from z = 5 to z = 6."""
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 1, FRAMES)
    depths = np.linspace(5, 6, FRAMES)
    objects = [
        ObjectTrack(3, "box", "the red box", False, [square_points(0.5, 4.0)] * FRAMES),
        ObjectTrack(7, "ball", "the blue ball", True, [square_points(-0.5, z) for z in depths]),
    ]
    fields = {
        "clip_id": "walk",
        "source": "test",
        "license": "",
        "video": "videos/walk.mp4",
        "fps": 8.0,
        "num_frames": FRAMES,
        "width": WIDTH,
        "height": HEIGHT,
        "intrinsics": np.array([[80.0, 0, 47.5], [0, 80, 31.5], [0, 0, 1]]),
        "baseline": 0.1,
        "cam_to_world": poses,
        "objects": objects,
    }
    return Clip4D(**(fields | changes))


def masks_and_depth() -> tuple[np.ndarray, np.ndarray]:
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    masks[:, 24:40, 50:64] = 3
    masks[:, 26:38, 30:42] = 7
    depth = np.full(masks.shape, 8.0, np.float16)
    depth[masks == 3] = 4
    depth[masks == 7] = 5.5
    depth[:, :, :4] = np.nan
    return masks, depth


def make_root(folder: Path, clip: Clip4D, *, video: bool = True, dense: bool = True) -> Path:
    write_clip(folder / "clip4d", clip)
    write_clip_index(folder / "clip4d")
    if video:
        size = (clip.num_frames, clip.height - clip.height % 2, clip.width - clip.width % 2, 3)
        (folder / clip.video).parent.mkdir(parents=True)
        write_mp4(folder / clip.video, np.full(size, GREY, np.uint8), clip.fps)
    if dense:
        masks, depth = masks_and_depth()
        (folder / "masks").mkdir()
        np.savez_compressed(folder / "masks" / f"{clip.clip_id}.npz", masks=masks, depth=depth)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_root(tmp_path_factory.mktemp("view") / "root", make_clip())


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def is_close(pixel, color, within=12) -> bool:
    return bool(np.abs(np.asarray(pixel, float) - np.asarray(color, float)).max() <= within)


def has_color(image: np.ndarray, color, within=12) -> np.ndarray:
    return (np.abs(image.astype(int) - np.array(color)) <= within).all(axis=-1)


class TestFiles:
    def test_sheet_and_video_decode_with_even_sides(self, root, tmp_path):
        report = view_clip("walk", root, tmp_path / "new" / "folder")
        sheet = cv2.imread(str(report.png))
        film = decode(report.mp4)
        assert (report.clip_id, report.notes) == ("walk", [])
        assert report.png.name == "walk.png"
        assert report.mp4.name == "walk.mp4"
        assert len(film) == FRAMES
        assert sheet.shape[0] % 2 == sheet.shape[1] % 2 == film.shape[1] % 2 == film.shape[2] % 2 == 0
        assert sorted(path.name for path in report.png.parent.iterdir()) == ["walk.mp4", "walk.png"]

    def test_same_clip_same_bytes(self, root, tmp_path):
        first, second = (view_clip("walk", root, tmp_path / name) for name in "ab")
        assert first.png.read_bytes() == second.png.read_bytes()
        assert first.mp4.read_bytes() == second.mp4.read_bytes()

    def test_video_keeps_the_rate(self, root, tmp_path):
        report = view_clip("walk", root, tmp_path)
        with av.open(str(report.mp4)) as container:
            assert float(container.streams.video[0].average_rate) == 8.0

    def test_long_clips_are_drawn_in_steps(self, root, monkeypatch):
        monkeypatch.setattr(view_module, "MAX_VIDEO_FRAMES", 4)
        film, fps = ClipView(make_clip(), root).film()
        assert (len(list(film)), fps) == (3, 4.0)

    @pytest.mark.parametrize(("width", "height"), [(64, 64), (1242, 375), (640, 480), (360, 640), (3, 2000)])
    def test_pictures_fit_their_cell(self, width, height):
        cell = cell_size(width, height)
        assert cell[0] <= 640
        assert cell[1] <= 400
        assert cell[0] % 2 == cell[1] % 2 == 0
        assert cell[0] == 640 or cell[1] == 400
        if min(width, height) > 3:
            assert cell[0] / cell[1] == pytest.approx(width / height, rel=0.02)

    def test_wide_clip_has_depth_under_the_picture(self, tmp_path):
        clip = make_clip(width=1242, height=375)
        view = ClipView(clip, make_root(tmp_path / "wide", clip, video=False, dense=False))
        film, _ = view.film()
        assert next(film).shape[1] < 2 * view.size[0]

    def test_clip_of_one_frame(self, tmp_path):
        clip = make_clip()
        clip = replace(
            clip,
            num_frames=1,
            cam_to_world=clip.cam_to_world[:1],
            objects=[replace(track, points=track.points[:1]) for track in clip.objects],
        )
        make_root(tmp_path / "one", clip, dense=False)
        assert len(decode(view_clip("walk", tmp_path / "one", tmp_path).mp4)) == 1


class TestPictures:
    def test_object_is_tinted_and_outlined_where_its_mask_is(self, root):
        view = ClipView(make_clip(), root)
        image, scale = view.left(0), view.size[0] / WIDTH
        for number, (u, v) in ((3, (57, 32)), (7, (36, 32))):
            pixel = image[int((v + 0.5) * scale), int((u + 0.5) * scale)]
            assert is_close(pixel, 0.5 * GREY + 0.5 * np.array(id_color(number)))
        outline = image[int(32.5 * scale), int(50 * scale) : int(50.4 * scale)]
        assert has_color(outline, id_color(3)).any()
        assert is_close(image[-20, -20], (GREY,) * 3)

    def test_points_stand_in_for_masks(self, tmp_path):
        view = ClipView(make_clip(), make_root(tmp_path / "r", make_clip(), dense=False))
        image = view.left(0)
        rows, columns = np.nonzero(has_color(image[60:], id_color(3)))
        # 0.4 m at 4 m: 8 pixels about u = 47.5 + 80 * 0.5 / 4, v = 31.5; labels lie above
        low, high = columns.min(), columns.max()
        scale = view.size[0] / WIDTH
        assert (low + high) / 2 == pytest.approx((57.5 + 0.5) * scale, abs=3)
        points = has_color(image, id_color(3))[int(29 * scale) : int(35 * scale)]
        assert points.sum() > 100
        assert rows.max() + 60 == pytest.approx((31.5 + 4 + 0.5) * scale, abs=5)

    def test_points_behind_the_camera_are_not_drawn(self, tmp_path):
        behind = [ObjectTrack(3, "box", "the red box", False, [square_points(0, -4.0)] * FRAMES)]
        clip = make_clip(objects=behind)
        view = ClipView(clip, make_root(tmp_path / "r", clip, dense=False))
        assert not has_color(view.left(0), id_color(3)).any()

    def test_depth_has_the_colours_of_its_scale_and_grey_where_unknown(self, root):
        view = ClipView(make_clip(), root)
        image, scale = view.depth(0), view.size[0] / WIDTH
        for depth_m, (u, v) in ((4.0, (57, 32)), (8.0, (80, 10))):
            expected = view.depth_scale.colors(np.array([depth_m]))[0]
            assert is_close(image[int((v + 0.5) * scale), int((u + 0.5) * scale)], expected, 0)
        red, _, blue = image[int(32.5 * scale), int(57.5 * scale)]
        assert red > blue  # near is red
        assert is_close(image[200, 2], (45, 45, 45), 0)

    def test_without_depth_points_have_the_colour_of_their_depth(self, tmp_path):
        view = ClipView(make_clip(), make_root(tmp_path / "r", make_clip(), dense=False))
        image = view.depth(0)[30:, : view.size[0]]
        for depth_m in (4.0, 5.0):
            assert has_color(image, view.depth_scale.colors(np.array([depth_m]))[0], 2).sum() > 100

    def test_colours_are_stable_and_differ(self):
        colors = [id_color(number) for number in range(1, 13)]
        assert colors == [id_color(number) for number in range(1, 13)]
        assert id_color(1) != id_color(2)
        gaps = [np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colors) for b in colors[:i]]
        assert min(gaps) > 20

    def test_video_grows_with_the_frames(self, root):
        view = ClipView(make_clip(), root)
        plot = view.plot_of(500, 500)
        first, last = (has_color(view.top_down(plot, frame), id_color(7)) for frame in (0, FRAMES - 1))
        end = plot.to_pixels(np.array([-0.5, 6.0])).astype(int)
        around = (slice(end[1] - 3, end[1] + 4), slice(end[0] - 3, end[0] + 4))
        assert last[around].mean() > 0.8
        assert first[around].sum() == 0


class TestDepthScale:
    def test_ends_come_from_percentiles_of_what_is_known(self):
        depths = np.r_[np.full(50, 2.0), np.full(50, 8.0), np.nan, np.inf, -3.0, 0.0]
        scale = DepthScale.of(depths)
        assert scale.near_m == pytest.approx(2, rel=0.03)
        assert scale.far_m == pytest.approx(8, rel=0.03)

    @pytest.mark.parametrize("depths", [np.zeros(0), np.full(9, np.nan), np.zeros(4)])
    def test_nothing_known(self, depths):
        assert DepthScale.of(depths) is None

    @pytest.mark.parametrize(("near", "far"), [(1, 1.1), (2, 9), (0.3, 80), (5, 7), (0.01, 0.02), (1, 3000)])
    def test_ticks_are_inside_and_several(self, near, far):
        ticks = DepthScale(near, far).ticks()
        assert len(ticks) >= 3
        assert all(near <= tick <= far for tick in ticks)
        assert ticks == sorted(ticks)

    def test_logarithmic(self):
        assert DepthScale(1, 16).place([0.5, 1, 4, 16, 99]) == pytest.approx([0, 0, 0.5, 1, 1])


class TestTopDown:
    def test_a_metre_is_the_same_number_of_pixels_both_ways(self):
        plot = TopDown(np.array([[0.0, 0.0], [2.0, 10.0]]), 560, 614)
        # 614 - 30 - 34 pixels for 10 m and 12 % margin
        assert plot.pixels_per_m == pytest.approx(550 / 11.2)
        origin, right, forward = plot.to_pixels(np.array([[0.0, 0], [1, 0], [0, 1]]))
        assert right - origin == pytest.approx([plot.pixels_per_m, 0])
        assert forward - origin == pytest.approx([0, -plot.pixels_per_m])

    def test_everything_is_inside(self):
        points = np.random.default_rng(0).normal(0, 30, (50, 2))
        plot = TopDown(points, 700, 500)
        x, y = plot.to_pixels(points).T
        area = plot.area
        assert (x >= area.x).all()
        assert (x <= area.x + area.width).all()
        assert (y >= area.y).all()
        assert (y <= area.y + area.height).all()

    def test_still_camera_is_not_blown_up(self):
        plot = TopDown(np.array([[0, 0], [1e-4, 0]]), 560, 560)
        assert plot.pixels_per_m == pytest.approx(496 / 1.12)

    def test_grid_lines_are_their_metres_apart(self):
        plot = TopDown(np.array([[0.0, 0.0], [9.0, 9.0]]), 640, 640)
        row = plot.grid()[plot.area.y + 3, plot.area.x + 2 : plot.area.x + plot.area.width - 2]
        dark = np.nonzero(row[:, 0] < 250)[0]
        starts = dark[np.r_[True, np.diff(dark) > 2]]
        step = nice_step(52 / plot.pixels_per_m)
        assert np.diff(starts) == pytest.approx(step * plot.pixels_per_m, abs=1.1)

    def test_track_has_a_start_ring_and_an_end_square(self, root):
        view = ClipView(make_clip(), root)
        plot = view.plot_of(600, 600)
        image = view.top_down(plot, FRAMES - 1)
        start, end = plot.to_pixels(np.array([[-0.5, 5.0], [-0.5, 6.0]])).round().astype(int)
        ring = [image[start[1], start[0] + 6], image[start[1], start[0] - 6]]
        assert all(is_close(pixel, id_color(7), 60) for pixel in ring)
        assert is_close(image[end[1], end[0]], id_color(7), 0)

    def test_camera_path_lies_on_the_x_axis(self, root):
        view = ClipView(make_clip(), root)
        plot = view.plot_of(600, 600)
        image = view.top_down(plot, FRAMES - 1)
        middle = plot.to_pixels(np.array([0.5, 0.0])).round().astype(int)
        assert is_close(image[middle[1], middle[0]], (40, 40, 40), 30)

    def test_field_of_view_follows_the_heading(self, root):
        turned = make_clip()
        turned.cam_to_world[:, :3, :3] = cv2.Rodrigues(np.array([0, np.pi / 2, 0]))[0]  # forward is +X
        view = ClipView(turned, root)
        view.plot_of(600, 600)
        center, left, right = view._field_of_view(0)
        assert (left + right) / 2 - center == pytest.approx([view._sight_m, 0], abs=1e-9)
        assert left[1] > right[1]  # the left hand of who looks along +X is +Z
        assert abs(left[1] - right[1]) / view._sight_m == pytest.approx(WIDTH / 80)

    def test_nothing_is_drawn_over_the_margins(self, root):
        far = [ObjectTrack(3, "box", "the red box", False, [square_points(0, 4) * 40] * FRAMES)]
        view = ClipView(make_clip(objects=far), root)
        plot = view.plot_of(500, 400)
        image, grid = view.top_down(plot, 2), plot.grid()
        area = plot.area
        for margin in (slice(0, area.y), slice(area.y + area.height, None)):
            assert np.array_equal(image[margin], grid[margin])

    @pytest.mark.parametrize(
        ("at_least", "step"), [(1, 1), (1.01, 2), (2.5, 5), (0.3, 0.5), (0.0007, 0.001), (60, 100)]
    )
    def test_nice_steps(self, at_least, step):
        assert nice_step(at_least) == step


class TestLabels:
    def test_alone_it_sits_centred_above(self):
        assert place_labels([(100, 80)], [(40, 10)], Box(0, 0, 200, 200)) == [Box(80, 63, 40, 10)]

    @pytest.mark.parametrize("seed", range(30))
    def test_never_overlap_and_never_leave_the_area(self, seed):
        rng = np.random.default_rng(seed)
        area = Box(*(int(n) for n in rng.integers(0, 50, 2)), *(int(n) for n in rng.integers(40, 400, 2)))
        count = int(rng.integers(1, 25))
        anchors = [tuple(anchor) for anchor in rng.normal(150, rng.choice([3, 100]), (count, 2))]
        sizes = [(int(w), int(h)) for w, h in zip(rng.integers(5, 150, count), rng.integers(8, 24, count), strict=True)]
        taken = [
            Box(int(x), int(y), int(w), int(h))
            for x, y, w, h in np.c_[rng.integers(-20, 300, (3, 2)), rng.integers(1, 60, (3, 2))]
        ]
        boxes = place_labels(anchors, sizes, area, taken)
        painted = np.zeros((600, 700), int)
        for box in taken:
            painted[max(0, box.y) : max(0, box.y + box.height), max(0, box.x) : max(0, box.x + box.width)] = 1
        for box, size in zip(boxes, sizes, strict=True):
            if box is None:
                continue
            assert (box.width, box.height) == size
            assert area.x <= box.x
            assert box.x + box.width <= area.x + area.width
            assert area.y <= box.y
            assert box.y + box.height <= area.y + area.height
            part = painted[box.y : box.y + box.height, box.x : box.x + box.width]
            assert not part.any()
            part[:] = 1

    def test_crowd_is_spread_out(self):
        boxes = place_labels([(100, 100)] * 12, [(80, 16)] * 12, Box(0, 0, 400, 400))
        assert None not in boxes
        assert len(set(boxes)) == 12

    def test_no_room(self):
        assert place_labels([(5, 5), (5, 5)], [(10, 10), (300, 10)], Box(0, 0, 12, 12)) == [Box(0, 0, 10, 10), None]

    def test_objects_with_the_longest_words_stay_in_the_picture(self, tmp_path):
        words = "the thing that " + "goes on " * 40
        clip = make_clip(objects=[replace(track, description=words) for track in make_clip().objects])
        view_clip("walk", make_root(tmp_path / "r", clip), tmp_path)


class TestWhatIsMissing:
    def test_video(self, tmp_path):
        view = ClipView(make_clip(), make_root(tmp_path / "r", make_clip(), video=False, dense=False))
        assert len(view.notes) == 1
        assert "videos/walk.mp4" in view.notes[0]
        assert has_color(view.left(0), id_color(3)).any()
        sheet = view.sheet()
        assert has_color(sheet[:60], (170, 20, 20), 40).sum() > 50  # the note
        assert has_color(sheet[:, -900:], id_color(7)).any()
        assert len(decode(view_clip("walk", tmp_path / "r", tmp_path).mp4)) == FRAMES

    def test_video_that_is_none(self, tmp_path):
        root = make_root(tmp_path / "r", make_clip())
        (root / "videos" / "walk.mp4").write_bytes(b"no video at all")
        assert view_clip("walk", root, tmp_path).notes

    def test_video_of_other_frames_or_size(self, root, tmp_path):
        longer = make_root(tmp_path / "r", make_clip())
        write_mp4(longer / "videos/walk.mp4", np.zeros((FRAMES + 2, HEIGHT, WIDTH, 3), np.uint8), 8)
        assert "8 frames, the clip 6" in ClipView(make_clip(), longer).notes[0]
        write_mp4(longer / "videos/walk.mp4", np.zeros((FRAMES, HEIGHT, WIDTH + 4, 3), np.uint8), 8)
        assert "100x64 pixels, the clip 96x64" in ClipView(make_clip(), longer).notes[0]

    def test_odd_clip_has_an_even_video(self, tmp_path):
        clip = make_clip(width=WIDTH + 1, height=HEIGHT + 1)
        view = ClipView(clip, make_root(tmp_path / "r", clip, dense=False))
        assert view.notes == []
        assert is_close(view.left(0)[-20, -20], (GREY,) * 3)

    def test_objects(self, tmp_path):
        clip = make_clip(objects=[])
        report = view_clip("walk", make_root(tmp_path / "r", clip, dense=False), tmp_path)
        assert len(decode(report.mp4)) == FRAMES

    def test_object_that_is_never_seen(self, tmp_path):
        nothing = [ObjectTrack(3, "box", "the red box", False, [np.zeros((0, 3), np.float32)] * FRAMES)]
        clip = make_clip(objects=nothing)
        view_clip("walk", make_root(tmp_path / "r", clip, dense=False), tmp_path)

    @pytest.mark.parametrize("content", ["rubbish", "shape"])
    def test_masks_that_do_not_fit(self, tmp_path, content):
        root = make_root(tmp_path / "r", make_clip())
        file = root / "masks" / "walk.npz"
        if content == "rubbish":
            file.write_bytes(b"PK rubbish")
        else:
            np.savez(file, masks=np.zeros((2, 4, 4), np.uint8))
        view = ClipView(make_clip(), root)
        assert len(view.notes) == 1
        assert "walk.npz" in view.notes[0]
        assert has_color(view.left(0), id_color(3)).any()

    def test_depth_without_masks(self, tmp_path):
        root = make_root(tmp_path / "r", make_clip())
        np.savez(root / "masks" / "walk.npz", depth=masks_and_depth()[1])
        view = ClipView(make_clip(), root)
        assert view.notes == []
        assert has_color(view.left(0), id_color(3)).any()

    def test_world_of_synth(self, tmp_path):
        masks, depth = masks_and_depth()
        write_clip(tmp_path / "truth", make_clip(video="walk/left.mp4"))
        (tmp_path / "walk").mkdir()
        write_mp4(tmp_path / "walk" / "left.mp4", np.full((FRAMES, HEIGHT, WIDTH, 3), GREY, np.uint8), 8)
        (tmp_path / "truth" / "dense").mkdir()
        np.savez(tmp_path / "truth" / "dense" / "walk.npz", mask=masks, depth=depth.astype(np.float32))
        file = find_clip("walk", tmp_path)
        view = ClipView(read_clip(file.path), file.root)
        assert view.notes == []
        tint = 0.5 * GREY + 0.5 * np.array(id_color(3))
        assert is_close(view.left(0)[view.size[1] // 2, int(57.5 * view.size[0] / WIDTH)], tint)


class TestStreams:
    def test_frames_are_those_of_the_array(self, tmp_path):
        masks, depth = masks_and_depth()
        np.savez_compressed(tmp_path / "a.npz", masks=masks, depth=depth, more=np.float64(3))
        assert stack_shapes(tmp_path / "a.npz") == {"masks": masks.shape, "depth": depth.shape, "more": ()}
        for name, array in (("masks", masks), ("depth", depth)):
            found = np.stack(list(stack_frames(tmp_path / "a.npz", name)))
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)

    def test_frames_in_any_order(self, root):
        view = ClipView(make_clip(), root)
        there = [view.left(frame) for frame in range(FRAMES)]
        for frame in (3, 1, 1, 5, 0):
            np.testing.assert_array_equal(view.left(frame), there[frame])

    def test_a_file_that_is_torn_further_on(self, tmp_path):
        """The zip's list of members stands at its end and is whole; the data are not."""
        root = make_root(tmp_path / "r", make_clip())
        file = root / "masks" / "walk.npz"
        noise = np.random.default_rng(0).integers(0, 9, (FRAMES, HEIGHT, WIDTH), np.uint8)
        np.savez_compressed(file, masks=noise)
        data = bytearray(file.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
        file.write_bytes(bytes(data))
        report = view_clip("walk", root, tmp_path)
        assert any("masks: frame" in note for note in report.notes)
        assert len(decode(report.mp4)) == FRAMES

    def test_memory_does_not_grow_with_the_frames(self, tmp_path):
        import tracemalloc

        def peak(num_frames):
            clip = make_clip()
            clip = replace(clip, num_frames=num_frames, cam_to_world=np.tile(np.eye(4), (num_frames, 1, 1)), objects=[])
            root = make_root(tmp_path / str(num_frames), clip, dense=False)
            (root / "masks").mkdir()
            masks = np.zeros((num_frames, HEIGHT, WIDTH), np.uint8)
            np.savez_compressed(root / "masks" / "walk.npz", masks=masks, depth=masks.astype(np.float16) + 2)
            view = ClipView(clip, root)
            tracemalloc.start()
            for _ in view.film()[0]:
                pass
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return found

        assert peak(12) < 1.2 * peak(3)


class TestFinding:
    def test_by_id_by_path_and_from_within(self, root, monkeypatch):
        npz = root / "clip4d" / "walk.npz"
        assert find_clip("walk", root).path == npz
        by_path = find_clip(str(npz))
        assert by_path.path == npz
        assert by_path.root.resolve() == root.resolve()
        assert find_clip("walk", root / "clip4d").root.resolve() == root.resolve()
        monkeypatch.chdir(root / "clip4d")
        assert find_clip("walk.npz").root.resolve() == root.resolve()
        monkeypatch.chdir(root)
        assert find_clip("walk").root.resolve() == root.resolve()

    def test_unknown_id_names_near_ones(self, root):
        with pytest.raises(InputError, match=r"'wakl'.*Near: walk") as caught:
            find_clip("wakl", root)
        assert caught.value.field == "CLIP"

    def test_clip_that_was_kept_out_is_told_why(self, root, tmp_path):
        status = {"clip_id": "dark", "reader": "pair", "path": "dark", "num_frames": 9, "failure": None}
        reason = {"name": "black", "text": "all frames are black", "value": 1.0, "limit": 0.0}
        status["outcomes"] = [{"clip_id": "dark", "frames": [0, 9, 1], "figures": {}, "reasons": [reason]}]
        broken = {**status, "clip_id": "torn", "outcomes": [], "failure": {"kind": "crash", "text": "signal 11"}}
        make_root(tmp_path / "r", make_clip(), video=False, dense=False)
        (tmp_path / "r" / "status").mkdir()
        for record in (status, broken):
            (tmp_path / "r" / "status" / f"{record['clip_id']}.json").write_text(json.dumps(record))
        with pytest.raises(InputError, match="'dark' was kept out: all frames are black"):
            find_clip("dark", tmp_path / "r")
        with pytest.raises(InputError, match="'torn' was kept out: crash: signal 11"):
            find_clip("torn", tmp_path / "r")

    def test_bad_input(self, root, tmp_path):
        with pytest.raises(InputError, match="no folder"):
            find_clip("walk", tmp_path / "nowhere")
        with pytest.raises(InputError, match="no clips in the folder"):
            find_clip("walk", tmp_path)
        with pytest.raises(InputError, match="does not exist"):
            find_clip(str(tmp_path / "walk.npz"))
        with pytest.raises(InputError, match="the field is missing"):
            view_clip(str(root / "masks" / "walk.npz"), None, tmp_path)
        (tmp_path / "file").write_text("")
        for out in (tmp_path / "file", tmp_path / "file" / "under"):
            with pytest.raises(InputError, match="a folder is needed"):
                view_clip("walk", root, out)


class TestCommand:
    def test_writes_and_reports(self, root, tmp_path, capsys):
        from mllm4d_verl.cli.data_view import view

        view("walk", data=root, out=tmp_path, json=True)
        record = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert record == {
            "clip_id": "walk",
            "png": str(tmp_path / "walk.png"),
            "mp4": str(tmp_path / "walk.mp4"),
            "notes": [],
        }
