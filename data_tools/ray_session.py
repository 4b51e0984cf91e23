"""Ray Data for the tools that spread work over machines: joined where it runs, else started and ended again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import InputError

LOCAL = "local"
#: The least that Ray takes: what goes through it are names of clips and pieces of work.
_OBJECT_STORE_BYTES = 80 * 2**20


@contextmanager
def ray_session(address: str, num_cpus: int) -> Iterator[Any]:
    """The module `ray`, connected, its Data part without bars. A Ray that this process has joined is used and left.

    Args:
        address: of a cluster ("auto", "host:port"), or "local" to start a Ray of our own, which is ended again.
        num_cpus: of a Ray of our own.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address.
    """
    ray = _import_ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address, num_cpus)
    context = ray.data.DataContext.get_current()
    shows_bars = context.enable_progress_bars
    try:
        context.enable_progress_bars = False  # the caller has one
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield ray
    finally:
        context.enable_progress_bars = shows_bars
        if is_ours:
            ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            f"Ray Data does not import ({error})", field="--ray", remedy="Install it with `pip install 'ray[data]'`"
        ) from None
    return ray


def _connect(ray: Any, address: str, num_cpus: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == LOCAL:
            own = {"num_cpus": max(1, num_cpus), "object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
            ray.init(address="local", **own, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"no Ray answers at {address!r} ({error})", field="--ray") from None
