"""The TSV for VLMEvalKit, read back as VLMEvalKit reads it."""

import ast
from pathlib import Path

import pandas as pd
import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.evaluation.benchmarks import Benchmark, Item
from mllm4d_verl.evaluation.benchmarks.base import unreadable_item
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
    assert list(data["video"]) == ["clips/0", "clips/1"]
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
        (item(0, [], "3"), "neither a multiple-choice"),
        (item(0, ["a", "b"], "C"), "neither a multiple-choice"),
        (unreadable_item("q", "", "", "broken"), "no record holds a question"),
    ],
)
def test_refuses_what_the_layout_cannot_hold(tmp_path, bad, message):
    with pytest.raises(InputError, match=message):
        export_tsv(benchmark(bad), tmp_path / "Set.tsv")
    assert not list(tmp_path.iterdir())


def test_a_number_among_the_questions_is_written_and_counted(tmp_path):
    number = item(1, [], "0.50", kind="number", value=0.5, unit="m", video="000123.avi")
    done = export_tsv(
        benchmark(item(0, ["a", "b"]), number, unreadable_item("q", "", "", "broken")), tmp_path / "S.tsv"
    )
    assert (done.questions, done.numbers, done.left_out, done.other_suffix) == (2, 1, 1, 1)
    row = pd.read_csv(done.file, sep="\t").loc[1]
    assert (row["candidates"], float(row["answer"]), row["unit"]) == ("[]", 0.5, "m")


def test_names_that_look_like_numbers_stay_text(tmp_path):
    done = export_tsv(benchmark(item(0, ["a", "b"], video="000123.mp4")), tmp_path / "S.tsv")
    assert pd.read_csv(done.file, sep="\t").at[0, "video"] + ".mp4" == "./000123.mp4"


def test_vlmevalkits_own_base_class_opens_and_scores_the_set(tmp_path, monkeypatch, write_video):
    """In the release that is installed, unchanged: frames are sampled, prompts made, predictions scored."""
    pytest.importorskip("vlmeval", reason="VLMEvalKit is not installed")
    pytest.importorskip("decord")
    monkeypatch.setenv("LMUData", str(tmp_path / "lmu"))
    from mllm4d_verl.evaluation.ecosystem.vlmevalkit_set import ExportedVideoSet

    for name in ("davis/aerobatics.mp4", "000123.mp4"):
        write_video(tmp_path / "videos" / name, num_frames=12, fps=6.0)
    items = [
        item(0, ["left", "0.50"], "A", video="https://host/videos/davis/aerobatics.mp4", task="side"),
        item(1, [], "62", kind="number", value=62.0, unit="cm", video="000123.mp4", task="size"),
        item(2, [], "62", kind="number", value=62.0, unit="cm", video="000123.mp4", task="size"),
    ]
    tsv = export_tsv(benchmark(*items), tmp_path / "Set.tsv", tmp_path / "videos").file
    for sampling in ({"nframe": 4}, {"fps": 2.0}):
        made = ExportedVideoSet("Set", str(tsv), str(tmp_path / "videos"), **sampling)
        *frames, text = made.build_prompt(0)
        assert [frame["type"] for frame in frames] == ["image"] * 4
        assert all(Path(frame["value"]).is_file() for frame in frames)
        assert "A. left\nB. 0.50" in text["value"]
        assert len(made.build_prompt(1)) == 5
    assert Path(made.build_prompt(1, video_llm=True)[0]["value"]).is_file()
    answered = made.data.assign(prediction=["It moves left.", "0.62 m", "1 m"])
    answered.to_csv(tmp_path / "answers.tsv", sep="\t", index=False)
    assert made.evaluate(str(tmp_path / "answers.tsv")) == pytest.approx({"Overall": 200 / 3, "side": 100, "size": 50})


def test_paths_below_a_folder(tmp_path):
    (tmp_path / "videos" / "davis").mkdir(parents=True)
    (tmp_path / "videos" / "davis" / "bus.mp4").touch()
    far = benchmark(item(0, ["a", "b"], video="https://host/main/videos/davis/bus.mp4"))
    read = [
        pd.read_csv(export_tsv(far, tmp_path / "Set.tsv", root).file, sep="\t").loc[0, ["video", "video_path"]].tolist()
        for root in (None, tmp_path / "videos")
    ]
    assert read == [
        ["main/videos/davis/bus", "https://host/main/videos/davis/bus.mp4"],
        ["davis/bus", "davis/bus.mp4"],
    ]
    with pytest.raises(InputError, match="are not here"):
        export_tsv(far, tmp_path / "Set.tsv", tmp_path / "elsewhere")
