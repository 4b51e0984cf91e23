"""A process that has the libraries below verl and vLLM, and runs each program that it is sent in a copy of itself.

It reads one JSON object a line: {"code": TEXT, "arguments": [...], "environment": {...}, "output": FILE,
"error": FILE}, and answers each with the program's exit code. `interpreter.py` starts it and speaks to it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import traceback
import types

# What takes longest to import of what verl and vLLM import. Any may be absent: the program then does without, too.
LIBRARIES = (
    *("torch", "torch._dynamo", "torch._inductor.custom_graph_pass", "torch.distributed.tensor", "torchvision"),
    *(
        "torch.distributed.fsdp",
        "tensordict",
        "ray",
        "numpy",
        "pandas",
        "pyarrow.parquet",
        "scipy.stats",
        "scipy.signal",
        "sklearn.metrics",
    ),
    *("transformers", "transformers.generation", "transformers.modeling_utils", "transformers.processing_utils"),
    *("peft", "datasets", "accelerate", "cv2", "av", "openai", "openai.types.responses", "aiohttp", "fastapi"),
    *("mistral_common", "xgrammar", "compressed_tensors", "networkx", "sympy", "antlr4", "opentelemetry.sdk.trace"),
)
# What the plugin watches for, or what tests look for: no copy may have it before its program imports it.
NOT_YET = ("verl", "vllm", "mllm4d_verl", "hydra", "qwen_vl_utils", "transformers.video_processing_utils")


def run(question: dict) -> None:
    """Become the program; does not return."""
    for number, name in ((1, "output"), (2, "error")):
        os.dup2(os.open(question[name], os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(question["environment"])
    sys.argv = ["-c", *question["arguments"]]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    code = 0
    try:
        exec(compile(question["code"], "<string>", "exec"), vars(main))
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    sys.path[0] = ""  # `python -c` has the working folder there
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    early = [name for name in NOT_YET if name in sys.modules]
    assert not early, early
    gc.collect()
    gc.freeze()  # copies then share the memory of what is imported
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
