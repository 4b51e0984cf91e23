"""What the operating system refuses is one line with a remedy, in every command that writes or reads."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from mllm4d_verl.cli.main import system_message
from mllm4d_verl.data_tools.schema import QARow, write_qa


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    rows = [
        QARow(
            id=f"q{k}",
            clip_id=f"c{k}",
            video=f"c{k}.mp4",
            num_frames=4,
            task="camera_relative_direction",
            start_frame=0,
            end_frame=3,
            question=f"Where does the camera go from frame 0 to frame {k % 3 + 1}?",
            options=["left", "right"],
            answer="B",
        )
        for k in range(400)
    ]
    return write_qa(tmp_path_factory.mktemp("qa") / "train.parquet", rows)


@pytest.fixture(scope="module")
def responses(tmp_path_factory):
    file = tmp_path_factory.mktemp("responses") / "r.jsonl"
    lines = [f'{{"id": "q{k}", "response": "<answer>B</answer>", "truth": {{"answer": "B"}}}}' for k in range(2000)]
    file.write_text("\n".join(lines) + "\n")
    return file


def run(*words, shell_limit=""):
    command = " ".join([shell_limit, "exec", sys.executable, "-m", "mllm4d_verl.cli.main", *map(str, words)])
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)


def commands(questions, responses, out):
    return {
        "reward score": ("reward", "score", responses, "--out", out / "scores.jsonl"),
        "data validate": ("data", "validate", questions, "--no-media", "--out", out / "good.parquet"),
    }


COMMANDS = ("reward score", "data validate")


def assert_one_line(finished, *parts):
    assert finished.returncode == 2, (finished.stdout, finished.stderr)
    assert "Traceback" not in finished.stderr + finished.stdout
    last = finished.stderr.strip().splitlines()[-1]
    assert all(part in finished.stderr for part in parts), finished.stderr
    assert last.startswith("mllm4d: "), finished.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_parent_of_the_output_is_a_file(name, questions, responses, tmp_path):
    (tmp_path / "file").write_text("")
    finished = run(*commands(questions, responses, tmp_path / "file")[name])
    assert_one_line(finished, "A part of the path is a file")


@pytest.mark.parametrize("name", COMMANDS)
def test_files_may_not_grow(name, questions, responses, tmp_path):
    # One block of 1024 bytes. Python ignores SIGXFSZ, so that the write fails with EFBIG.
    finished = run(*commands(questions, responses, tmp_path)[name], shell_limit="ulimit -f 1;")
    assert_one_line(finished, "ulimit -f")
    assert not [file for file in tmp_path.rglob("*") if ".tmp" in file.name]


def test_the_disk_is_full(responses, tmp_path):
    (tmp_path / "scores.jsonl").symlink_to("/dev/full")
    finished = run("reward", "score", responses, "--out", tmp_path / "scores.jsonl")
    assert_one_line(finished, "No space left on device", "Free some room")


class TestMessage:
    @pytest.mark.parametrize(
        ("number", "remedy"),
        [
            (errno.EACCES, "permissions"),
            (errno.EMFILE, "ulimit -n"),
            (errno.EROFS, "read-only"),
            (errno.ENOMEM, "fewer workers"),
        ],
    )
    def test_names_file_and_remedy(self, number, remedy):
        message = system_message(OSError(number, os.strerror(number), "a/b.parquet"))
        assert message.startswith(f"file a/b.parquet: {os.strerror(number)}. ")
        assert remedy in message

    def test_reads_the_number_out_of_arrows_message(self):
        error = OSError("Error writing bytes to file. Detail: [Errno 28] No space left on device")
        assert "Free some room" in system_message(error)

    def test_other_errors_are_faults_and_keep_their_traceback(self):
        assert system_message(OSError("something else")) is None

    def test_memory(self):
        assert system_message(MemoryError()) == ("memory ran out. Use fewer workers, or a machine with more memory")
