"""The distribution installs what the tree holds, under one import name."""

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def _folders_with_python() -> set[str]:
    names = set()
    for name, folder in SETUPTOOLS["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            names.add(".".join([name, *init.parent.relative_to(ROOT / folder).parts]))
    return names


def test_every_folder_with_python_files_is_listed():
    assert set(SETUPTOOLS["packages"]) == _folders_with_python()


def test_every_python_file_lies_in_a_package():
    for folder in SETUPTOOLS["package-dir"].values():
        for file in (ROOT / folder).rglob("*.py"):
            assert (file.parent / "__init__.py").exists(), f"{file} lies in a folder without __init__.py"


@pytest.mark.parametrize("name", ["mllm4d_verl.reward", "mllm4d_verl.data_tools", "mllm4d_verl.prompts"])
def test_imports_without_torch_and_verl(name):
    code = f"import sys, {name}; print(sorted({{'torch', 'verl'}} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_installed_from_this_tree():
    assert Path(importlib.import_module("mllm4d_verl.reward").__file__).parent == ROOT / "reward"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # The build backend itself: pip would ask it for the metadata first, and so collect the files twice.
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_wheel_holds_every_package_file(wheel):
    names = set(wheel.namelist())
    for name, folder in SETUPTOOLS["package-dir"].items():
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".yaml", ".jinja", ".json"} and "__pycache__" not in file.parts:
                inside = "/".join([*name.split("."), *file.relative_to(ROOT / folder).parts])
                assert inside in names


def test_wheel_claims_no_other_top_level_name(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mllm4d_verl"}
