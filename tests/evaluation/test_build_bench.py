"""`mllm4d eval build-bench`: published shares, held-out clips only, the same bytes for the same seed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mllm4d_verl.cli.eval import app
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import (
    TASKS,
    Clip4D,
    ObjectTrack,
    QARow,
    read_qa,
    write_clip,
    write_clip_index,
    write_qa,
)
from mllm4d_verl.evaluation.benchmarks import load_benchmark
from mllm4d_verl.evaluation.benchmarks.build import build_bench


def rows(num_clips, split, prefix="c"):
    return [
        QARow(
            id=f"{prefix}{clip}-{task}",
            clip_id=f"{prefix}{clip}",
            video=f"videos/{prefix}{clip}.mp4",
            num_frames=8,
            task=task,
            start_frame=0,
            end_frame=7,
            question=f"What of {task}?",
            options=["left", "right", "up", "down"],
            answer="ABCD"[clip % 4],
            split=split,
            response="thoughts",
        )
        for clip in range(num_clips)
        for task in TASKS
    ]


@pytest.fixture
def folder(tmp_path):
    write_qa(tmp_path / "qa" / "test.parquet", rows(10, "test"))
    write_qa(tmp_path / "qa" / "train.parquet", rows(10, "train", "t"))
    return tmp_path / "qa"


def test_shares_are_the_published_ones_and_clips_are_spread(folder, tmp_path):
    built = build_bench(folder, tmp_path / "bench.parquet", items=30)
    assert built.tasks["camera_absolute_distance"] == 5
    assert sorted(count for task, count in built.tasks.items() if "relative_direction_l" in task) == [2, 3]
    chosen = read_qa(tmp_path / "bench.parquet")
    per_clip = {clip: sum(row.clip_id == clip for row in chosen) for clip in {row.clip_id for row in chosen}}
    assert set(per_clip.values()) == {3}
    assert all(row.split == "test" and row.response is None and row.meta["benchmark"] == "mllm4d" for row in chosen)
    card = json.loads((tmp_path / "bench.json").read_text())
    assert (card["items"], card["sha256"]) == (30, load_benchmark(tmp_path / "bench.parquet").sha256)
    assert load_benchmark("mllm4d", tmp_path / "bench.parquet").macro_groups


def test_same_seed_same_bytes(folder, tmp_path):
    digests = [
        build_bench(folder, tmp_path / f"{n}.parquet", items=12, seed=seed).sha256 for n, seed in enumerate((1, 1, 2))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_clips_and_videos_that_are_trained_on_are_left_out(folder, tmp_path):
    trained = [replace(row, split="train") for row in rows(2, "train")]
    renamed = [replace(row, clip_id="other", id=f"o{row.id}", video="videos/c5.mp4") for row in rows(1, "train")]
    (folder / "videos").mkdir()
    (folder / "videos" / "c5.mp4").touch()
    more = write_qa(folder / "more.parquet", trained + renamed)
    built = build_bench(folder, tmp_path / "bench.parquet", items=12, training=[more])
    assert built.left_out == 3
    assert not {"c0", "c1", "c5"} & {row.clip_id for row in read_qa(tmp_path / "bench.parquet")}


def test_a_clip_that_is_held_out_and_trained_on_is_an_error(tmp_path):
    mixed = write_qa(
        tmp_path / "qa.parquet", [*rows(3, "test"), *[replace(r, id=f"t{r.id}", split="train") for r in rows(1, "x")]]
    )
    with pytest.raises(InputError, match="1 clips are both held out and trained on, such as 'c0'"):
        build_bench(mixed, tmp_path / "bench.parquet", items=6)


def test_too_few_questions_say_how_many_keep_the_shares(folder, tmp_path):
    with pytest.raises(InputError, match=r"need 1000 of each task, and there are 10 of .*At most --items 60 keeps"):
        build_bench(folder, tmp_path / "bench.parquet")
    with pytest.raises(InputError, match="no row has the split test"):
        build_bench(folder / "train.parquet", tmp_path / "bench.parquet", items=6)
    assert not (tmp_path / "bench.parquet").exists()


def moving_clip(seed):
    """A camera that moves along one axis and turns, a ball that moves along another."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (16, 1, 1))
    poses[:, :3, 3] = np.linspace(0, 1, 16)[:, None] * rng.permutation([1.5, 0.1, 0.1]) * rng.choice([-1, 1])
    shape = rng.uniform(-0.2, 0.2, size=(20, 3))
    start, step = np.array([rng.uniform(-1, 1), 0, 5.0]), rng.normal(size=3) * [1.5, 0.1, 1.5]
    points = [(shape + start + step * frame / 15).astype(np.float32) for frame in range(16)]
    intrinsics = np.array([[86.4, 0, 48], [0, 86.4, 48], [0, 0, 1]])
    ball = ObjectTrack(1, "ball", "the red ball", True, points)
    name = f"clip{seed:02d}"
    return Clip4D(name, "test", "CC0-1.0", f"{name}.mp4", 8.0, 16, 96, 96, intrinsics, 0.12, poses, [ball], {})


def test_questions_are_made_from_clips_that_are_not_trained_on(tmp_path):
    for seed in range(24):
        clip = moving_clip(seed)
        write_clip(tmp_path / "world", clip)
        (tmp_path / "world" / clip.video).touch()
    write_clip_index(tmp_path / "world")
    with pytest.raises(InputError, match="clips do not say whether they are held out"):
        build_bench(tmp_path / "world", tmp_path / "bench.parquet", items=6)
    training = write_qa(tmp_path / "train.parquet", [replace(row, clip_id="clip03") for row in rows(1, "train")])
    arguments = [
        tmp_path / "world",
        tmp_path / "bench.parquet",
        "--items",
        12,
        "--training",
        training,
        "--num-frames",
        8,
    ]
    done = CliRunner().invoke(app, ["build-bench", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["items"] == 12
    chosen = read_qa(tmp_path / "bench.parquet")
    assert "clip03" not in {row.clip_id for row in chosen}
    assert all((tmp_path / row.video).is_file() and row.num_frames == 8 for row in chosen)
