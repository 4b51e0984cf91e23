"""The quick reader of archives gives what numpy gives, and refuses what is damaged."""

import zipfile

import numpy as np
import pytest

from mllm4d_verl.data_tools.npz import read_npz

ARRAYS = {
    "text": np.array("häuser"),
    "number": np.array(3, np.int64),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 3), np.float32),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_gives_what_numpy_gives(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


def test_damage_and_objects_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", noise=np.random.default_rng(0).random(500))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "b.npz").write_bytes(data)
    with pytest.raises((zipfile.BadZipFile, ValueError)):
        read_npz(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", thing=np.array([{}], object))
    with pytest.raises(ValueError, match="Python objects"):
        read_npz(tmp_path / "c.npz")


def test_no_cut_and_no_flipped_byte_gives_wrong_numbers(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **ARRAYS)
    data, sound = (tmp_path / "a.npz").read_bytes(), read_npz(tmp_path / "a.npz")
    for place in range(0, len(data), 13):
        flipped = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
        for broken in (data[:place], flipped):
            (tmp_path / "b.npz").write_bytes(broken)
            try:
                found = read_npz(tmp_path / "b.npz")
            except (zipfile.BadZipFile, ValueError):
                continue
            assert len(broken) == len(data)
            for name in found.keys() & sound.keys():  # names have no checksum
                np.testing.assert_array_equal(found[name], sound[name])
