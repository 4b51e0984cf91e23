"""The examples of docs/questions.md, taken from the page and run."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from clip_samples import make_clip
from typer.testing import CliRunner

from mllm4d_verl.cli.main import app
from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.questions.tasks import task_of
from mllm4d_verl.data_tools.schema import (
    EXTRA_TASKS,
    TASKS,
    VIDEO_ABSENT,
    VIDEO_KEY,
    check_row,
    known_tasks,
    read_qa,
    write_clip,
    write_clip_index,
)

PAGE = Path(__file__).parents[3] / "docs" / "questions.md"


def _blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """The page's package, installed as pip would: its module, and its entry point in the metadata."""
    (code,), (toml,) = _blocks("python"), _blocks("toml")
    file = tmp_path / code.splitlines()[0].removeprefix("# ")
    file.parent.mkdir()
    (file.parent / "__init__.py").touch()
    file.write_text(code, encoding="utf-8")
    group = re.search(r'\[project\.entry-points\."(.+)"\]', toml)[1]
    name, value = re.search(r'^(\w+) = "(.+)"$', toml, re.MULTILINE).groups()
    metadata = tmp_path / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    known_tasks.cache_clear()
    yield name
    known_tasks.cache_clear()
    task_of.cache_clear()


def test_a_task_of_your_own(own_package):
    clips = {clip.clip_id: clip for clip in map(make_clip, range(15))}
    rows = build_questions(clips.values(), QuestionConfig(num_frames=8, tasks=(own_package,)))
    assert len(rows) > 5
    for row in rows:
        check_row(row)
        i, j = row.meta["clip_frames"]
        poses = clips[row.clip_id].cam_to_world
        height = (np.linalg.inv(poses[i]) @ poses[j])[1, 3]
        assert row.value == pytest.approx(abs(height), abs=1e-6)
        assert (row.task, row.unit) == (own_package, "meters")


def test_the_commands(tmp_path, monkeypatch):
    for seed in range(5):
        clip = make_clip(seed, num_frames=32)
        clip.quality[VIDEO_KEY] = VIDEO_ABSENT
        write_clip(tmp_path / "clips", clip)
    write_clip_index(tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    lines = [line.split("#")[0].strip() for line in _blocks("")[0].splitlines()]
    lines = [line for line in lines if line and "--ray" not in line]  # Ray is in tests/e2e
    tasks = []
    for number, line in enumerate(lines):
        program, *words = shlex.split(line)
        assert program == "mllm4d"
        words[words.index("qa")] = f"qa{number}"
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        tasks.append({row.task for row in read_qa(tmp_path / f"qa{number}" / "train.parquet")})
    assert tasks[0] == tasks[1] == {*TASKS}
    assert tasks[2] - {*TASKS}
    assert tasks[2] <= {*TASKS, *EXTRA_TASKS}
    (units,) = (line.split("#")[0] for line in _blocks("")[1].splitlines())
    result = CliRunner().invoke(app, shlex.split(units.replace("qa/", "qa0/"))[1:])
    assert result.exit_code == 0, result.output
    assert {row.unit for row in read_qa("qa0/train_units.parquet")} > {"meters"}


def test_the_table_names_every_task():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{task}`" in text for task in EXTRA_TASKS)
