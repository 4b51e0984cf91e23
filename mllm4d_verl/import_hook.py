"""Runs a function right after a module is first imported, so that an adaptation costs nothing until it is needed."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from types import ModuleType

Callback = Callable[[ModuleType], None]

_waiting: dict[str, list[Callback]] = defaultdict(list)
_lock = threading.RLock()


class _AfterImport(MetaPathFinder):
    """Finds a module as the other finders would, and has its loader run the callbacks once the module is complete."""

    def find_spec(self, name, path=None, target=None):
        if name not in _waiting:
            return None
        with _lock:
            callbacks = _waiting.pop(name, [])
        # No longer waiting, so this asks the other finders only.
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for callback in callbacks:
                callback(module)

        # The loader belongs to this spec alone; everything else about it (source, resources) stays as it is.
        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_finder = _AfterImport()


def after_import(module_name: str, callback: Callback) -> None:
    """Call `callback(module)` right after `module_name` is imported; at once if it is already.

    An exception of the callback goes to whoever imports the module. Adaptations warn instead, see `verl_compat`.
    """
    module = sys.modules.get(module_name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        callback(module)
        return
    with _lock:
        _waiting[module_name].append(callback)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
