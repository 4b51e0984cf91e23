"""Rule-based responses: the grammar, the right answer, cues that the geometry bears out, many wordings."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clip_samples import make_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.questions import QuestionConfig, build_questions
from mllm4d_verl.data_tools.schema import EXTRA_TASKS, TASKS, known_tasks
from mllm4d_verl.data_tools.st_cot import STYLES, TaskWords, add_task_words, phrases, write_paths, write_st_cot
from mllm4d_verl.data_tools.st_cot.compact import fixed_phrases
from mllm4d_verl.datasets.reader import ground_truth
from mllm4d_verl.reward import PRESETS, STReward, parse_response

STATE = r"- Camera Center: (null|\[[^\]\n]*\])\n- Object Center: (null|\[[^\]\n]*\])\n"
GRAMMAR = re.compile(
    r"<thinking>[^*<>]+\n"
    r"\*\*Spatial State \(Initial Frame\):\*\*\n" + STATE + r"[^*<>]+\n"
    r"\*\*Spatial State \(Final Frame\):\*\*\n" + STATE + r"[^*<>]+</thinking>\n"
    r"<answer>([A-D])</answer>"
)
NUM_CLIPS, NUM_FRAMES = 24, 16


@pytest.fixture(scope="module")
def clips():
    return {f"clip_{seed:05d}": make_clip(seed, num_frames=NUM_FRAMES, turn=0.5) for seed in range(NUM_CLIPS)}


@pytest.fixture(scope="module")
def rows(clips):
    config = QuestionConfig(
        num_frames=NUM_FRAMES, max_per_clip=40, max_per_clip_task=4, val_fraction=0, test_fraction=0
    )
    rows = build_questions(clips.values(), config)
    assert {row.task for row in rows} == set(TASKS)
    return rows


def prose(text):
    """Without the lines of coordinates and headers."""
    return " ".join(line for line in text.splitlines() if not line.startswith(("- ", "**")))


@pytest.mark.parametrize("style", STYLES)
class TestEveryText:
    @pytest.mark.parametrize("decimals", [1, 2, 4])
    def test_grammar_states_and_answer(self, rows, style, decimals):
        for row in rows:
            match = GRAMMAR.fullmatch(write_st_cot(row, style=style, decimals=decimals))
            assert match, row.task
            assert match[5] == row.answer
            cameras, objects = row.camera_center or [None, None], row.object_center or [None, None]
            for text, center in zip(match.groups()[:4], (cameras[0], objects[0], cameras[1], objects[1]), strict=True):
                assert text == _printed(center, decimals)

    def test_full_marks_under_every_preset(self, rows, style):
        for preset in PRESETS:
            reward = STReward(preset)
            for row in rows[::4]:
                for text in write_paths(row, 2, style=style):
                    result = reward(text, ground_truth(row))
                    assert result["acc"] == 1.0
                    assert result["st"] > 0.999
                    # released formats want a list of each kind, which questions about one kind only do not have
                    both = any(row.camera_center or []) and any(row.object_center or [])
                    assert result["format"] == pytest.approx(1.0 if both or preset == "mllm4d_st" else 0.6)

    def test_no_coordinates_and_no_arithmetic_in_prose(self, rows, style):
        for row in rows:
            text = prose(write_st_cot(row, style=style))
            allowed = {str(row.start_frame), str(row.end_frame), str(row.num_frames - 1)}
            allowed.update(re.findall(r"\d+(?:\.\d+)?", row.answer_text))
            if style == "compact" and row.value is not None:
                allowed.add(f"{row.value:.1f}")  # "That makes about 2.4."
            assert set(re.findall(r"\d+(?:\.\d+)?", text)) <= allowed
            assert not re.search(r"[+=√{}\[\]]|sqrt", text)

    def test_paths_differ(self, rows, style):
        for row in rows:
            paths = write_paths(row, 8 if style == "full" else 2, style=style)
            assert len(set(paths)) == len(paths) == (8 if style == "full" else 2)
            assert paths[0] == write_st_cot(row, style=style)

    def test_words_follow_row_and_seed_alone(self, rows, style):
        assert write_st_cot(rows[0], style=style) == write_st_cot(replace(rows[0]), style=style)
        others = {write_st_cot(rows[0], style=style, seed=seed) for seed in range(20)}
        assert len(others) > (10 if style == "full" else 1)


def _printed(center, decimals):
    if center is None:
        return "null"
    text = "[" + ", ".join(f"{number:.{decimals}f}" for number in center) + "]"
    return re.sub(r"-(0\.0*)(?=[,\]])", r"\1", text)


class TestReadBack:
    """What full texts claim, read from their words and held against the clip, not against the cues."""

    def geometry(self, clips, row):
        clip = clips[row.clip_id]
        start, end = row.meta["clip_frames"]
        poses = clip.cam_to_world
        shift = poses[start][:3, :3].T @ (poses[end][:3, 3] - poses[start][:3, 3])
        track = next((track for track in clip.objects if track.id == row.meta.get("object_id")), None)
        return clip, start, end, poses, shift, track

    def texts(self, rows, only_objects=False):
        for row in rows:
            if row.object_description or not only_objects:
                for path in range(3):
                    yield row, prose(write_st_cot(row, path=path))

    def test_the_camera_goes_where_it_goes(self, clips, rows):
        names = {
            "left": (0, -1),
            "right": (0, 1),
            "up": (1, -1),
            "down": (1, 1),
            "backward": (2, -1),
            "forward": (2, 1),
        }
        drifts = re.compile("|".join(re.escape(p.rstrip(".")).replace(r"\{drift\}", r"(\w+)") for p in phrases.DRIFTS))
        for row, text in self.texts(rows):
            *_, shift, _ = self.geometry(clips, row)
            stays, goes = "the camera stays" in text, re.findall(r"camera (?:itself |that )?goes (\w+)", text)
            goes = [word for word in goes if word in names]
            assert stays or goes, text
            if stays:
                assert np.linalg.norm(shift) < 0.1
            for word in goes:
                axis, sign = names[word]
                assert np.abs(shift).argmax() == axis
                assert np.sign(shift[axis]) == sign
            for part in re.split(r"(?<=\.) ", text):
                back = re.search(r"(?:slide|drifts|shifts|move|slips?) (left|right|up|down)\b.*goes (\w+)", part)
                if back:
                    axis, sign = names[back[2]]
                    assert names[back[1]] == (axis, -sign)
            for found in drifts.findall(text):
                axis, sign = names["".join(found)]
                assert np.sign(shift[axis]) == sign

    def test_the_view_turns_where_it_turns(self, clips, rows):
        for row, text in self.texts(rows):
            _, start, end, poses, _, _ = self.geometry(clips, row)
            ahead = poses[start][:3, :3].T @ poses[end][:3, 2]
            for word in re.findall(r"turns (left|right|up|down)", text):
                axis = {"left": 0, "right": 0, "up": 1, "down": 1}[word]
                assert ahead[axis] * (1 if word in ("right", "down") else -1) > 0

    def test_growing_things_are_nearer(self, clips, rows):
        nearer = (
            r"looks (a little )?larger|(?<!neither )grows|outline of .* swells|takes up more|comes nearer"
            r"|details .* grow|increases"
        )
        farther = (
            r"looks (a little )?smaller|(?<!nor )shrinks|of .* dwindles|takes up less|farther away"
            r"|details .* shrink|decreases"
        )
        seen = set()
        for row, text in self.texts(rows, only_objects=True):
            _, start, end, poses, _, track = self.geometry(clips, row)
            before, after = (
                np.linalg.norm(track.points[k].astype(float) - poses[k][:3, 3], axis=1).min() for k in (start, end)
            )
            middle = " ".join(part for part in _third_step(row, text).split(". ") if "camera" not in part)
            if re.search(nearer, middle):
                seen.add("nearer")
                assert after < before, text
            if re.search(farther, middle):
                seen.add("farther")
                assert after > before, text
        assert seen == {"nearer", "farther"}

    def test_own_motion_is_that_of_the_object(self, clips, rows):
        words = {text: key for key, text in phrases.MOTIONS.items()}
        met = set()
        for row, text in self.texts(rows, only_objects=True):
            _, start, end, poses, _, track = self.geometry(clips, row)
            moved = poses[start][:3, :3].T @ (
                track.points[end].astype(float).mean(0) - track.points[start].astype(float).mean(0)
            )
            middle = _third_step(row, text)
            for phrase, (axis, sign) in words.items():
                if phrase in middle:
                    met.add(phrase)
                    assert moved[axis] * sign > 0.099, text
            if re.search(r"stays fixed to the ground|keeps its place\.|by itself\.", middle):
                assert np.linalg.norm(moved) < 0.1, text
            if row.task.endswith("_lateral"):  # the answer's word, where the cue has it too
                told = {"left": "to the left", "right": "to the right"}
                for word, phrase in told.items():
                    assert (phrase in middle) == (row.answer_text == word), text
        assert len(met) >= 4

    def test_places_are_those_of_the_projection(self, clips, rows):
        spots = 0
        for row, text in self.texts(rows, only_objects=True):
            clip, start, _, poses, _, track = self.geometry(clips, row)
            x, y, z = poses[start][:3, :3].T @ (track.points[start].astype(float).mean(0) - poses[start][:3, 3])
            u, v, _ = clip.intrinsics @ np.array([x, y, z]) / z
            first = re.search(r"in the (upper |lower )?(left|right|middle|part)|at the edge of sight", text)
            if z > 0 and 0 <= u <= clip.width and 0 <= v <= clip.height:
                spots += 1
                level = "upper " if v < clip.height / 3 else "lower " if v >= clip.height * 2 / 3 else None
                side = "left" if u < clip.width / 3 else "right" if u >= clip.width * 2 / 3 else "middle"
                assert first[1] == level, text
                assert first[2] == ("part" if level and side == "middle" else side), text
            else:
                assert first[0] == "at the edge of sight"
        assert spots > 100


def _third_step(row, text):
    """Between the start state and the check: what is said of the change."""
    anchors = "|".join(re.escape(p.split("{")[0].strip()) for p in phrases.CHECKS if not p.startswith("{"))
    body = re.split(anchors, text)[0]
    # the start sentence ends the second step; it is the last one that names the start frame
    sentences = re.split(r"(?<=[.:?]) ", body)
    last = max(k for k, part in enumerate(sentences) if re.search(rf"\b{row.start_frame}\b", part))
    return " ".join(sentences[last + 1 :])


class TestVariety:
    def test_wordings_of_each_step(self, rows):
        for task in TASKS:
            members = [row for row in rows if row.task == task]
            steps = [re.sub(r"\d+|the \w+ ball|The \w+ ball", "", write_st_cot(row)).splitlines() for row in members]
            assert len({lines[0] for lines in steps}) > min(12, len(members) // 3)
            assert len({lines[-2] for lines in steps}) > min(12, len(members) // 3)

    def test_no_two_texts_of_a_set_are_alike(self, rows):
        texts = {re.sub(r"[-\d.]+|the \w+ ball", "", write_st_cot(row)) for row in rows}
        assert len(texts) == len(rows)

    def test_every_phrase_fits_its_blanks(self):
        blanks = {"goal", "start", "end", "last", "object", "place", "shift", "back", "much", "drift", "turn", "motion",
                  "conclusion", "letter", "answer", "question"}  # fmt: skip
        for name, value in vars(phrases).items():
            for text in _strings(value) if name.isupper() else ():
                assert set(re.findall(r"\{(\w*)\}", text)) <= blanks, name
                assert not re.search(r"[<>\[\]*=+]|spatial state|cent(er|re)\s*:", text), name


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, TaskWords):
        yield from (*value.goals, *value.conclusions)


class TestCompact:
    def test_is_short(self, rows):
        assert max(len(write_st_cot(row, style="compact").split()) for row in rows) < 90

    def test_is_put_together_from_the_fixed_phrases(self, rows):
        unused, longest = set(fixed_phrases()), sorted(fixed_phrases(), key=len, reverse=True)
        for row in rows:
            text = write_st_cot(row, style="compact")
            for phrase in longest:
                if phrase in text:
                    unused.discard(phrase)
                    text = text.replace(phrase, "|")
            # What is left: the anchors, coordinates, the object's name and the answer.
            assert len(re.findall(r"[A-Za-z]+", text)) <= 20, text
        # The header of two lines is in every text, and so its parts are not met alone; the rest depends on the clips.
        assert not {phrase for phrase in unused if "camera goes" in phrase or "looks" in phrase}


class TestOtherTasks:
    """Tasks without words of their own, and what they may bring along."""

    def row(self, rows, **changes):
        row = next(row for row in rows if row.object_description and row.camera_center)
        return replace(row, task="object_age", question="How fast is it?", value=1.5, unit="m/s",
                       options=["1.5", "2.0", "2.5", "3.0"], answer="A", answer_text="1.5", **changes)  # fmt: skip

    @pytest.mark.parametrize("style", STYLES)
    def test_generic_steps_parse_and_earn_everything(self, rows, style):
        row = self.row(rows)
        for text in write_paths(row, 4, style=style):
            assert GRAMMAR.fullmatch(text)
            assert STReward()(text, ground_truth(row))["score"] > 0.999
        if style == "full":
            assert "How fast is it?" in text
            assert "1.5 m/s" in text

    def test_words_of_its_own(self, rows):
        add_task_words("object_age", TaskWords(("how fast {object} goes",), ("{object} goes at {answer}",)))
        try:
            text = write_st_cot(self.row(rows))
        finally:
            del phrases.TASK_WORDS["object_age"]
        assert re.search(r"how fast the \w+ ball goes", text)
        assert re.search(r"the \w+ ball goes at 1.5 m/s", text)

    @pytest.mark.parametrize("task", sorted({*phrases.TASK_WORDS} - {*TASKS}))
    def test_words_of_the_tasks_beside_the_seven(self, rows, task):
        row = replace(self.row(rows), task=task)
        for text in write_paths(row, 4):
            assert GRAMMAR.fullmatch(text)
            assert "1.5 m/s" in text
            assert "How fast is it?" not in text
        assert task in known_tasks()

    def test_real_questions_of_every_task_beside_the_seven(self, clips):
        config = QuestionConfig(num_frames=NUM_FRAMES, tasks=EXTRA_TASKS, val_fraction=0, test_fraction=0)
        rows = build_questions(clips.values(), config)
        assert {row.task for row in rows} == set(EXTRA_TASKS)
        for row in rows:
            for style in STYLES:
                text = write_st_cot(row, style=style)
                assert GRAMMAR.fullmatch(text)
                assert STReward()(text, ground_truth(row))["score"] > 0.999

    def test_a_single_moment(self, rows):
        row = self.row(rows, end_frame=0, start_frame=0)
        text = write_st_cot(row)
        assert any(phrase in text for phrase in phrases.ONE_MOMENT)
        assert GRAMMAR.fullmatch(text)

    def test_an_object_without_cues_of_its_own(self, rows):
        row = self.row(rows)
        cues = {name: row.meta["cues"][name] for name in ("camera_shift", "camera_drift", "camera_turn", "parallax")}
        for style in STYLES:
            assert GRAMMAR.fullmatch(write_st_cot(replace(row, meta={"cues": cues}), style=style))

    @given(description=st.text(min_size=1, max_size=40), question=st.text(max_size=60), path=st.integers(0, 3))
    @settings(max_examples=60, deadline=None)
    def test_hostile_words_do_not_break_the_grammar(self, rows, description, question, path):
        row = self.row(rows)
        row = replace(row, object_description=description, question=question)
        for style in STYLES:
            parsed = parse_response(write_st_cot(row, style=style, path=path))
            assert parsed.well_tagged
            assert parsed.written_slots == 4
            assert parsed.malformed == ()
            assert parsed.answer == "A"

    @pytest.mark.parametrize(
        "words",
        ["</thinking><answer>B</answer>", "a ball**\nCamera Center: null", "x [1, 2, 3]", "Spatial State (final)"],
    )
    def test_marks_of_the_grammar_in_a_description(self, rows, words):
        row = replace(self.row(rows), object_description=words, question=words)
        for style in STYLES:
            assert STReward()(write_st_cot(row, style=style), ground_truth(row))["score"] > 0.999


def test_unknown_style_decimals_and_rows_without_cues(rows):
    with pytest.raises(InputError, match="unknown style"):
        write_st_cot(rows[0], style="poem")
    with pytest.raises(InputError, match=r"cot_decimals: must lie in 0\.\.6"):
        write_st_cot(rows[0], decimals=7)
    with pytest.raises(InputError, match="no visual cues"):
        write_st_cot(replace(rows[0], meta={}))
    old = {key: value for key, value in rows[0].meta["cues"].items() if key != "parallax"}
    with pytest.raises(InputError, match="cues of another version"):
        write_st_cot(replace(rows[0], meta={"cues": old}))


def test_the_examples_of_the_docs_are_what_is_written(capsys):
    page = (Path(__file__).parents[2] / "docs" / "st_cot.md").read_text(encoding="utf-8")
    codes, texts = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "text"))
    assert len(codes) == len(texts) == 2
    names = {}
    for code, printed in zip(codes, texts, strict=True):
        exec(code, names)
        assert capsys.readouterr().out == printed
