"""What the plugin adds to `import verl`: fresh interpreters, with and without it, in turn.

python benchmarks/plugin_import.py [--runs 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

CODE = "import time; start = time.perf_counter(); import verl; print(time.perf_counter() - start)"


def seconds(plugins: str, platform: str) -> float:
    """Time of `import verl` in a fresh interpreter."""
    env = {**os.environ, "VERL_USE_EXTERNAL_PLUGINS": plugins, "VERL_PLATFORM": platform}
    run = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def own_seconds(platform: str) -> float:
    """Processor time of the plugin alone, once verl is there: it does not depend on what else the machine does."""
    code = (
        "import time, verl; start = time.process_time(); import mllm4d_verl.plugin; print(time.process_time() - start)"
    )
    env = {**os.environ, "VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_PLATFORM": platform}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    without, with_plugin, alone = [], [], []
    for _ in range(runs):
        without.append(seconds("none", ""))
        with_plugin.append(seconds("mllm4d", ""))
        alone.append(own_seconds("cpu"))
    base, added = statistics.median(without), statistics.median(with_plugin) - statistics.median(without)
    print(f"import verl, no plugin          {base:.3f} s (median of {runs})")
    print(f"import verl, with mllm4d-verl   {base + added:.3f} s: {added:+.3f} s, ratio {(base + added) / base:.3f}")
    print(f"the plugin alone, CPU lane      {statistics.median(alone):.3f} s of processor time (verl already imported)")


if __name__ == "__main__":
    main()
