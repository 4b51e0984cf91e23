"""Fixtures that several folders share: small videos and the processors of both model families."""

import os
import subprocess
import sys

import numpy as np
import pytest

# Tests keep no frames on the machine's disk; those of the store name a folder of their own.
os.environ.setdefault("MLLM4D_FRAME_STORE", "off")


@pytest.fixture
def mllm4d(monkeypatch, capfd):
    """`mllm4d(*arguments, cwd=None)`: the console entry point in this process, which has the imports already."""
    from mllm4d_verl.cli.main import main

    def run(*arguments, cwd=None):
        if cwd is not None:
            monkeypatch.chdir(cwd)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["mllm4d", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(sys.argv, end.value.code or 0, out, err)

    return run


@pytest.fixture(scope="session")
def write_video():
    """`write_video(path, num_frames, width, height, fps, seed)`: an mp4 whose frames differ from each other."""
    import cv2

    def write(path, num_frames=12, width=96, height=64, fps=10.0, seed=0):
        rng = np.random.default_rng(seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
        background = rng.integers(40, 120, (height // 16, width // 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        for t in range(num_frames):
            frame = np.zeros((height, width, 3), np.uint8)
            frame[: background.shape[0], : background.shape[1]] = background
            left = int(t * (width - 16) / num_frames)
            cv2.rectangle(frame, (left, 10), (left + 14, 34), (0, 0, 255), -1)
            writer.write(frame)
        writer.release()
        return path

    return write


@pytest.fixture
def read_by_us(monkeypatch):
    """qwen_vl_utils decodes as this package does, so that what it does to the frames afterwards can be compared."""
    from qwen_vl_utils import vision_process

    from mllm4d_verl.verl_compat import video_reader

    monkeypatch.setitem(vision_process.VIDEO_READER_BACKENDS, "ours", video_reader.read)
    monkeypatch.setattr(vision_process, "get_video_reader_backend", lambda: "ours")


@pytest.fixture(scope="session", params=["qwen3_vl", "qwen2_5_vl"])
def processor(request, tmp_path_factory):
    """verl's processor of a tiny model, once per family."""
    return _processor(request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def qwen3_processor(tmp_path_factory):
    return _processor("qwen3_vl", tmp_path_factory)


_processors = {}


def _processor(arch, tmp_path_factory):
    if arch not in _processors:
        from verl.utils import hf_processor

        from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model

        folder = build_tiny_model(tmp_path_factory.mktemp(arch), arch, hidden=32, layers=1, vision_layers=1)
        _processors[arch] = hf_processor(str(folder))
    return _processors[arch]
