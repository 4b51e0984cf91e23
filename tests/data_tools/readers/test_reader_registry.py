"""The list of readers, and how one is recognised."""

import pytest
from stereo_files import moving_frames, write_images, write_pair

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.readers import READERS, describe_readers, find_reader, open_clip, recognise
from mllm4d_verl.data_tools.stereo.clip import Reader


@pytest.mark.parametrize("name", READERS)
def test_every_reader_is_what_its_name_says(name):
    reader = find_reader(name)
    assert isinstance(reader, Reader)
    assert reader.name == name
    assert 20 < len(reader.summary) < 100
    assert all(line and not line.endswith(".") for line in reader.options.values())


@pytest.mark.parametrize("name", READERS)
def test_every_reader_shrugs_at_what_is_not_its_own(name, tmp_path):
    assert find_reader(name).recognises(tmp_path) is None
    (tmp_path / "notes.txt").write_text("nothing")
    assert find_reader(name).recognises(tmp_path) is None
    assert find_reader(name).recognises(tmp_path / "notes.txt") is None


@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_options_it_does_not_have(name, tmp_path):
    with pytest.raises(InputError, match="no option 'colour_of_the_sky'"):
        find_reader(name).find(tmp_path, colour_of_the_sky="blue")


def test_descriptions():
    rows = describe_readers()
    assert [row.name for row in rows] == list(READERS)
    described = {row.name: row for row in rows}
    assert described["pair"].tried_on
    assert "calibration" in described["pair"].options


def test_the_more_particular_layout_comes_first(tmp_path):
    """A KITTI sequence is also a folder with two eyes and a calibration."""
    for eye in ("image_0", "image_1"):
        write_images(tmp_path / eye, moving_frames(2))
    (tmp_path / "calib.txt").write_text("P0: 90 0 47 0 0 90 31 0 0 0 1 0\nP1: 90 0 47 -45 0 90 31 0 0 0 1 0\n")
    assert find_reader("pair").recognises(tmp_path)
    assert recognise(tmp_path).reader.name == "kitti_odometry"
    assert list(READERS)[-1] == "pair"


def test_refs_open_by_the_reader_that_found_them(tmp_path):
    write_pair(tmp_path / "a")
    found = recognise(tmp_path)
    (ref,) = found.reader.find(tmp_path)
    assert open_clip(ref).num_frames == 6


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"Did you mean 'kitti_odometry'\?"):
        find_reader("kitty_odometry")
    with pytest.raises(InputError, match="no reader recognises this folder"):
        recognise(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        recognise(tmp_path / "nowhere")
