"""`mllm4d data questions` on Ray with two workers, and killed in both passes, writes what an undisturbed run writes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mllm4d_verl.data_tools.schema import VIDEO_ABSENT, VIDEO_KEY, read_qa, write_clip, write_clip_index

sys.path.insert(0, str(Path(__file__).parents[1] / "data_tools"))

from clip_samples import make_clip

NAMES = ("train.parquet", "val.parquet", "test.parquet", "cold_start.parquet", "questions.json")
NUM_CLIPS, NUM_PIECES = 400, 4  # pieces of work in each pass, of 128 clips
TIME_LIMIT_S = 300  # of a command, on a busy machine


def _command(out, *options):
    return ["mllm4d", "data", "questions", "../clips", out, "--tasks", "all", "--num-frames", "8", *options]


def _bytes(folder):
    return {name: (folder / name).read_bytes() for name in NAMES}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with clips, in which commands run."""
    folder = tmp_path_factory.mktemp("questions")
    for seed in range(NUM_CLIPS):
        clip = make_clip(seed, num_frames=8)
        clip.quality[VIDEO_KEY] = VIDEO_ABSENT
        write_clip(folder / "clips", clip)
    write_clip_index(folder / "clips")
    return folder


@pytest.fixture(scope="module")
def undisturbed(world, run_command):
    """What a plain run of one process writes."""
    run_command(_command("qa", "--workers", "1"), world / "plain", time_limit_s=TIME_LIMIT_S).check()
    rows = read_qa(world / "plain" / "qa" / "train.parquet")
    assert len(rows) > 1000
    assert len({row.task for row in rows}) == 18
    return _bytes(world / "plain" / "qa")


@pytest.mark.e2e
def test_two_ray_workers_write_the_same_bytes(world, undisturbed, run_command):
    command = _command("qa", "--ray", "local", "--workers", "2")
    run_command(command, world / "ray", time_limit_s=TIME_LIMIT_S).check()
    assert _bytes(world / "ray" / "qa") == undisturbed


def _kill_when(found, command, folder):
    """SIGKILL to the command and its workers as soon as `found` says so."""
    program = str(Path(sys.executable).parent / command[0])
    process = subprocess.Popen([program, *command[1:]], cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while not found():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.e2e
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_run_goes_on_and_writes_the_same_bytes(world, undisturbed, run_command, workers):
    """SIGKILL in the first pass, in the second, then a run to the end."""
    folder = world / f"killed_{workers}"
    folder.mkdir()
    command = _command("qa", "--workers", workers)

    def pieces(kind):
        return len(list((folder / "qa").glob(f".questions-*/{kind}-*")))

    for kind in ("candidates", "rows"):
        _kill_when(lambda kind=kind: pieces(kind), command, folder)
        assert 1 <= pieces(kind) < NUM_PIECES
        assert not (folder / "qa" / "questions.json").exists()
    run_command(command, folder, time_limit_s=TIME_LIMIT_S).check()
    assert _bytes(folder / "qa") == undisturbed
    assert sorted(path.name for path in (folder / "qa").iterdir()) == sorted(NAMES)
