"""Lets a CUDA build of torchvision import beside a CPU build of torch.

PyPI has torchvision only as a CUDA build. Beside CPU torch its C library cannot load, and then exactly two lines of
its Python import fail: `torchvision/_meta_registrations.py` registers fake kernels for `nms` and `qnms`, whose schemas
only the C library would have defined. Defining the two schemas is all it takes; nothing here pretends to compute them.

It must happen before anything imports torchvision, and vLLM does so in processes that no plugin hook reaches first
(`python -m vllm.model_executor.models.registry`), so a `.pth` file imports this module at interpreter start. It costs
a directory listing, imports no torch by itself, and does nothing unless the installed torch is a `+cpu` build.

torchcodec's wheels are CUDA builds too: their import raises OSError where vLLM and transformers expect ImportError, so
on such an installation torchcodec is hidden.
"""

import os
import sys
from importlib.abc import MetaPathFinder

_library = None  # a torch.library.Library must stay referenced, or its definitions vanish


def cpu_torch_installed() -> bool:
    """Whether the torch on sys.path is a CPU build, told from its dist-info folder alone."""
    for folder in sys.path:
        if not folder.endswith("-packages"):
            continue
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            if name.startswith("torch-") and name.endswith(".dist-info"):
                return name.endswith("+cpu.dist-info")
    return False


def define_missing_schemas() -> bool:
    """Define the schemas of nms and qnms where torchvision's C library cannot. Returns whether it was needed."""
    global _library
    import importlib.util

    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return False
    try:
        torch.ops.load_library(os.path.join(next(iter(spec.submodule_search_locations)), "_C.so"))
        return False  # a build that fits this torch
    except (OSError, ImportError):
        pass
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        _library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return True


class _OnTorchvision(MetaPathFinder):
    """Runs define_missing_schemas at the first `import torchvision`, then leaves the import to the usual finders."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            define_missing_schemas()
        return None


def install() -> None:
    if "torchvision" in sys.modules or not cpu_torch_installed():
        return
    sys.meta_path.insert(0, _OnTorchvision())
    sys.modules.setdefault("torchcodec", None)


install()
