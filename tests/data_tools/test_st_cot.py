"""Rule-based responses: the grammar of the design, the right answer, short when asked, no arithmetic in prose."""

import re
from dataclasses import replace

import pytest
from clip_samples import make_clip

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions, write_st_cot
from mllm4d_verl.data_tools.questions.st_cot import fixed_phrases
from mllm4d_verl.data_tools.schema import TASKS

STATE = r"- Camera Center: (null|\[[^\]\n]*\])\n- Object Center: (null|\[[^\]\n]*\])\n"
GRAMMAR = re.compile(
    r"<thinking>[^*<>]+\n"
    r"\*\*Spatial State \(Initial Frame\):\*\*\n" + STATE + r"[^*<>]+\n"
    r"\*\*Spatial State \(Final Frame\):\*\*\n" + STATE + r"[^*<>]+</thinking>\n"
    r"<answer>([A-D])</answer>"
)


@pytest.fixture(scope="module")
def rows():
    return build_questions([make_clip(seed) for seed in range(40)], QuestionConfig(num_frames=8))


@pytest.mark.parametrize("style", ["full", "compact"])
@pytest.mark.parametrize("decimals", [1, 2, 4])
def test_grammar_states_and_answer(rows, style, decimals):
    for row in rows:
        match = GRAMMAR.fullmatch(write_st_cot(row, style=style, decimals=decimals))
        assert match, row.task
        assert match[5] == row.answer
        cameras, objects = row.camera_center or [None, None], row.object_center or [None, None]
        for text, center in zip(match.groups()[:4], (cameras[0], objects[0], cameras[1], objects[1]), strict=True):
            assert text == _printed(center, decimals)


def _printed(center, decimals):
    if center is None:
        return "null"
    text = "[" + ", ".join(f"{number:.{decimals}f}" for number in center) + "]"
    return re.sub(r"-(0\.0*)(?=[,\]])", r"\1", text)


def test_compact_is_short(rows):
    assert max(len(write_st_cot(row, style="compact").split()) for row in rows) < 90


def test_compact_texts_are_put_together_from_the_fixed_phrases(rows):
    unused, longest = set(fixed_phrases()), sorted(fixed_phrases(), key=len, reverse=True)
    for row in rows:
        text = write_st_cot(row, style="compact")
        for phrase in longest:
            if phrase in text:
                unused.discard(phrase)
                text = text.replace(phrase, "|")
        # What is left: the anchors, coordinates, the object's name and the answer.
        assert len(re.findall(r"[A-Za-z]+", text)) <= 20, text
    # The one header of two lines is in every text, and so its parts are not met alone; the rest depends on the clips.
    assert not {phrase for phrase in unused if "camera goes" in phrase or "looks" in phrase}


def test_prose_holds_no_coordinates_and_no_arithmetic(rows):
    for row in rows:
        for style in ("full", "compact"):
            text = write_st_cot(row, style=style)
            prose = "\n".join(line for line in text.splitlines() if not line.startswith("- "))
            allowed = {str(row.start_frame), str(row.end_frame), str(row.num_frames - 1)}
            allowed.update(re.findall(r"\d+(?:\.\d+)?", row.answer_text))
            assert set(re.findall(r"\d+(?:\.\d+)?", prose)) <= allowed
            assert not re.search(r"[+=√]|sqrt", prose)


def test_cues_follow_the_motion(rows):
    camera = [row for row in rows if row.task == "camera_relative_direction"]
    assert camera
    for row in camera:
        text = write_st_cot(row)
        assert f"so the camera goes {row.answer_text}" in text
    sizes = {"closer": "looks larger", "farther": "looks smaller"}
    for row in rows:
        if row.task == "object_camera_relative_distance" and row.answer_text in sizes:
            other = sizes["farther" if row.answer_text == "closer" else "closer"]
            assert other not in write_st_cot(row)


def test_phrasing_varies_and_follows_the_row_alone(rows):
    for task in TASKS:
        members = [row for row in rows if row.task == task]
        openings = {re.sub(r"\d+|the \w+ ball", "", write_st_cot(row).splitlines()[0]) for row in members}
        assert len(openings) == 3
    assert write_st_cot(rows[0]) == write_st_cot(replace(rows[0]))


def test_unknown_style_and_rows_without_cues(rows):
    with pytest.raises(InputError, match="unknown style"):
        write_st_cot(rows[0], style="poem")
    with pytest.raises(InputError, match="no visual cues"):
        write_st_cot(replace(rows[0], meta={}))
