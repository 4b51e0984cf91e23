"""The store of decoded frames: what is put comes back, whoever writes, whoever is killed, whatever the disk does."""

import os
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from video_files import moving_frames, write_h264

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.video import FrameCache, load_video
from mllm4d_verl.video.frames import process_cache
from mllm4d_verl.video.store import PLACE, FrameStore, key_of, open_store

METADATA = {"fps": 10.0, "frames_indices": [0, 3], "total_num_frames": 4, "video_backend": "pyav"}


def frames_of(number, side=16):
    """Frames that tell their number in every byte, so that a mixture would show."""
    return np.full((2, 3, side, side), number % 251, np.uint8)


def fill(store, numbers, side=16):
    for number in numbers:
        store.put(key_of(number), frames_of(number, side), {**METADATA, "number": number})


class TestEntries:
    def test_comes_back_in_another_process_object(self, tmp_path):
        fill(FrameStore(tmp_path / "s", 2**30), [7])
        store = FrameStore(tmp_path / "s", 2**30)
        entry = store.get(key_of(7))
        np.testing.assert_array_equal(entry.frames, frames_of(7))
        assert entry.metadata == {**METADATA, "number": 7}
        assert store.get(key_of(8)) is None

    def test_keys_tell_all_parts_apart(self):
        all_parts = ([1, 2], [12], ["1", 2], [[1], 2], [{"a": 1}], [{"a": 2}], [{"a": 1, "b": 2}])
        assert len({key_of(*parts) for parts in all_parts}) == 7
        assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})

    @pytest.mark.parametrize("damage", ["empty", "short", "cut", "other"])
    def test_a_broken_file_is_no_entry_and_goes(self, tmp_path, damage):
        store = FrameStore(tmp_path, 2**30)
        fill(store, [1])
        (path,) = tmp_path.glob("??/*.frames")
        data = path.read_bytes()
        path.write_bytes({"empty": b"", "short": b"abc", "cut": data[:-3], "other": bytes(200)}[damage])
        assert store.get(key_of(1)) is None
        assert not path.exists()
        fill(store, [1])
        assert store.get(key_of(1)) is not None

    def test_an_entry_in_use_outlives_its_file(self, tmp_path):
        store = FrameStore(tmp_path, 2**30)
        fill(store, [1])
        entry = store.get(key_of(1))
        store.clear()
        assert store.size() == (0, 0)
        np.testing.assert_array_equal(entry.frames, frames_of(1))


class TestBound:
    def test_the_longest_unused_leave(self, tmp_path):
        size = frames_of(0, 64).nbytes
        store = FrameStore(tmp_path, 20 * size)
        fill(store, range(10), 64)
        for path in tmp_path.glob("??/*.frames"):
            os.utime(path, (0, 0))  # used long ago
        assert store.get(key_of(3)) is not None  # used now
        fill(store, range(100, 118), 64)
        assert store.size()[1] <= 21 * size
        assert store.get(key_of(3)) is not None
        assert [number for number in range(10) if number != 3 and store.get(key_of(number))] != list(range(10))
        assert all(store.get(key_of(number)) for number in range(110, 118))

    def test_what_is_larger_than_the_store_is_not_kept(self, tmp_path):
        store = FrameStore(tmp_path, 100)
        fill(store, [1])
        assert store.size() == (0, 0)

    def test_a_full_disk_is_said_once_and_costs_nothing_else(self, tmp_path, monkeypatch):
        store = FrameStore(tmp_path, 2**30)
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0})())
        with pytest.warns(UserWarning, match=r"no longer stored in .* \(the disk is full\)"):
            fill(store, [1])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fill(store, [2])
        assert store.size() == (0, 0)

    def test_half_of_the_disk_stays_free(self, tmp_path, monkeypatch):
        """However often the store looks: its own bytes count as the disk's, not as free once more."""
        size, store = frames_of(0, 64).nbytes, FrameStore(tmp_path, 2**40)
        disk = 40 * size

        def usage(_):
            return type("Usage", (), {"free": disk - store.size()[1]})()

        monkeypatch.setattr("shutil.disk_usage", usage)
        monkeypatch.setattr("mllm4d_verl.video.store._CHECKED_EVERY", 0)
        fill(store, range(60), 64)
        assert 10 * size < store.size()[1] <= disk / 2

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        store = FrameStore(tmp_path / "s", 2**30)
        (tmp_path / "s" / key_of(1)[:2]).write_text("a file where the folder should be")
        with pytest.warns(UserWarning, match="no longer stored"):
            fill(store, [1])


class TestSettings:
    @pytest.fixture(autouse=True)
    def place(self, monkeypatch, tmp_path):
        monkeypatch.setenv(PLACE, str(tmp_path / "store"))

    def test_folder_and_size(self, tmp_path):
        store = open_store(2)
        assert (store.root, store.max_bytes) == (tmp_path / "store", 2**31)
        assert open_store().max_bytes == 16 * 2**30
        assert store.root.stat().st_mode & 0o777 == 0o700

    def test_off(self, monkeypatch):
        assert open_store(0) is None
        monkeypatch.setenv(PLACE, "off")
        assert open_store() is None

    @pytest.mark.parametrize("size", [-1, "4", True, float("nan"), float("inf")])
    def test_no_size(self, size):
        with pytest.raises(InputError, match=r"field data\.frame_store_gb: not a size"):
            open_store(size)

    def test_a_relative_folder(self, monkeypatch):
        monkeypatch.setenv(PLACE, "store")
        with pytest.raises(InputError, match="'store' is no absolute path"):
            open_store()

    def test_the_users_folder_for_temporary_files(self, monkeypatch, tmp_path):
        monkeypatch.delenv(PLACE)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        assert open_store().root == tmp_path / f"mllm4d_frames_{os.getuid()}"

    def test_a_place_that_is_a_file(self, tmp_path):
        (tmp_path / "store").write_text("")
        with pytest.warns(UserWarning, match="no frames are stored"):
            assert open_store() is None


class TestVideos:
    def element(self, path):
        return {"type": "video", "video": str(path), "nframes": 8, "min_pixels": 784, "max_pixels": 50176}

    def test_a_second_process_does_not_decode(self, tmp_path):
        element = self.element(write_h264(tmp_path / "a.mp4", moving_frames(30)))
        first, second = (FrameCache(store=FrameStore(tmp_path / "store", 2**30)) for _ in range(2))
        frames, metadata = load_video(element, 16, first)
        again, same = load_video(element, 16, second)
        assert torch.equal(frames, again)
        assert metadata == same
        assert (first.decoded, second.decoded) == (1, 0)

    def test_a_rewritten_file_and_other_sizes_are_decoded(self, tmp_path):
        path, store = tmp_path / "a.mp4", FrameStore(tmp_path / "store", 2**30)
        cache = FrameCache(store=store)
        load_video(self.element(write_h264(path, moving_frames(30))), 16, cache)
        load_video(self.element(path), 14, cache)
        load_video({**self.element(path), "nframes": 4}, 16, cache)
        load_video(self.element(write_h264(path, moving_frames(30, seed=1))), 16, cache)
        assert cache.decoded == store.size()[0] == 4

    def test_the_cache_of_the_process_opens_it_by_the_settings(self, tmp_path, monkeypatch):
        monkeypatch.setenv(PLACE, str(tmp_path / "store"))
        assert process_cache(store_gb=1).store.max_bytes == 2**30
        assert process_cache(store_gb=1).store is process_cache(store_gb=1).store
        assert process_cache(store_gb=0).store is None
        assert process_cache().store is None, "an evaluation in a run without a store opens none"
        monkeypatch.setenv(PLACE, "off")
        assert process_cache().store is None


#: Writes and reads entries until killed, and leaves a file "wrong" where one does not say its own number in every byte.
WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from mllm4d_verl.video.store import FrameStore, key_of
root, seed, most = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store, rng, end = FrameStore(root, most), np.random.default_rng(seed), time.monotonic() + 120
(root / f"up_{seed}").touch()
while time.monotonic() < end:
    number = int(rng.integers(0, 200))
    entry = store.get(key_of(number))
    if entry is None:
        store.put(key_of(number), np.full((2, 3, 64, 64), number % 251, np.uint8), {"number": number})
    elif entry.metadata["number"] != number or not (entry.frames == number % 251).all():
        (root / "wrong").touch()
    time.sleep(0.001)
"""


def test_eight_writers_and_ten_kills(tmp_path):
    """The writers are programs of their own: a copy of a process with threads may inherit a lock that nobody holds."""
    rng, most = np.random.default_rng(0), 60 * frames_of(0, 64).nbytes

    def start(seed):
        return subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(seed), str(most)])

    def wait_for(seeds):
        end = time.monotonic() + 100
        while not all((tmp_path / f"up_{seed}").exists() for seed in seeds):
            assert time.monotonic() < end, "the writers do not start"
            time.sleep(0.02)

    writers = {seed: start(seed) for seed in range(8)}
    try:
        for kill in range(10):
            wait_for(writers)
            time.sleep(float(rng.uniform(0.0, 0.2)))
            victim = writers.pop(int(rng.choice(list(writers))))
            victim.kill()
            victim.wait()
            writers[100 + kill] = start(100 + kill)
    finally:
        for writer in writers.values():
            writer.kill()
            writer.wait()
    assert not (tmp_path / "wrong").exists()
    store = FrameStore(tmp_path, most)
    entries = {number: store.get(key_of(number)) for number in range(200)}
    found = [number for number, entry in entries.items() if entry and (entry.frames == number % 251).all()]
    assert len(found) == store.size()[0] > 10
    # Eight writers on two cores: some write while another clears.
    assert store.size()[1] <= 2 * most
    # What the killed have left is a file each at most, and goes with the first write after an hour.
    left = list(tmp_path.rglob(".*.tmp*"))
    assert len(left) <= 18
    for path in left:
        os.utime(path, (0, 0))
    subprocess.run([sys.executable, "-c", REWRITE, str(tmp_path)], check=True)
    assert not list(tmp_path.rglob(".*.tmp*"))


#: A new process writes into every folder of the store.
REWRITE = """
import sys
import numpy as np
from mllm4d_verl.video.store import FrameStore, key_of
store = FrameStore(sys.argv[1], 2**30)
for number in range(200, 2000):
    store.put(key_of(number), np.zeros((1, 3, 2, 2), np.uint8), {})
"""
