"""Each data set's folder, by its names alone, goes to its own reader and to no other of them."""

import gzip
import pickle
import zipfile

import numpy as np
import pytest

from mllm4d_verl.data_tools.readers import READERS, find_reader, recognise

FOLDERS = {
    "virtual_kitti": [
        "Scene01/clone/extrinsic.txt",
        *(f"Scene01/clone/frames/rgb/Camera_{c}/rgb_00000.jpg" for c in (0, 1)),
    ],
    "tartanair": [
        "carwelding/Easy/P001/pose_left.txt",
        *(f"carwelding/Easy/P001/image_{e}/000000_{e}.png" for e in ("left", "right")),
    ],
    "spring": ["0001/cam_data/intrinsics.txt", *(f"0001/frame_{e}/frame_{e}_0001.png" for e in ("left", "right"))],
    "sintel": [f"training/clean_{e}/alley_1/frame_0001.png" for e in ("left", "right")],
    "dynamic_replica": ["valid/frame_annotations_valid.jgz", "valid/a-3_obj_source_left/images/a.png"],
    "vr180": ["beach_180_LR.mp4"],
    "kitti_odometry": [
        "sequences/00/calib.txt",
        *(f"sequences/00/image_{c}/000000.png" for c in (0, 1)),
        "poses/00.txt",
    ],
    "stereo4d": [],
    "foundation_stereo": [],
}
MINE = ("vr180", "stereo4d", "foundation_stereo", "virtual_kitti", "dynamic_replica", "tartanair", "spring", "sintel")


@pytest.fixture(params=FOLDERS)
def layout(request, tmp_path):
    for name in FOLDERS[request.param]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"[]") if name.endswith(".jgz") else b"P0: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    if request.param == "stereo4d":
        fields = ("timestamps", "camera2world", "rectified2rig", "fov_bounds")
        np.savez(tmp_path / "aBcDeFgHiJk_1000.npz", **{name: np.zeros(1) for name in fields})
    if request.param == "foundation_stereo":
        (tmp_path / "metadata.csv").write_text("file_name,zip_file,vid_id,frame_idx,youtube_video_id,timestamp_us\n")
        zipfile.ZipFile(tmp_path / "0000000.zip", "w").close()
    return request.param, tmp_path


def test_all_are_registered():
    assert set(MINE) <= set(READERS)
    for name in MINE:
        reader = find_reader(name)
        assert reader.name == name
        assert reader.summary
        assert all(reader.options.values())


def test_only_its_own_reader_knows_a_folder(layout):
    name, folder = layout
    assert {mine for mine in MINE if find_reader(mine).recognises(folder)} == {name} & set(MINE)
    assert recognise(folder).reader.name == name


@pytest.mark.parametrize("name", MINE)
def test_a_reader_knows_nothing_of_other_paths(tmp_path, name):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "images").mkdir()
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "absent"):
        assert find_reader(name).recognises(path) is None


@pytest.mark.parametrize("name", MINE)
def test_readers_travel_to_other_processes(name):
    assert pickle.loads(pickle.dumps(find_reader(name))).name == name


def test_telling_is_cheap_in_a_large_tree(tmp_path, monkeypatch):
    """No more than some hundreds of folders are looked at, however many there are."""
    import os

    for first in range(30):
        for second in range(30):
            (tmp_path / f"{first}" / f"{second}" / "x").mkdir(parents=True)
    seen = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(path) or scandir(path))
    for name in MINE:
        assert find_reader(name).recognises(tmp_path) is None
    assert len(seen) < 5 * 210
