"""Pieces of work of a study: what each one needs, when it is done, and a name that equal ones share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mllm4d_verl.data_tools.atomic import atomic_path
from mllm4d_verl.training.stages import content_hash

JOB_FILE = "job.json"
FAILED_FILE = "failed.json"
LOG_FILE = "job.log"
_STAMP = "done"  # of the StageLog in the job's folder


@dataclass(frozen=True)
class Job:
    """One training or evaluation.

    Attributes:
        key: name of its folder; ends in a hash of all that decides the result, so equal jobs have one key.
        kind: "train" or "evaluate"; says which resources it gets.
        entry: "module:function" that does it, called with the job's folder and settings.
        folder: absolute.
        product: file or folder below `folder` that it leaves.
        after: keys of the jobs whose results it uses.
        settings: what `entry` takes; plain data.
        environment: variables of its process; one that is set already wins.
    """

    key: str
    kind: str
    entry: str
    folder: str
    product: str
    after: tuple[str, ...]
    settings: dict[str, Any]
    environment: dict[str, str]

    @property
    def path(self) -> Path:
        return Path(self.folder)

    def record(self) -> dict[str, Any] | None:
        """What the finished job noted: seconds, peak_memory_bytes, figures; None as long as it is not done."""
        stamp = self.path / f"{_STAMP}.json"
        if not stamp.is_file() or not (self.path / self.product).exists():
            return None
        record: dict[str, Any] = json.loads(stamp.read_text(encoding="utf-8"))
        return record if record["hash"] == content_hash([_STAMP, self.key, []]) else None

    @property
    def is_done(self) -> bool:
        return self.record() is not None

    def failure(self) -> str | None:
        """Why its last attempt failed; None if it did not."""
        file = self.path / FAILED_FILE
        return json.loads(file.read_text(encoding="utf-8"))["error"] if file.is_file() else None

    def save(self) -> Path:
        """Write job.json, from which `worker` does the job."""
        file = self.path / JOB_FILE
        with atomic_path(file) as part:
            Path(part).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        return file

    @staticmethod
    def read(file: Path) -> Job:
        """The job of a job.json."""
        content = json.loads(file.read_text(encoding="utf-8"))
        return Job(**{**content, "after": tuple(content["after"])})


def job_key(label: str, identity: Any) -> str:
    """A readable label and a hash of all that decides a job's result."""
    return f"{label}-{content_hash(identity)[:12]}"


def stamp_name() -> str:
    """Name of a job's stamp in its StageLog."""
    return _STAMP
