"""Jobs that take no model: they write a file, wait, fail, or start another process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from mllm4d_verl.study.jobs import Job, job_key
from mllm4d_verl.study.usage import UsageMeter, read_usage


def make(out: Path, label: str, entry: str, after: tuple[str, ...] = (), **settings) -> Job:
    """A job of the kind "train" whose worker finds this module."""
    key = job_key(label, [entry, after, settings])
    return Job(
        key=key,
        kind="train",
        entry=f"stand_in_jobs:{entry}",
        folder=str(out / "jobs" / key),
        product="product",
        after=after,
        settings=settings,
        environment={"PYTHONPATH": str(Path(__file__).parent)},
    )


def write(job: Job) -> dict:
    """Leave the product, and a line for every time the work was done."""
    with open(job.path / "runs", "a") as file:
        print(os.getpid(), job.settings.get("say", ""), file=file)
    (job.path / "product").write_text("done")
    return {"environment": {name: value for name, value in os.environ.items() if name.startswith(("RAY_", "OMP_"))}}


def fail(job: Job) -> dict:
    raise RuntimeError("the reason")


def wait(job: Job) -> dict:
    """Start a process of its own group, as Ray does, note both ids, and wait for the file `go`."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (job.path / "part").write_text(f"{os.getpid()} {child.pid}")
        (job.path / "part").rename(job.path / "pids")
        while not (job.path / "go").exists():
            time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
    return write(job)


def burn(job: Job) -> dict:
    """Use processor time, in this process and in a child that leaves its parent."""
    burner = "import time\nwhile time.process_time() < 1.5: pass\ntime.sleep(1.5)"
    began = time.process_time()
    with UsageMeter(job.path / "usage"):
        child = subprocess.Popen([sys.executable, "-c", burner], start_new_session=True)
        while time.process_time() < began + 1.0:
            pass
        child.wait()
    write(job)
    return read_usage(job.path / "usage")._asdict()
