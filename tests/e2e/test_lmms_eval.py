"""A task that we export, found and run by the real lmms-eval from PyPI, scores recorded responses as we do.

lmms-eval cannot be installed beside our extras: its requirement latex2sympy2 wants an ANTLR runtime that Hydra 1.3 does
not run on, and it pins wandb. So it gets an environment of its own, which sees the packages of this one and adds the
few that its evaluator imports. `MLLM4D_LMMS_PYTHON` names a Python that has it all already.
"""

import importlib.util
import json
import math
import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

from mllm4d_verl.evaluation.benchmark_score import score_benchmark
from mllm4d_verl.evaluation.benchmarks import Benchmark, Item
from mllm4d_verl.evaluation.benchmarks.answered import Answered
from mllm4d_verl.evaluation.ecosystem.lmms import export_task

pytestmark = pytest.mark.e2e

# lmms-eval, and what its evaluator and its table of results import that this environment may lack.
PACKAGES = (
    "filelock<4",  # lmms-eval 0.7.3 changes a private module of filelock that 4.0 no longer has
    *("lmms-eval==0.7.3", "sacrebleu", "portalocker", "tabulate", "colorama", "lxml", "evaluate", "pytz", "tenacity"),
    *("pytablewriter", "DataProperty", "mbstrdecoder", "pathvalidate", "tabledata", "tcolorpy", "typepy<2", "chardet"),
)
MODEL = '''
import json, os
from lmms_eval.api.model import lmms


class Recorded(lmms):
    """Answers with what a file holds for the question."""

    def __init__(self, **kwargs):
        super().__init__()
        with open(os.environ["RECORDED_RESPONSES"]) as file:
            self.responses = json.load(file)

    def generate_until(self, requests):
        answers = []
        for request in requests:
            prompt, options, visuals, doc_id, task, split = request.args
            doc = self.task_dict[task][split][doc_id]
            assert os.path.isfile(visuals(doc)[0]) and prompt == doc["prompt"] and options["until"] == []
            answers.append(self.responses[doc["id"]])
        return answers

    def loglikelihood(self, requests):
        raise NotImplementedError

    def generate_until_multi_round(self, requests):
        raise NotImplementedError
'''
ITEMS = [
    ("a", ("left", "right", "up", "down"), "B", "moves", "exo", "The answer is B."),
    ("a", ("left", "right", "up", "down"), "A", "moves", "exo", "<think>right?</think>\n\n<answer>left</answer>"),
    ("b", ("yes", "no"), "B", "exists", "ego", "A"),
    ("b", ("1", "2", "3"), "C", "counts", "ego", "B or C, hard to say"),
    ("c", ("1", "2", "3"), "C", "counts", "exo", "three cars, so \\boxed{3}"),
]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """A Python that imports lmms_eval and this project."""
    if given := os.environ.get("MLLM4D_LMMS_PYTHON"):
        return given
    if importlib.util.find_spec("lmms_eval"):
        return sys.executable
    home = tmp_path_factory.mktemp("lmms")
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    own = next((home / "lib").glob("python3*/site-packages"))
    shared = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (own / "zz_shared.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in shared))
    python = str(home / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--retries", "0", *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"lmms-eval cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture
def benchmark(tmp_path) -> Benchmark:
    items = [
        Item(f"q{n}", f"{clip}.mp4", clip, f"Question {n}?", options, answer, "choice", task, {"view": view})
        for n, (clip, options, answer, task, view, _) in enumerate(ITEMS)
    ]
    items.append(Item("q5", "c.mp4", "c", "How far?", (), "2.0", "number", "range", {"view": "exo"}, 2.0, "meters"))
    (tmp_path / "videos").mkdir()
    for clip in "abc":
        (tmp_path / "videos" / f"{clip}.mp4").touch()
    return Benchmark("toy", "1", tuple(items), "", macro_groups={"moves": "motion", "exists": "motion"})


def test_lmms_eval_finds_the_task_and_scores_it_as_we_do(python, benchmark, tmp_path):
    responses = [*(row[-1] for row in ITEMS), "about 2.3 m"]
    task = export_task(benchmark, tmp_path / "tasks", tmp_path / "videos")
    models = tmp_path / "recorded" / "models"
    models.mkdir(parents=True)
    (models / "__init__.py").write_text('AVAILABLE_MODELS = {"recorded": "Recorded"}\n')
    (models / "recorded.py").write_text(MODEL)
    (tmp_path / "recorded" / "tasks").mkdir()
    for folder in (tmp_path / "recorded", tmp_path / "recorded" / "tasks"):
        (folder / "__init__.py").touch()
    recorded = tmp_path / "responses.json"
    recorded.write_text(json.dumps({f"q{n}": text for n, text in enumerate(responses)}))
    command = [python, "-m", "lmms_eval", "--model", "recorded", "--tasks", task.name]
    command += ["--include_path", str(task.folder), "--output_path", str(tmp_path / "out"), "--log_samples"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "LMMS_EVAL_PLUGINS": "recorded",
            "RECORDED_RESPONSES": str(recorded),
            "PYTHONPATH": str(tmp_path),
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "disabled",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]

    results = json.loads(next((tmp_path / "out").rglob("*_results.json")).read_text())["results"][task.name]
    figures = {name.removesuffix(",none"): value for name, value in results.items() if name.endswith(",none")}
    ours = score_benchmark(Answered(benchmark, benchmark.items, tuple(responses), (0,) * 6, "", "file", (), ()))
    expected = {
        "accuracy": ours.overall.strict.estimate,
        "accuracy_over_valid": ours.overall.accuracy_over_valid,
        "invalid": 100 * ours.overall.invalid / ours.overall.n,
        "macro_accuracy": ours.macro.estimate,
        **{f"task_{name}": found.strict.estimate for name, found in ours.per_task.items()},
        **{f"split_view_{name}": found.strict.estimate for name, found in ours.per_split.items()},
    }
    assert ours.overall.invalid == 1
    for name, percent in expected.items():
        assert math.isclose(100 * figures[name], percent, abs_tol=1e-9), name
    assert figures["accuracy_stderr_clustered"] > 0
    samples = next((tmp_path / "out").rglob("*samples*.jsonl")).read_text().splitlines()
    read = [json.loads(line)["accuracy"] for line in samples]
    assert [entry["choice"] for entry in read] == [score.verdict.choice for score in ours.scores]
