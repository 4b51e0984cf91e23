"""Files that are whole or absent, whatever the path points to."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from mllm4d_verl.data_tools import atomic
from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.data_tools.errors import InputError


def write(path, text="new"):
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def test_a_block_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_path(path) as temporary:
        temporary.write_text("half \udc80", encoding="utf-8")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.json": "old"}


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_and_stays(tmp_path, there):
    target, link = tmp_path / "data" / "a.json", tmp_path / "link.json"
    target.parent.mkdir()
    if there:
        target.write_text("old")
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_gets_the_content_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe, "through")
    reader.join(timeout=20)
    assert read == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_a_device():
    before = os.stat(os.devnull)
    write(os.devnull)
    after = os.stat(os.devnull)
    assert stat.S_ISCHR(after.st_mode)
    assert (before.st_rdev, before.st_ino) == (after.st_rdev, after.st_ino)


def test_a_folder_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=f"file {tmp_path}: is a folder"):
        write(tmp_path)


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    dead, fresh = tmp_path / f".a[1].{child}.7.tmp.json", tmp_path / f".a[1].{child}1.7.tmp.json"
    running, other = tmp_path / f".a[1].{os.getppid()}.7.tmp.json", tmp_path / f".b.{child}.json"
    for file in (dead, fresh, running, other):
        file.write_text("half")
    hour_ago = dead.stat().st_mtime - atomic._ABANDONED_AFTER_S - 1
    for file in (dead, running, other):
        os.utime(file, (hour_ago, hour_ago))
    write(tmp_path / "a[1].json")
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"a[1].json", fresh.name, running.name, other.name}


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    path, faults = tmp_path / "a.txt", []

    def write_often(text):
        try:
            for _ in range(50):
                write(path, text * 1000)
        except OSError as error:
            faults.append(error)

    threads = [threading.Thread(target=write_often, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert path.read_text() in {letter * 1000 for letter in "abcd"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_names_as_long_as_they_may_be(tmp_path):
    for name in ("x" * 255, "ü" * 120 + ".json"):
        write(tmp_path / name)
        assert (tmp_path / name).read_text() == "new"


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path):
    path = tmp_path / "secret.json"
    path.write_text("old")
    path.chmod(0o600)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
