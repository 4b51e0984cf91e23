"""Many clips through child processes: the same bytes however a run went, and faults that cost one clip each."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest

from mllm4d_verl.data_tools.annotation.config import AnnotateConfig, load_config
from mllm4d_verl.data_tools.annotation.run import annotate, find_source
from mllm4d_verl.data_tools.annotation.stats import clip_stats, holds_clips, plot_stats
from mllm4d_verl.data_tools.annotation.store import AnnotationFolder
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.schema import read_clip_index
from mllm4d_verl.data_tools.synthetic import world_preset, write_world
from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4

FRAMES = 8
#: Small images are hard to match and to track: what is tested here is the run.
LOOSE = {
    "quality.min_matches": 5,
    "quality.min_valid_depth": 0.05,
    "quality.max_camera_noise_m": 10,
    "quality.min_track_coverage": 0,
    "quality.max_reprojection_px": 10,
    "quality.allow_static": True,
    "frames.min_frames": 6,
}


def settings(**changes) -> AnnotateConfig:
    return load_config(None, LOOSE | {key.replace("__", "."): value for key, value in changes.items()})


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Four clips whose camera moves."""
    folder = tmp_path_factory.mktemp("annotate") / "world"
    config = world_preset("default").replace(camera_motions={"left": 1, "right": 1, "forward": 1}, detail=0.3)
    write_world(folder, 4, seed=2, width=128, height=96, num_frames=FRAMES, config=config, dense=False)
    shutil.rmtree(folder / "truth")
    return folder


@pytest.fixture(scope="module")
def finished(world) -> Path:
    """The world annotated by one process without interruption."""
    out = world.parent / "finished"
    report = annotate(find_source(world), out, settings(), workers=1)
    assert (report.kept, report.frames, report.quarantined) == (4, 4 * FRAMES, {})
    return out


def command(world: Path, out: Path, *more: str) -> list[str]:
    changes = [part for key, value in LOOSE.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    return [sys.executable, "-m", "mllm4d_verl.cli.main", "data", "annotate", str(world), str(out), *changes, *more]


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


class TestWholeRuns:
    def test_layout(self, finished):
        names = [f"clip_{number:05d}" for number in range(4)]
        expected = {"annotate.json", "rejected.jsonl", "quarantine.jsonl", "clip4d/clips.parquet", ".lock"}
        expected |= {f"clip4d/{name}.npz" for name in names} | {f"status/{name}.json" for name in names}
        assert set(digests(finished)) == expected
        row = read_clip_index(finished)[0]
        assert (finished / row["video"]).samefile(finished.parent / "world" / "clip_00000" / "left.mp4")
        quality = json.loads(row["quality"])
        assert {"camera_noise_m", "object_noise_m", "vertical_error_px", "num_matches"} <= set(quality)

    def test_two_processes_write_the_same_bytes(self, world, finished, tmp_path):
        out = finished.parent / "by_two"
        annotate(find_source(world), out, settings(run__clips_per_worker=1), workers=2)
        assert digests(out) == digests(finished)

    def test_a_finished_folder_is_left_alone(self, world, finished):
        before = {path: path.stat().st_mtime_ns for path in (finished / "status").iterdir()}
        seen = []
        report = annotate(find_source(world), finished, settings(), progress=lambda done, total: seen.append(done))
        assert (report.skipped, report.kept, report.new_frames, seen) == (4, 4, 0, [4])
        assert {path: path.stat().st_mtime_ns for path in (finished / "status").iterdir()} == before

    def test_other_settings_are_refused(self, world, finished):
        with pytest.raises(InputError, match=r"another config\.quality\.max_black"):
            annotate(find_source(world), finished, settings(quality__max_black=0.5))
        annotate(find_source(world), finished, settings(run__seconds_per_frame=9))  # changes no result

    def test_two_runs_at_once_are_refused(self, world, finished):
        with AnnotationFolder(finished).alone(), pytest.raises(InputError, match="another run is writing"):
            annotate(find_source(world), finished, settings())

    def test_ctrl_c_ends_every_process(self, world, tmp_path):
        def interrupt(done, total):
            if done == 1:
                raise KeyboardInterrupt

        # other tests of this process may have left theirs, multiprocessing's resource tracker among them
        before = psutil.Process().children()
        with pytest.raises(KeyboardInterrupt):
            annotate(find_source(world), tmp_path, settings(), workers=2, progress=interrupt)
        assert not set(psutil.Process().children()) - set(before)
        assert (tmp_path / "quarantine.jsonl").read_text() == ""

    def test_sigkill_in_the_middle_and_again(self, world, finished):
        out = finished.parent / "killed"
        with subprocess.Popen(command(world, out, "--workers", "2"), stderr=subprocess.DEVNULL) as process:
            wait_for(lambda: any((out / "status").glob("*.json")) or process.poll() is not None)
            children = psutil.Process(process.pid).children()
            process.kill()
        # children notice that their parent is gone, though nobody told them
        assert not psutil.wait_procs(children, timeout=20)[1]
        left = out / "clip4d" / ".clip_00003.1.tmp.npz"
        left.write_bytes(b"half")
        assert len(list((out / "status").glob("[!.]*"))) < 4
        annotate(find_source(world), out, settings())
        assert digests(out) == digests(finished)


def make_faulty(world: Path, root: Path) -> None:
    """Clips that are each broken in their own way, and a good one."""
    good = world / "clip_00000"
    for name in ("good", "cut_off", "bad_calibration", "bad_json", "swapped", "nan_poses", "other_length"):
        shutil.copytree(good, root / name)
    (root / "cut_off" / "left.mp4").write_bytes((good / "left.mp4").read_bytes()[:-4000])
    calibration = json.loads((good / "calibration.json").read_text())
    (root / "bad_calibration" / "calibration.json").write_text(json.dumps({**calibration, "width": 64}))
    (root / "bad_json" / "calibration.json").write_text("{")
    shutil.copy(good / "left.mp4", root / "swapped" / "right.mp4")
    shutil.copy(good / "right.mp4", root / "swapped" / "left.mp4")
    rows = np.tile(np.eye(4)[:3].ravel(), (FRAMES, 1))
    rows[5, 3] = np.nan
    np.savetxt(root / "nan_poses" / "poses.txt", rows)
    for name, images in (
        ("one_frame", np.zeros((1, 96, 128, 3), np.uint8)),
        ("black", np.zeros((FRAMES, 96, 128, 3), np.uint8)),
    ):
        (root / name).mkdir()
        shutil.copy(good / "calibration.json", root / name)
        for eye in ("left", "right"):
            write_mp4(root / name / f"{eye}.mp4", images, 8)
    write_mp4(root / "other_length" / "right.mp4", np.zeros((FRAMES - 2, 96, 128, 3), np.uint8), 8)
    # A decoder that hangs: opening a pipe that nobody writes to.
    hang = root / "hangs"
    write_images(good, hang)
    (hang / "left" / "0003.png").unlink()
    os.mkfifo(hang / "left" / "0003.png")


def write_images(clip: Path, folder: Path) -> None:
    for eye in ("left", "right"):
        (folder / eye).mkdir(parents=True)
        with av.open(str(clip / f"{eye}.mp4")) as container:
            for number, frame in enumerate(container.decode(video=0)):
                cv2.imwrite(str(folder / eye / f"{number:04d}.png"), frame.to_ndarray(format="bgr24"))
    shutil.copy(clip / "calibration.json", folder)


@pytest.fixture(scope="module")
def faulty(world) -> Path:
    """A folder annotated from clips of which one is good."""
    root, out = world.parent / "faulty", world.parent / "faulty_out"
    make_faulty(world, root)
    annotate(find_source(root), out, settings(run__seconds_to_open=4, run__seconds_per_frame=0.25), workers=2)
    return out


class TestFaults:
    def quarantine(self, out: Path) -> dict[str, dict]:
        return {line["clip"]: line for line in lines(out / "quarantine.jsonl")}

    def rejected(self, out: Path) -> dict[str, dict]:
        return {line["clip_id"]: line for line in lines(out / "rejected.jsonl")}

    def test_the_good_clip_is_kept(self, faulty):
        assert [row["clip_id"] for row in read_clip_index(faulty)] == ["good"]

    def test_every_clip_has_its_fate(self, faulty):
        assert set(self.quarantine(faulty)) == {
            "cut_off", "bad_calibration", "bad_json", "nan_poses", "other_length", "hangs",
        }  # fmt: skip
        assert set(self.rejected(faulty)) == {"swapped", "one_frame", "black"}

    @pytest.mark.parametrize(
        ("clip", "kind", "text"),
        [
            ("cut_off", "bad input", r"left\.mp4.*cut off"),
            ("bad_calibration", "bad input", "calibration.json|pixels"),
            ("bad_json", "bad input", r"calibration\.json.*does not parse"),
            ("nan_poses", "bad input", r"poses\.txt.*5"),
            ("other_length", "bad input", "8 frames.*6"),
            ("hangs", "timeout", r"not finished within 4 s and 0\.25 s per frame"),
        ],
    )
    def test_quarantine(self, faulty, clip, kind, text):
        import re

        line = self.quarantine(faulty)[clip]
        assert line["kind"] == kind
        assert re.search(text, line["text"]), line["text"]

    def test_swapped_eyes_are_named(self, faulty):
        (reason, *_) = self.rejected(faulty)["swapped"]["reasons"]
        assert "swapped" in reason["text"]

    def test_reasons_carry_figure_and_limit(self, faulty):
        (short,) = self.rejected(faulty)["one_frame"]["reasons"]
        assert (short["name"], short["value"], short["limit"]) == ("too short", 1, 6)
        black = {reason["name"]: reason for reason in self.rejected(faulty)["black"]["reasons"]}
        assert (black["black"]["value"], black["black"]["limit"]) == (1, 0)

    def test_stats_tell_the_reasons(self, faulty, tmp_path):
        assert holds_clips(faulty)
        stats = clip_stats(faulty)
        assert (stats.kept, stats.num_rejected) == (1, 3)
        assert stats.quarantined == {"bad input": 5, "timeout": 1}
        assert stats.rejected["too short"] == 1
        plot_stats(stats, tmp_path / "figures.png")
        assert cv2.imread(str(tmp_path / "figures.png")).shape[0] > 100

    def test_mended_clips_are_taken_again(self, world, faulty):
        root = world.parent / "faulty"
        shutil.copy(world / "clip_00000" / "left.mp4", root / "cut_off" / "left.mp4")
        shutil.rmtree(root / "hangs")
        write_images(world / "clip_00000", root / "hangs")
        again = annotate(find_source(root), faulty, settings(quality__max_frozen=0.1), retry_quarantine=True)
        assert again.quarantined == {"bad input": 4}
        assert {"good", "cut_off", "hangs"} == {row["clip_id"] for row in read_clip_index(faulty)}
        assert (faulty / "videos" / "hangs.mp4").is_file()  # images have no video of their own


def test_a_process_that_dies_costs_its_clip(world, tmp_path):
    root = tmp_path / "root"
    write_images(world / "clip_00000", root / "a_dies")
    (root / "a_dies" / "left" / "0002.png").unlink()
    os.mkfifo(root / "a_dies" / "left" / "0002.png")
    shutil.copytree(world / "clip_00001", root / "b_good")

    others = set(psutil.Process().children())  # multiprocessing's resource tracker, of other tests

    def kill_reader():
        """Once the process is inside the clip (the pipe has a reader), as a fault in a decoder would."""
        with (root / "a_dies" / "left" / "0002.png").open("wb"):
            for child in set(psutil.Process().children()) - others:
                os.kill(child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_reader)
    killer.start()
    report = annotate(find_source(root, options={"fps": 8}), tmp_path / "out", settings(), workers=1)
    killer.join()
    assert (report.kept, report.quarantined) == (1, {"crash": 1})
    (line,) = lines(tmp_path / "out" / "quarantine.jsonl")
    assert (line["clip"], line["kind"]) == ("a_dies", "crash")
    assert "SIGKILL" in line["text"]


def test_the_reader_says_what_it_was_told_by(world):
    source = find_source(world)
    assert (source.reader, len(source.refs)) == ("pair", 4)
    assert source.reason.startswith("left.mp4 and right.mp4")
    assert find_source(world, "pair").reason == "asked for"
    with pytest.raises(InputError, match="does not exist"):
        find_source(world / "nowhere")


def test_names_that_splitting_could_give_twice_are_refused(world, tmp_path):
    for name in ("walk", "walk_s0"):
        (tmp_path / name).symlink_to(world / "clip_00000")
    with pytest.raises(InputError, match="two clips would be named 'walk_s0'"):
        find_source(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_nothing_is_lost(world, small_disk):
    source, out = find_source(world), small_disk / "out"
    config = settings(write_masks=True)
    with pytest.raises(InputError, match=r"disk is full.*finished clips are kept"):
        annotate(source, out, config)
    assert not list(out.rglob("*.tmp*"))
    finished = {path.stem for path in (out / "status").glob("[!.]*.json")}
    assert {path.stem for path in (out / "clip4d").glob("*.npz")} == finished
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    report = annotate(source, out, config)
    assert (report.skipped, report.kept, report.quarantined) == (len(finished), 4, {})


@pytest.mark.e2e
def test_ray_writes_the_same_bytes(world, finished):
    out = finished.parent / "by_ray"
    report = annotate(find_source(world), out, settings(), workers=2, ray="local")
    assert (report.kept, report.quarantined) == (4, {})
    assert digests(out) == digests(finished)
    import ray

    assert not ray.is_initialized()  # the one that was started is ended
