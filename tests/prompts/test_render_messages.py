"""What each template writes, and what a wrong template or row is told."""

import json
import signal

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.prompts import list_templates, render, render_conversation, render_messages

ROW = {
    "id": "q0",
    "question": "How did the camera move between frame 2 and frame 9 of 31?",
    "options": ["left", "right", "up", "down"],
    "answer": "B",
    "response": "<thinking>seen</thinking>\n<answer>B</answer>",
    "object_description": None,
    "meta": None,
}
OWN = [
    {"role": "user", "content": "<video>\nWhere?"},
    {"role": "assistant", "content": "There."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


class TestTemplates:
    def test_names(self):
        assert list_templates() == ["brief", "dataset", "direct", "st_cot", "st_cot_short"]

    def test_st_cot_has_a_compact_system_turn_with_the_whole_grammar(self):
        system, user = render_messages(ROW, "st_cot")
        assert (system["role"], user["role"]) == ("system", "user")
        assert len(system["content"].split()) <= 110
        for part in ("<thinking>", "</thinking>", "<answer>", "(Initial Frame)", "(Final Frame)", "null", "(5)"):
            assert part in system["content"]

    def test_user_turn_is_video_question_options_instruction(self):
        lines = render_messages(ROW, "st_cot")[1]["content"].split("\n")
        assert lines[:2] == ["<video>", ROW["question"]]
        assert lines[2:6] == ["A. left", "B. right", "C. up", "D. down"]
        assert "<answer></answer>" in lines[6]
        assert len(lines) == 7

    def test_direct_asks_for_the_letter_only(self):
        (user,) = render_messages(ROW, "direct")
        assert user["content"].endswith("Answer with the option's letter directly.")
        assert "thinking" not in user["content"]

    @pytest.mark.parametrize("template", ["brief", "st_cot_short"])
    def test_short_templates_write_each_option_before_its_letter(self, template):
        (user,) = render_messages(ROW, template)
        lines = user["content"].split("\n")
        assert lines[:3] == ["<video>", ROW["question"], "Options: left A, right B, up C, down D."]
        assert "<answer></answer>" in lines[3]

    def test_brief_trains_the_answers_text_and_letter(self):
        target = render_conversation({**ROW, "answer_text": "right"}, "brief")[-1]
        assert target == {"role": "assistant", "content": "The answer is right B.\n<answer>B</answer>"}

    def test_text_is_not_html_escaped(self):
        assert "x < 3 & 'y'" in render_messages({**ROW, "question": "x < 3 & 'y'?"}, "direct")[0]["content"]

    def test_placeholder_that_leads_the_question_is_not_doubled(self):
        assert render_messages({**ROW, "question": "<video>Where?"}, "direct")[0]["content"].count("<video>") == 1

    def test_a_question_is_data_not_a_template(self):
        assert "{{ answer }}" in render_messages({**ROW, "question": "{{ answer }}?"}, "direct")[0]["content"]


class TestTargets:
    def test_st_cot_trains_the_response(self):
        assert render_conversation(ROW, "st_cot")[-1] == {"role": "assistant", "content": ROW["response"]}

    def test_direct_trains_the_letter(self):
        assert render_conversation(ROW, "direct")[-1] == {"role": "assistant", "content": "B"}

    def test_prompt_is_the_rl_prompt(self):
        for template in ("st_cot", "direct"):
            assert render_conversation(ROW, template)[:-1] == render_messages(ROW, template)

    def test_st_cot_without_response_is_refused(self):
        with pytest.raises(InputError, match="response"):
            render_conversation({**ROW, "response": None}, "st_cot")

    def test_a_placeholder_in_the_target_is_refused(self):
        with pytest.raises(InputError, match="placeholders"):
            render_conversation({**ROW, "response": "the <video> shows"}, "st_cot")


class TestDatasetTemplate:
    @pytest.mark.parametrize("meta", [{"messages": OWN}, json.dumps({"messages": OWN})])
    def test_own_messages(self, meta):
        assert render_messages({**ROW, "meta": meta}, "dataset") == OWN[:3]
        assert render_conversation({**ROW, "meta": meta}, "dataset") == OWN

    def test_prompt_only_messages_train_the_response(self):
        row = {**ROW, "meta": {"messages": OWN[:1]}}
        assert render_conversation(row, "dataset") == [OWN[0], {"role": "assistant", "content": ROW["response"]}]

    def test_an_imported_answer_is_trained_as_it_was_written(self):
        row = {**ROW, "response": None, "meta": {"messages": OWN[:1], "raw_answer": "B. right"}}
        assert render_conversation(row, "dataset")[-1]["content"] == "B. right"

    @pytest.mark.parametrize("meta", [None, "{}", "[1]", "{", {"messages": [{"role": "user"}]}])
    def test_absent_or_broken_messages_are_refused(self, meta):
        with pytest.raises(InputError, match="field meta"):
            render_messages({**ROW, "meta": meta}, "dataset")


class TestOwnTemplates:
    def test_folder(self, tmp_path):
        (tmp_path / "user.jinja").write_text("<video> {{ question }} {{ lettered_options[1][0] }}")
        assert render_messages(ROW, str(tmp_path))[0]["content"] == f"<video> {ROW['question']} B"
        assert render_conversation(ROW, str(tmp_path))[-1]["content"] == ROW["response"]

    def test_lone_file(self, tmp_path):
        path = tmp_path / "mine.jinja"
        path.write_text("<video>{{ question }}")
        assert render_messages(ROW, str(path)) == [{"role": "user", "content": f"<video>{ROW['question']}"}]

    def test_null_column_never_prints_none(self, tmp_path):
        path = tmp_path / "mine.jinja"
        path.write_text("<video>{{ object_description }}")
        with pytest.raises(InputError, match="object_description"):
            render_messages(ROW, str(path))

    def test_syntax_error_names_the_line(self, tmp_path):
        path = tmp_path / "mine.jinja"
        path.write_text("<video>\n{% if %}")
        with pytest.raises(InputError, match=r"mine\.jinja, row 2"):
            render_messages(ROW, str(path))

    def test_folder_without_user_turn(self, tmp_path):
        with pytest.raises(InputError, match=r"no user\.jinja"):
            render_messages(ROW, str(tmp_path))


class TestMistakes:
    def test_unknown_template_suggests_the_nearest(self):
        with pytest.raises(InputError, match="Did you mean 'st_cot'"):
            render_messages(ROW, "stcot")

    @pytest.mark.parametrize("question", ["See <image>?", "Before <video> after?"])
    def test_surplus_placeholder_is_refused(self, question):
        with pytest.raises(InputError, match="placeholders"):
            render_messages({**ROW, "question": question}, "direct")

    def test_template_that_forgets_the_video_is_refused(self, tmp_path):
        path = tmp_path / "mine.jinja"
        path.write_text("{{ question }}")
        with pytest.raises(InputError, match="none"):
            render_messages(ROW, str(path))


class TestSandbox:
    """A template is a text that people pass on; it may not run code, nor go on for ever."""

    def render(self, folder, text):
        (folder / "user.jinja").write_text(text)
        return render_messages(ROW, str(folder))

    @pytest.mark.parametrize(
        "text",
        [
            "<video>{{ cycler.__init__.__globals__.os.popen('id').read() }}",
            "<video>{{ question.__class__.__mro__ }}",
            "<video>{{ ''.__class__.__base__.__subclasses__() }}",
            "<video>{% set _ = options.append('up') %}",
        ],
    )
    def test_reaches_no_python_attributes_and_changes_nothing(self, tmp_path, text):
        with pytest.raises(InputError, match="may not") as caught:
            self.render(tmp_path, text)
        assert caught.value.row == "q0"

    def test_names_the_line_of_a_fault(self, tmp_path):
        with pytest.raises(InputError) as caught:
            self.render(tmp_path, "<video>\n{{ question }}\n{% for %}")
        assert caught.value.row == 3

    @pytest.mark.parametrize(
        "text",
        [
            "<video>{% for i in range(10000000) %}a{% endfor %}",
            "<video>{% for i in range(99999) %}{% for j in range(99999) %}abcdefghij{% endfor %}{% endfor %}",
        ],
    )
    def test_ends(self, tmp_path, text):
        with pytest.raises(InputError, match=r"may not|writes more than"):
            self.render(tmp_path, text)

    @pytest.mark.parametrize(
        "text",
        [
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}<video>",
            "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}<video>{{ m(60) }}",
        ],
    )
    def test_ends_where_it_writes_nothing(self, tmp_path, text, monkeypatch):
        monkeypatch.setattr(render, "_RENDER_SECONDS", 0.3)
        with pytest.raises(InputError, match="goes on for more than"):
            self.render(tmp_path, text)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("<video>\n{{ 1 / 0 }}", "fails in line 2: ZeroDivisionError"),
            ("<video>{{ 1 + 'a' }}", "fails in line 1: TypeError"),
            ("<video>{% include 'nofile' %}", "TemplateNotFound"),
            ("<video>{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ],
    )
    def test_a_fault_in_it_is_named(self, tmp_path, text, problem):
        with pytest.raises(InputError, match=problem) as caught:
            self.render(tmp_path, text)
        assert caught.value.row == "q0"
        assert str(tmp_path / "user.jinja") in str(caught.value)

    def test_it_is_utf_8(self, tmp_path):
        (tmp_path / "user.jinja").write_bytes(b"<video>\xff")
        with pytest.raises(InputError, match="not UTF-8"):
            render_messages(ROW, str(tmp_path))
