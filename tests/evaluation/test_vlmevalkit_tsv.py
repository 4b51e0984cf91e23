"""The TSV for VLMEvalKit, read back as VLMEvalKit reads it."""

import ast

import pandas as pd
import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.benchmarks import Benchmark, Item
from mllm4d_verl.evaluation.ecosystem.vlmevalkit import export_tsv


def item(number, options, answer="B", **changes):
    fields = {
        "id": f"q{number}", "video": f"clips/{number}.mp4", "clip": f"c{number}",
        "question": 'How\tfar, "about"?\nSay.',
        "options": tuple(options), "answer": answer, "kind": "choice", "task": "camera_absolute_distance",
    }  # fmt: skip
    return Item(**{**fields, **changes})


def benchmark(*items):
    return Benchmark("bench", "1", items, "")


def test_reads_back(tmp_path):
    items = [item(0, ["0.50", "1.25", "2", "3"]), item(1, ["left", "it's right", "not moving"], "C")]
    done = export_tsv(benchmark(*items), tmp_path / "Set.tsv")
    data = pd.read_csv(done.file, sep="\t")
    assert list(data.columns)[:8] == ["index", "video", "video_path", "question", "A", "B", "C", "D"]
    assert list(data["index"]) == [0, 1]
    assert list(data["video"]) == ["clips__0", "clips__1"]
    assert list(data["question"]) == [item.question for item in items]
    assert list(data["answer"]) == ["B", "C"]
    assert pd.isna(data.at[1, "D"])
    assert [ast.literal_eval(text) for text in data["candidates"]] == [
        ["A. 0.50", "B. 1.25", "C. 2", "D. 3"],
        ["A. left", "B. it's right", "C. not moving"],
    ]
    assert (done.questions, done.reworded) == (2, 1)  # D is a column of numbers with a hole: 3 reads as 3.0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (item(0, ["None", "one"]), "missing cell"),
        (item(0, [], "3", kind="number", value=3.0), "not a multiple-choice"),
        (item(0, ["a", "b"], "C"), "not a multiple-choice"),
    ],
)
def test_refuses_what_the_layout_cannot_hold(tmp_path, bad, message):
    with pytest.raises(InputError, match=message):
        export_tsv(benchmark(bad), tmp_path / "Set.tsv")
    assert not list(tmp_path.iterdir())


def test_paths_below_a_folder(tmp_path):
    (tmp_path / "videos" / "davis").mkdir(parents=True)
    (tmp_path / "videos" / "davis" / "bus.mp4").touch()
    far = benchmark(item(0, ["a", "b"], video="https://host/main/videos/davis/bus.mp4"))
    read = [
        pd.read_csv(export_tsv(far, tmp_path / "Set.tsv", root).file, sep="\t").loc[0, ["video", "video_path"]].tolist()
        for root in (None, tmp_path / "videos")
    ]
    assert read == [
        ["main__videos__davis__bus", "https://host/main/videos/davis/bus.mp4"],
        ["davis__bus", "davis/bus.mp4"],
    ]
    with pytest.raises(InputError, match="are not here"):
        export_tsv(far, tmp_path / "Set.tsv", tmp_path / "elsewhere")
