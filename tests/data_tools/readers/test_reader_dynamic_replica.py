"""Dynamic Replica written as the data set is: gzipped annotations, PyTorch3D cameras, float16 depth in PNG files."""

import gzip
import json
import sys

import cv2
import numpy as np
import pytest
from tiny_scene import HEIGHT, WIDTH, drive, from_first, measured_disparity, plane_pair, write_rgb

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.geometry import project_points, world_to_camera_points
from mllm4d_verl.data_tools.readers.dynamic_replica import (
    DynamicReplicaReader,
    opencv_world_to_cam,
    pixel_intrinsics,
)

NUM_FRAMES = 3
FOCAL_NDC, CENTER_NDC = [2.5, 2.5], [0.1, -0.05]
F = 2.5 * HEIGHT / 2
BASELINE, DISPARITY = 0.1, 5
DEPTH = np.float16(F * BASELINE / DISPARITY)
SEQUENCE = "1a2b3c-3_obj"


def pytorch3d(pose: np.ndarray) -> tuple[list, list]:
    """R and T of an OpenCV camera-to-world pose: rows of R are world axes in a camera with +X left, +Y up."""
    rotation, center = pose[:3, :3], pose[:3, 3]
    axes = np.stack([-rotation[:, 0], -rotation[:, 1], rotation[:, 2]], axis=1)  # camera axes as columns
    return axes.tolist(), (-center @ axes).tolist()


def ndc_pixel(pose, point) -> np.ndarray:
    """Where PyTorch3D puts a world point, in pixels whose edges are integers: x to the left, y up, from the middle."""
    rotation, translation = (np.array(part) for part in pytorch3d(pose))
    x, y, z = point @ rotation + translation
    ndc = np.array(FOCAL_NDC) * [x / z, y / z] + CENTER_NDC
    return np.array([WIDTH / 2, HEIGHT / 2]) - ndc * HEIGHT / 2  # isotropic: the shorter side is [-1, 1]


def right_of(pose):
    shift = np.eye(4)
    shift[0, 3] = BASELINE
    return pose @ shift


def record(t: int, camera: str, pose) -> dict:
    rotation, translation = pytorch3d(pose)
    folder = f"{SEQUENCE}_source_{camera}"
    return {
        "sequence_name": SEQUENCE,
        "frame_number": t,
        "frame_timestamp": t / 30,
        "image": {"path": f"{folder}/images/{t:04d}.png", "size": [HEIGHT, WIDTH]},
        "depth": {"path": f"{folder}/depths/{t:04d}.geometric.png", "scale_adjustment": 1.0, "mask_path": None},
        "mask": {"path": f"{folder}/masks/{t:04d}.png", "mass": 1.0},
        "viewpoint": {
            "R": rotation,
            "T": translation,
            "focal_length": FOCAL_NDC,
            "principal_point": CENTER_NDC,
            "intrinsics_format": "ndc_isotropic",
        },
        "meta": None,
        "camera_name": camera,
        "instance_id_map_path": f"{folder}/instance_id_maps/{t:04d}.png" if camera == "left" else None,
        "trajectories": {"path": f"{folder}/trajectories/{t:06d}.pth"} if camera == "left" else None,
    }


def records() -> list[dict]:
    """Both cameras, latest first: the order is not relied on."""
    frames = [(t, pose) for t, pose in enumerate(drive(NUM_FRAMES))][::-1]
    return [record(t, "left", pose) for t, pose in frames] + [record(t, "right", right_of(pose)) for t, pose in frames]


def write_annotations(root, content) -> None:
    with gzip.open(root / "valid" / "frame_annotations_valid.jgz", "wt", encoding="utf8") as file:
        json.dump(content, file)


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "replica"
    depth = np.full((HEIGHT, WIDTH), DEPTH, np.float16)
    depth[:4] = 0
    depth[4:6] = np.inf
    for t in range(NUM_FRAMES):
        for camera, image in zip(("left", "right"), plane_pair(DISPARITY, seed=t), strict=True):
            folder = root / "valid" / f"{SEQUENCE}_source_{camera}"
            write_rgb(folder / "images" / f"{t:04d}.png", image)
            (folder / "depths").mkdir(exist_ok=True)
            cv2.imwrite(str(folder / "depths" / f"{t:04d}.geometric.png"), depth.view(np.uint16))
            (folder / "instance_id_maps").mkdir(exist_ok=True)
            mask = np.zeros((HEIGHT, WIDTH), np.uint16)
            mask[10:20, 10 + t : 20 + t] = 300
            cv2.imwrite(str(folder / "instance_id_maps" / f"{t:04d}.png"), mask)
    write_annotations(root, records())
    return root


def open_clip(path, **options):
    reader = DynamicReplicaReader()
    (ref,) = reader.find(path, **options)
    return reader.open(ref)


class TestGeometry:
    def test_axes_of_a_camera_at_rest(self):
        """PyTorch3D's own: with R = 1 and T = 0 a point at +X is on the left, one at +Y above, +Z ahead."""
        pose = opencv_world_to_cam(np.eye(3), np.zeros(3))
        assert (pose @ [1, 0, 0, 1]).tolist() == [-1, 0, 0, 1]
        assert (pose @ [0, 1, 0, 1]).tolist() == [0, -1, 0, 1]
        assert (pose @ [0, 0, 1, 1]).tolist() == [0, 0, 1, 1]

    def test_one_metre_forward_in_the_files_is_one_metre_along_z(self, dataset):
        content = records()
        for item in content:
            right = item["camera_name"] == "right"
            # X_camera = X_world + T: the world comes nearer, and lies further left of a camera on the right
            item["viewpoint"] |= {"R": np.eye(3).tolist(), "T": [BASELINE * right, 0, -item["frame_number"]]}
        write_annotations(dataset, content)
        clip = open_clip(dataset)
        assert clip.cam_to_world[1, :3, 3].tolist() == [0, 0, 1]
        assert clip.camera.baseline == pytest.approx(BASELINE)

    def test_a_camera_that_goes_left_in_the_files(self, dataset):
        content = records()
        for item in content:
            right = item["camera_name"] == "right"
            item["viewpoint"] |= {"R": np.eye(3).tolist(), "T": [BASELINE * right - item["frame_number"], 0, 0]}
        write_annotations(dataset, content)
        assert open_clip(dataset).cam_to_world[1, :3, 3].tolist() == [-1, 0, 0]

    def test_poses_and_camera(self, dataset):
        clip = open_clip(dataset)
        assert np.allclose(clip.cam_to_world, from_first(drive(NUM_FRAMES)))
        assert clip.camera.focal_px == F
        assert clip.camera.intrinsics[:2, 2] == pytest.approx([WIDTH / 2 - 2.4 - 0.5, HEIGHT / 2 + 1.2 - 0.5])
        assert (clip.camera.baseline, clip.camera.disparity_offset_px) == (pytest.approx(BASELINE), 0)
        assert (clip.clip_id, clip.fps, clip.num_frames) == (f"valid_{SEQUENCE}", 30, NUM_FRAMES)

    def test_a_point_hits_the_pixel_of_the_data_sets_own_formula(self, dataset):
        clip = open_clip(dataset)
        poses = drive(NUM_FRAMES)
        point = np.array([9.0, 0.0, 10.0])
        ours = np.linalg.inv(poses[0]) @ np.append(point, 1)
        pixel = project_points(clip.camera.intrinsics, world_to_camera_points(clip.cam_to_world[2], ours[:3]))
        assert pixel + 0.5 == pytest.approx(ndc_pixel(poses[2], point))

    def test_intrinsics_by_image_bounds(self):
        view = {"focal_length": [2, 3], "principal_point": [0, 0.5], "intrinsics_format": "ndc_norm_image_bounds"}
        assert pixel_intrinsics(view, 64, 48).tolist() == [64, 72, 31.5, 24 - 12 - 0.5]


class TestMaps:
    def test_depth_agrees_with_the_images(self, dataset):
        clip = open_clip(dataset)
        assert [measured_disparity(pair) for pair in clip.pairs()] == [DISPARITY] * NUM_FRAMES
        depth = clip.depth(1)
        assert np.isnan(depth[:6]).all()
        assert (depth[6:] == np.float32(DEPTH)).all()
        assert clip.disparity(1)[6:] == pytest.approx(DISPARITY, rel=1e-3)

    def test_masks(self, dataset):
        mask = open_clip(dataset).instance_mask(2)
        assert np.unique(mask).tolist() == [0, 300]
        assert mask[15, 21] == 300


class TestTrajectories:
    @pytest.fixture
    def with_trajectories(self, dataset):
        """A room, a thing at rest of 400 vertices, and one that moves; vertices of even number are seen."""
        torch = pytest.importorskip("torch", reason="trajectories are files of PyTorch")
        folder = dataset / "valid" / f"{SEQUENCE}_source_left" / "trajectories"
        folder.mkdir()
        instances = np.repeat([0, 5, 9], [10, 400, 6])
        rng = np.random.default_rng(0)
        vertices = rng.normal([8, 0, 10], 0.5, (416, 3)).astype(np.float32)
        for t in range(NUM_FRAMES):
            points = vertices + (instances == 9)[:, None] * np.array([0.2 * t, 0, 0], np.float32)
            seen = np.arange(416) % 2 == 0
            if t == 2:
                seen &= instances != 9
            content = {"traj_3d_world": points, "verts_inds_vis": seen, "instances": instances.astype(np.float32)}
            torch.save({name: torch.from_numpy(value) for name, value in content.items()}, folder / f"{t:06d}.pth")
        return dataset, vertices

    def test_objects(self, with_trajectories):
        dataset, vertices = with_trajectories
        still, moving = open_clip(dataset, trajectories="true").objects
        assert [(item.id, item.is_moving) for item in (still, moving)] == [(5, False), (9, True)]
        to_clip = np.linalg.inv(drive(NUM_FRAMES)[0])
        first, second = (
            (vertices[410:] + np.float32([0.2 * t, 0, 0])) @ to_clip[:3, :3].T + to_clip[:3, 3] for t in (0, 1)
        )
        assert np.allclose(moving.points[1], second[::2], atol=1e-5)
        assert np.allclose(moving.centers[:2], [first.mean(0), second.mean(0)], atol=1e-5)
        assert moving.points[2].shape == (0, 3)
        assert np.isnan(moving.centers[2]).all()
        assert len(still.points[0]) == 200

    def test_only_when_asked_for(self, with_trajectories):
        assert open_clip(with_trajectories[0]).objects is None

    def test_without_torch_the_message_says_what_to_install(self, dataset, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        assert open_clip(dataset).num_frames == NUM_FRAMES
        with pytest.raises(InputError, match="pip install torch"):
            open_clip(dataset, trajectories=True)

    def test_faults(self, with_trajectories):
        torch = pytest.importorskip("torch")
        dataset, _ = with_trajectories
        path = dataset / "valid" / f"{SEQUENCE}_source_left" / "trajectories" / "000001.pth"
        content = torch.load(path, weights_only=True)
        for changes, words in (
            ({"instances": content["instances"][:5]}, "other vertices than in the first frame"),
            ({"traj_3d_world": content["traj_3d_world"] * float("nan")}, "field traj_3d_world"),
        ):
            torch.save({**content, **changes}, path)
            with pytest.raises(InputError, match=words):
                open_clip(dataset, trajectories=True)
        torch.save({"img": content["instances"]}, path)
        with pytest.raises(InputError, match="field traj_3d_world: the tensor is missing"):
            open_clip(dataset, trajectories=True)
        path.write_bytes(b"cut")
        with pytest.raises(InputError, match="not a readable file of tensors"):
            open_clip(dataset, trajectories=True)
        path.unlink()
        with pytest.raises(InputError, match="does not exist"):
            open_clip(dataset, trajectories=True)


class TestReader:
    def test_recognises(self, dataset, tmp_path):
        reader = DynamicReplicaReader()
        for level in (".", "valid", "valid/frame_annotations_valid.jgz"):
            assert reader.recognises(dataset / level) == "frame_annotations_valid.jgz"
            assert next(open_clip(dataset / level).pairs()).left.shape == (HEIGHT, WIDTH, 3)
        assert reader.recognises(tmp_path) is None
        with pytest.raises(InputError, match="no frame_annotations"):
            reader.find(tmp_path)

    def test_annotations_beside_the_splits(self, dataset):
        (dataset / "valid" / "frame_annotations_valid.jgz").rename(dataset / "frame_annotations_valid.jgz")
        assert len(list(open_clip(dataset).pairs())) == NUM_FRAMES

    def test_split(self, dataset):
        assert DynamicReplicaReader().find(dataset, split="valid")
        with pytest.raises(InputError, match="no frame_annotations"):
            DynamicReplicaReader().find(dataset, split="train")


class TestFaults:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"focal_length": None}, "row 2, field viewpoint"),
            ({"focal_length": [float("nan")] * 2}, "row 2, field viewpoint: focal length"),
            ({"R": [[1, 0], [0, 1]]}, "row 2, field viewpoint: the record is malformed"),
            ({"T": [0, float("nan"), 0]}, "row 2, field viewpoint: R or T holds NaN"),
            ({"R": np.zeros((3, 3)).tolist()}, "row 2, field viewpoint: the 3x3 block"),
            ({"intrinsics_format": "pixels"}, "row 2, field viewpoint: .*'pixels'"),
            ({"focal_length": [2, 2]}, "size or intrinsics differ"),
            ({"T": [0, 0, 0]}, "not the left one moved along its rows"),
        ],
    )
    def test_records_are_named(self, dataset, change, words):
        content = records()
        content[2]["viewpoint"] |= change
        write_annotations(dataset, content)
        with pytest.raises(InputError, match=words) as caught:
            open_clip(dataset)
        assert caught.value.file.endswith("frame_annotations_valid.jgz")

    def test_missing_fields_and_frames(self, dataset):
        content = records()
        del content[4]["camera_name"]
        write_annotations(dataset, content)
        with pytest.raises(InputError, match="row 4, field camera_name: the field is missing"):
            open_clip(dataset)
        write_annotations(dataset, records()[:-1])
        with pytest.raises(InputError, match="3 left and 2 right frames"):
            open_clip(dataset)

    def test_not_gzip(self, dataset):
        path = dataset / "valid" / "frame_annotations_valid.jgz"
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(InputError, match="not gzipped JSON"):
            open_clip(dataset)

    def test_maps(self, dataset):
        folder = dataset / "valid" / f"{SEQUENCE}_source_left"
        (folder / "depths" / "0000.geometric.png").unlink()
        cv2.imwrite(str(folder / "depths" / "0001.geometric.png"), np.zeros((4, 5), np.uint16))
        write_rgb(folder / "instance_id_maps" / "0000.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        clip = open_clip(dataset)
        with pytest.raises(InputError, match="cannot be read"):
            clip.depth(0)
        with pytest.raises(InputError, match="5x4 pixels"):
            clip.depth(1)
        with pytest.raises(InputError, match="one id per pixel"):
            clip.instance_mask(0)
