"""Near-duplicate clips stay in one split; videos that training shares with a benchmark are found."""

import itertools
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_mix_shares import DISTANCE, row

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.mixes import (
    VideoUse,
    find_leaks,
    group_videos,
    hash_videos,
    place_videos,
    similar_pairs,
    split_rows,
)
from mllm4d_verl.data_tools.mixes.leaks import video_name
from mllm4d_verl.data_tools.mixes.near_duplicates import MAX_BITS, MIN_FRAMES
from mllm4d_verl.data_tools.schema import SPLITS, read_qa, write_qa

VLM4D = Path(__file__).parents[4] / "shared" / "data" / "vlm4d_official"


def frames_of(seed, count=10, size=128):
    """A textured scene that shifts by a few pixels."""
    rng = np.random.default_rng(seed)
    scene = cv2.resize(
        rng.integers(0, 255, (12, 12, 3), dtype=np.uint8), (size * 2, size), interpolation=cv2.INTER_CUBIC
    )
    return [scene[:, 4 * t : 4 * t + size] for t in range(count)]


def write_video(path, frames, fps=8.0, codec="mp4v"):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six scenes; and copies of the first: smaller, brighter, cropped by 3%, of another codec."""
    folder = tmp_path_factory.mktemp("videos")
    scenes = {f"scene{seed}": frames_of(seed) for seed in range(6)}
    first = scenes["scene0"]
    scenes["small"] = [cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in first]
    scenes["bright"] = [np.clip(frame * 1.15 + 8, 0, 255).astype(np.uint8) for frame in first]
    scenes["cropped"] = [cv2.resize(frame[2:-2, 2:-2], (128, 128)) for frame in first]
    for name, frames in scenes.items():
        write_video(folder / f"{name}.mp4", frames)
    write_video(folder / "encoded.avi", first, codec="MJPG")
    return folder


def test_copies_are_grouped_and_others_are_not(videos):
    paths = sorted(videos.glob("*.*"))
    groups = group_videos([path.stem for path in paths], hash_videos(paths, workers=2))
    assert set(groups) == {"scene0", "small", "bright", "cropped", "encoded"}
    assert len(set(groups.values())) == 1


def test_a_still_view_within_a_longer_video_is_found_from_both_sides():
    rng = np.random.default_rng(0)
    moving = rng.integers(1, 2**63, (1, 5), dtype=np.uint64)
    still = np.repeat(moving[:, 2:3], 5, axis=1)
    assert similar_pairs(still, moving) == [(0, 0, 0)] == similar_pairs(moving, still)


def _similar_pairs_of_every_two(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int, int]]:
    """Every video against every other, frame by frame."""
    pairs = []
    for m, n in itertools.product(range(len(first)), range(len(second))):
        bits = [[bin(int(a) ^ int(b)).count("1") if a and b else 64 for b in second[n]] for a in first[m]]
        sides = [[min(row) for row in bits], [min(column) for column in zip(*bits, strict=True)]]
        alike = max(([b for b in side if b <= MAX_BITS] for side in sides), key=len)
        if len(alike) >= MIN_FRAMES:
            pairs.append((m, n, round(sum(alike) / len(alike))))
    return pairs


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_are_those_of_comparing_every_two(seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(1, 2**64, (60, 5), dtype=np.uint64)
    second = first[rng.permutation(60)][:40, rng.permutation(5)]
    for m, n in np.ndindex(second.shape):  # copies whose frames differ in few bits, in just too many, in none
        for bit in rng.choice(64, rng.integers(0, 12), replace=False):
            second[m, n] ^= np.uint64(1) << np.uint64(bit)
    for hashes in (first, second):
        hashes[rng.random(hashes.shape) < 0.05] = 0
    expected = _similar_pairs_of_every_two(first, second)
    assert 10 < len(expected) < 40
    assert similar_pairs(first, second) == expected
    assert similar_pairs(first[:0], second) == similar_pairs(first, second[:0]) == []


def test_black_videos_are_no_copies_of_each_other(tmp_path):
    paths = [write_video(tmp_path / f"{n}.mp4", [np.zeros((64, 64, 3), np.uint8)] * 6) for n in range(2)]
    assert group_videos(["a", "b"], hash_videos(paths)) == {}


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"bad\.mp4.*cannot be read"):
        hash_videos([tmp_path / "bad.mp4"])


@pytest.fixture
def qa(tmp_path):
    """Three questions about each of 40 clips of four sources."""
    rows = [row(n, DISTANCE, n % 40, meta={"source": f"source{n % 40 // 10}"}) for n in range(120)]
    write_qa(tmp_path / "qa" / "train.parquet", rows)
    (tmp_path / "qa" / "videos").mkdir()
    for number in range(40):
        (tmp_path / "qa" / "videos" / f"clip{number}.mp4").touch()
    return tmp_path / "qa"


def splits_of(folder):
    return {r.clip_id: split for split in SPLITS for r in read_qa(folder / f"{split}.parquet")}


def test_groups_are_not_parted(qa, tmp_path):
    groups = {f"clip{n}": f"g{n % 5}" for n in range(20)}
    done = split_rows([qa], tmp_path / "out", groups=groups, val_fraction=0.2, test_fraction=0.2, seed=3)
    splits = splits_of(tmp_path / "out")
    assert len(splits) == 40
    assert set(splits.values()) == set(SPLITS)
    for group in set(groups.values()):
        assert len({splits[clip] for clip, own in groups.items() if own == group}) == 1
    assert done.groups == {"train": 15, "val": 5, "test": 5}
    assert sum(done.rows.values()) == 120
    moved = read_qa(tmp_path / "out" / "test.parquet")[0]
    assert (moved.split, moved.video) == ("test", f"../qa/videos/{moved.clip_id}.mp4")


def test_sources_are_held_out_whole(qa, tmp_path):
    split_rows([qa], tmp_path / "out", by="source", val_fraction=0.0, test_fraction=0.25)
    held = {r.meta["source"] for r in read_qa(tmp_path / "out" / "test.parquet")}
    assert len(held) == 1
    assert not held & {r.meta["source"] for r in read_qa(tmp_path / "out" / "train.parquet")}


def test_rows_without_a_source_are_named(tmp_path):
    write_qa(tmp_path / "in" / "rows.parquet", [row(0, DISTANCE, 0)])
    with pytest.raises(InputError, match=r"rows\.parquet.*row 0.*meta.*does not say its source"):
        split_rows([tmp_path / "in" / "rows.parquet"], tmp_path / "out", by="source")


class TestLeaks:
    def use(self, path, clip=""):
        return VideoUse(clip, str(path), path)

    def test_the_same_bytes_the_same_view_the_same_name(self, videos, tmp_path):
        copy = shutil.copy(videos / "scene1.mp4", tmp_path / "renamed.mp4")
        train = [self.use(Path(copy)), self.use(videos / "cropped.mp4"), VideoUse("", "mine/bmx-trees.mp4")]
        bench = [self.use(videos / "scene1.mp4"), self.use(videos / "scene0.mp4"), self.use(videos / "scene2.mp4")]
        bench.append(VideoUse("", "https://host/main/davis/bmx-trees.mp4"))
        found = {(leak.how, Path(leak.train).name, Path(leak.bench).name) for leak in find_leaks(train, bench)}
        assert found == {
            ("file", "renamed.mp4", "scene1.mp4"),
            ("looks", "cropped.mp4", "scene0.mp4"),
            ("name", "bmx-trees.mp4", "bmx-trees.mp4"),
        }

    def test_names_that_count_are_none(self):
        assert video_name("world/clip_00017/left.mp4") == ""
        assert video_name("davis/aerobatics/left.mp4") == "aerobatics"
        assert video_name("https://host/main/videos_real/davis/Bus.mp4?x=1") == "bus"
        assert video_name("0001.mp4") == ""

    def test_files_are_placed_by_the_end_of_their_path(self, tmp_path):
        for folder in ("davis", "ego4d"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "bus.mp4").touch()
        (placed,) = place_videos([VideoUse("", "https://host/videos/davis/bus.mp4")], tmp_path)
        assert placed.path == tmp_path / "davis" / "bus.mp4"
        (unclear,) = place_videos([VideoUse("", "https://host/bus.mp4")], tmp_path)
        assert unclear.path is None

    def test_the_command(self, videos, tmp_path, mllm4d):
        for name, files in (("train", ("scene3", "scene4")), ("bench", ("scene4", "scene5"))):
            rows = [row(n, DISTANCE, f"_{name}_{file}") for n, file in enumerate(files)]
            for r, file in zip(rows, files, strict=True):
                r.video = f"{videos}/{file}.mp4"
            write_qa(tmp_path / f"{name}.parquet", rows)
        arguments = ("data", "leaks", tmp_path / "train.parquet", tmp_path / "bench.parquet", "--json")
        done = mllm4d(*arguments, "--out", tmp_path / "leaks.jsonl")
        assert done.returncode == 1
        assert json.loads(done.stdout.splitlines()[-1])["leaks"] == {"file": 1}
        (line,) = (tmp_path / "leaks.jsonl").read_text().splitlines()
        assert json.loads(line)["bench"].endswith("scene4.mp4")

    @pytest.mark.skipif(not VLM4D.is_dir(), reason=f"the VLM4D questions are not there: {VLM4D}")
    def test_vlm4d_by_name(self, tmp_path, mllm4d):
        from mllm4d_verl.evaluation.benchmarks import load_benchmark

        theirs = load_benchmark("vlm4d", VLM4D).items[0].video
        rows = [row(0, DISTANCE, 0), row(1, DISTANCE, 1)]
        rows[0].video = f"anywhere/{Path(theirs).name}"
        write_qa(tmp_path / "train.parquet", rows)
        done = mllm4d("data", "leaks", tmp_path / "train.parquet", "vlm4d", "--questions", VLM4D, "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout.splitlines()[-1])["leaks"] == {"name": 1}


def test_duplicates_to_split(videos, tmp_path, mllm4d):
    names = ("scene0", "bright", "scene1", "scene2", "scene3", "scene4")
    rows = [row(n, DISTANCE, f"_{name}") for n, name in enumerate(names)]
    for r, name in zip(rows, names, strict=True):
        r.video = f"{videos}/{name}.mp4"
    write_qa(tmp_path / "in" / "rows.parquet", rows)
    done = mllm4d("data", "duplicates", tmp_path / "in" / "rows.parquet", tmp_path / "groups.json", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["sizes"] == [2]
    out = tmp_path / "out"
    again = mllm4d("data", "split", out, tmp_path / "in", "--groups", tmp_path / "groups.json", "--test", "0.3")
    assert "no train, val or test" in again.stderr
    file = tmp_path / "in" / "rows.parquet"
    again = mllm4d("data", "split", out, file, "--groups", tmp_path / "groups.json", "--test", "0.3", "--json")
    assert again.returncode == 0, again.stderr
    splits = splits_of(out)
    assert splits["clip_scene0"] == splits["clip_bright"]
