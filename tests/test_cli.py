"""The command line as a user meets it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mllm4d_verl.cli.main import GROUPS
from mllm4d_verl.data_tools.errors import InputError

MLLM4D = str(Path(sys.executable).with_name("mllm4d"))


def _run(*arguments):
    return subprocess.run([MLLM4D, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_help(group):
    result = _run(group, "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


def test_top_level_help_imports_no_heavy_library():
    code = (
        "import sys\nsys.argv = ['mllm4d', '--help']\nfrom mllm4d_verl.cli.main import app\n"
        "app(standalone_mode=False)\nprint(sorted({'torch', 'verl', 'cv2', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("[]")


def test_unknown_group_is_a_usage_error():
    assert _run("trian").returncode == 2


def test_bad_input_exits_2_with_a_message_and_no_traceback(tmp_path):
    result = _run("data", "questions", str(tmp_path / "nowhere"), str(tmp_path / "out"))
    assert result.returncode == 2
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_input_error_names_file_row_field_and_remedy():
    error = InputError("answer is not among the options", file="qa.parquet", row=3, field="answer", remedy="Fix it.")
    assert str(error) == "file qa.parquet, row 3, field answer: answer is not among the options. Fix it."


def test_ctrl_c_says_how_to_go_on(tmp_path):
    # A shell's background jobs ignore SIGINT, and hand that down: the test must not depend on how it was started.
    restore = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{restore}\nfrom mllm4d_verl.cli.main import main\nmain()"
    command = ["data", "synth", str(tmp_path / "world"), "--clips", "100000", "--workers", "1", "--size", "32x32"]
    with subprocess.Popen([sys.executable, "-c", code, *command], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob("world/clip_00001")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to go on" in errors
