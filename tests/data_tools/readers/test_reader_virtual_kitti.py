"""Virtual KITTI 2 written as the data set is, with a drive and two vehicles of known place."""

import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_scene import HEIGHT, WIDTH, drive, from_first, measured_disparity, plane_pair, write_rgb, write_text

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import project_points, world_to_camera_points
from mllm4d_verl.data_tools.readers.virtual_kitti import VirtualKittiReader

NUM_FRAMES = 4
FIRST = 3  # the data set's sequences need not start at 0
F, CX, CY, BASELINE = 80.0, 31.5, 23.5, 0.532725
DISPARITY = 6
CAR_HEIGHT = 1.5
#: Bottom centre of the parked car 0 and the moving car 2 in the world of the data set, at frame t.
CARS = {0: lambda t: np.array([9.0, 0.5, 14.0]), 2: lambda t: np.array([6.0 + t, 0.4, 12.0 + 2 * t])}
POSE_HEADER = (
    "frame cameraID trackID alpha width height length world_space_X world_space_Y world_space_Z rotation_world_space_y "
    "rotation_world_space_x rotation_world_space_z camera_space_X camera_space_Y camera_space_Z "
    "rotation_camera_space_y rotation_camera_space_x rotation_camera_space_z"
)
BOX_HEADER = "frame cameraID trackID left right top bottom number_pixels truncation_ratio occupancy_ratio isMoving"


def world_to_cam(camera: int) -> np.ndarray:
    """(T, 4, 4) of camera 0 or 1, which is BASELINE to the right."""
    poses = drive(NUM_FRAMES)
    shift = np.eye(4)
    shift[0, 3] = BASELINE * camera
    return np.linalg.inv(poses @ shift)


def in_camera(camera: int, t: int, point: np.ndarray) -> np.ndarray:
    return (world_to_cam(camera)[t] @ np.append(point, 1))[:3]


def mask_of(t: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:30, 10:20] = 0 + 1
    mask[22:32, 30 + t : 44 + t] = 2 + 1
    return mask


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("vkitti")
    folder = root / "Scene01" / "clone"
    depth = np.full((HEIGHT, WIDTH), round(100 * F * BASELINE / DISPARITY), np.uint16)
    depth[:5] = 65535
    palette = [value for index in range(256) for value in (index * 7 % 256, index * 13 % 256, 255 - index)]
    intrinsic, extrinsic = (
        ["frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]"],
        ["frame cameraID r1,1 r1,2 r1,3 t1 ..."],
    )
    pose, box = [POSE_HEADER], [BOX_HEADER]
    for t in range(NUM_FRAMES):
        number = FIRST + t
        for camera, image in enumerate(plane_pair(DISPARITY, seed=t)):
            write_rgb(folder / f"frames/rgb/Camera_{camera}/rgb_{number:05d}.jpg", image)
            intrinsic.append(f"{number} {camera} {F} {F} {CX} {CY}")
            numbers = " ".join(f"{value:.7g}" for value in world_to_cam(camera)[t].reshape(-1))
            extrinsic.append(f"{number} {camera} {numbers}")
            for track, place in CARS.items():
                if (track, t) == (2, 3):
                    continue  # out of sight
                world, near = place(t), in_camera(camera, t, place(t))
                columns = [number, camera, track, 0.1, 1.7, CAR_HEIGHT, 3.6, *world, 0.2, 0, 0, *near, 0.1, 0, 0]
                pose.append(" ".join(str(column) for column in columns))
                moving = track == 2 and t > 0
                box.append(f"{number} {camera} {track} 10 20 {20 + track} 30 100 0 1 {moving}")
        for kind, prefix in (("depth", "depth"), ("instanceSegmentation", "instancegt")):
            (folder / f"frames/{kind}/Camera_0").mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(depth if kind == "depth" else mask_of(t))
            if kind != "depth":
                image = image.convert("P")
                image.putpalette(palette)
            image.save(folder / f"frames/{kind}/Camera_0/{prefix}_{number:05d}.png")
    write_text(folder / "intrinsic.txt", "\n".join(intrinsic) + "\n")
    write_text(folder / "extrinsic.txt", "\n".join(extrinsic) + "\n")
    write_text(folder / "pose.txt", "\n".join(pose) + "\n")
    write_text(folder / "bbox.txt", "\n".join(box) + "\n")
    write_text(folder / "info.txt", "trackID label model color\n0 Car Golf Red\n2 Van Multivan White\n")
    return root


@pytest.fixture
def copy(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "copy")
    return tmp_path / "copy"


def open_clip(path, **options):
    reader = VirtualKittiReader()
    (ref,) = reader.find(path, **options)
    return reader.open(ref)


@pytest.fixture(scope="module")
def clip(dataset):
    return open_clip(dataset)


class TestGeometry:
    def test_one_metre_forward_in_the_files_is_one_metre_along_z(self, copy):
        path = copy / "Scene01/clone/extrinsic.txt"
        rows = ["header"]
        for t in range(NUM_FRAMES):
            for camera in (0, 1):  # world-to-camera: the world comes towards a camera that moves forward
                rows.append(f"{FIRST + t} {camera} 1 0 0 {-BASELINE * camera} 0 1 0 0 0 0 1 {-t} 0 0 0 1")
        path.write_text("\n".join(rows))
        assert np.allclose(open_clip(copy).cam_to_world[1, :3, 3], [0, 0, 1])

    def test_poses(self, clip):
        assert np.allclose(clip.cam_to_world, from_first(drive(NUM_FRAMES)), atol=1e-5)

    def test_camera(self, clip):
        assert clip.camera.intrinsics.tolist() == [[F, 0, CX], [0, F, CY], [0, 0, 1]]
        assert clip.camera.baseline == pytest.approx(BASELINE, abs=1e-5)
        assert (clip.fps, clip.num_frames, clip.clip_id) == (10, NUM_FRAMES, "Scene01_clone")

    def test_a_point_hits_the_pixel_of_the_data_sets_own_formula(self, clip):
        point = CARS[2](2)
        own = np.array([[F, 0, CX], [0, F, CY], [0, 0, 1]]) @ in_camera(0, 2, point)
        ours = np.linalg.inv(drive(NUM_FRAMES)[0]) @ np.append(point, 1)
        pixel = project_points(clip.camera.intrinsics, world_to_camera_points(clip.cam_to_world[2], ours[:3]))
        assert pixel == pytest.approx(own[:2] / own[2], abs=1e-3)

    def test_depth_agrees_with_the_images(self, clip):
        assert [measured_disparity(pair) for pair in clip.pairs()] == [DISPARITY] * NUM_FRAMES
        depth = clip.depth(1)
        assert np.isnan(depth[:5]).all()
        assert depth[5:] == pytest.approx(F * BASELINE / DISPARITY, abs=0.006)
        assert clip.disparity(1)[5:] == pytest.approx(DISPARITY, abs=0.01)


class TestObjects:
    def test_centers_are_half_a_height_above_the_bottom(self, clip):
        parked, moving = clip.objects
        to_clip = np.linalg.inv(drive(NUM_FRAMES)[0])
        for track, vehicle in ((0, parked), (2, moving)):
            for t in range(NUM_FRAMES - 1):
                center = CARS[track](t) - [0, CAR_HEIGHT / 2, 0]  # -Y is up
                assert vehicle.centers[t] == pytest.approx((to_clip @ np.append(center, 1))[:3], abs=1e-4)
        assert np.isnan(moving.centers[3]).all()

    def test_centers_as_they_stand(self, dataset):
        to_clip = np.linalg.inv(drive(NUM_FRAMES)[0])
        parked = open_clip(dataset, origin="center").objects[0]
        assert parked.centers[2] == pytest.approx((to_clip @ np.append(CARS[0](2), 1))[:3], abs=1e-4)

    def test_labels_motion_and_boxes(self, clip):
        parked, moving = clip.objects
        assert [(item.id, item.category, item.is_moving) for item in (parked, moving)] == [
            (1, "car", False),
            (3, "van", True),
        ]
        assert moving.boxes[0].tolist() == [10, 22, 20, 30]
        assert np.isnan(moving.boxes[3]).all()

    def test_masks_hold_the_ids(self, clip):
        mask = clip.instance_mask(2)
        assert mask.dtype == np.int32
        assert np.array_equal(mask, mask_of(2))
        assert set(np.unique(mask)) - {0} == {item.id for item in clip.objects}


class TestReader:
    @pytest.mark.parametrize("level", [".", "Scene01", "Scene01/clone"])
    def test_recognises_every_level(self, dataset, level):
        assert "extrinsic.txt" in VirtualKittiReader().recognises(dataset / level)
        assert open_clip(dataset / level).clip_id == "Scene01_clone"

    def test_other_folders_are_not_taken(self, tmp_path):
        (tmp_path / "image_0").mkdir()
        (tmp_path / "calib.txt").touch()
        assert VirtualKittiReader().recognises(tmp_path) is None
        with pytest.raises(InputError, match="no scene"):
            VirtualKittiReader().find(tmp_path)

    def test_images_alone(self, copy):
        folder = copy / "Scene01/clone"
        for name in ("pose.txt", "bbox.txt", "info.txt"):
            (folder / name).unlink()
        shutil.rmtree(folder / "frames/depth")
        shutil.rmtree(folder / "frames/instanceSegmentation")
        clip = open_clip(copy)
        assert (clip.objects, clip.depth(0), clip.disparity(0), clip.instance_mask(0)) == (None, None, None, None)


def edit(path, row, change):
    lines = path.read_text().splitlines()
    lines[row] = change(lines[row].split(" "))
    path.write_text("\n".join(lines) + "\n")


class TestFaults:
    @pytest.mark.parametrize(
        ("file", "row", "change", "words"),
        [
            ("extrinsic.txt", 3, lambda words: " ".join(words[:-1]), r"extrinsic\.txt, row 3: 17 numbers"),
            ("extrinsic.txt", 3, lambda words: " ".join([*words[:5], "nan", *words[6:]]), "row 4, field extrinsic"),
            ("extrinsic.txt", 3, lambda words: " ".join([*words[:2], "3", *words[3:]]), "not a rotation"),
            ("intrinsic.txt", 5, lambda words: " ".join([*words[:2], "90", *words[3:]]), "row 5, field K"),
            ("pose.txt", 2, lambda words: " ".join(words[:-2]), r"pose\.txt, row 2: 17 values"),
            ("pose.txt", 2, lambda words: " ".join([*words[:-4], "nan", *words[-3:]]), "row 2, field camera_space_Z"),
            ("bbox.txt", 0, lambda words: " ".join(words[:-1]), "field isMoving: the column is missing"),
            ("info.txt", 1, lambda words: words[0], r"info\.txt, row 1"),
        ],
    )
    def test_rows_are_named(self, copy, file, row, change, words):
        edit(copy / "Scene01/clone" / file, row, change)
        with pytest.raises(InputError, match=words):
            open_clip(copy)

    @pytest.mark.parametrize("camera", [0, 1])
    def test_a_missing_image(self, copy, camera):
        (copy / f"Scene01/clone/frames/rgb/Camera_{camera}/rgb_00004.jpg").unlink()
        with pytest.raises(InputError, match=r"frame 4 is missing|4 frames, the right one 3"):
            open_clip(copy)

    def test_missing_and_misshapen_depth(self, copy):
        folder = copy / "Scene01/clone/frames/depth/Camera_0"
        (folder / "depth_00004.png").unlink()
        Image.fromarray(np.zeros((4, 5), np.uint16)).save(folder / "depth_00005.png")
        clip = open_clip(copy)
        with pytest.raises(InputError, match="frame 4 is missing"):
            clip.depth(1)
        with pytest.raises(InputError, match="5x4 pixels, the images have 64x48"):
            clip.depth(2)

    def test_a_mask_of_colours(self, copy):
        path = copy / "Scene01/clone/frames/instanceSegmentation/Camera_0/instancegt_00003.png"
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path)
        with pytest.raises(InputError, match="expected one index per pixel"):
            open_clip(copy).instance_mask(0)
