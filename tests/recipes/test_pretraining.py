"""What the tiny model is pretrained on, and that a few steps of it run, repeat, and leave a checkpoint that loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("verl")

from mllm4d_verl.data_tools.schema import LETTERS
from mllm4d_verl.recipes.tiny_cpu.lessons import Motion, drill, facts_of, make_lessons, way_of


class TestFacts:
    def test_tells_where_a_moving_camera_goes(self):
        motion = Motion(
            np.array([0.0, 0.0, 1.42]), np.array([0.1, 0.6, 3.0]), np.array([0.1, 0.6, 3.0]), "the red box", False
        )
        lines = facts_of(motion, None, np.random.default_rng(0))
        assert lines[0].endswith("so the camera goes forward.\n")
        assert {"The camera goes forward 1.4 meters.\n", "The camera ends at [0.0, 0.0, 1.4].\n"} < set(lines)
        assert "The camera travels 1.4 meters.\n" in lines
        assert {line.replace("box", "object") for line in lines[4:]} == {
            "The red object starts at [0.1, 0.6, 3.0].\n",
            "The red object is 3.1 meters away at first.\n",  # |(0.1, 0.6, 3.0)|
            "The red object is 1.7 meters away at the end.\n",  # |(0.1, 0.6, 1.58)|
        }

    def test_tells_where_a_moving_object_goes(self):
        motion = Motion(np.zeros(3), np.array([0.0, 0.5, 3.0]), np.array([0.0, 0.5, 1.8]), "the blue sphere", True)
        cues = {"size": "larger", "start_place": "middle", "end_place": "middle"}
        lines = facts_of(motion, cues, np.random.default_rng(0))
        assert lines[0].endswith("so the camera stays.\n")
        told = {line.replace("sphere", "object") for line in lines}
        assert {"The blue object looks larger.\n", "The blue object goes closer 1.2 meters.\n"} < told
        assert {"The blue object starts at [0.0, 0.5, 3.0].\n", "The blue object ends at [0.0, 0.5, 1.8].\n"} < told

    @pytest.mark.parametrize(
        ("shift", "way"),
        [
            ((-1, 0.2, 0.1), "left"),
            ((1, 0, 0), "right"),
            ((0, -1, 0), "up"),
            ((0, 1, 0), "down"),
            ((0, 0, -1), "backward"),
            ((0.3, 0, 1), "forward"),
        ],
    )
    def test_axes_are_those_of_the_questions(self, shift, way):
        assert way_of(np.array(shift, dtype=float)) == way


class TestDrill:
    def test_the_letter_is_the_answers(self):
        rng = np.random.default_rng(0)
        for turn in range(200):
            prompt, reply = drill(rng, with_numbers=turn % 2 == 0)
            listed = prompt.split("Options: ")[1].split(".\n")[0].split(", ")
            option, letter = reply.strip().split(".\n")
            assert option.strip() in listed
            assert letter == option[-1]
            assert [option[-1] for option in listed] == list(LETTERS[: len(listed)])
            if turn % 2:
                assert prompt.split("Seen: ")[1].split(".")[0] == option[:-2].strip()

    def test_the_nearest_number_is_mostly_the_answer(self):
        rng = np.random.default_rng(0)
        nearest = []
        for _ in range(300):
            prompt, reply = drill(rng, with_numbers=True)
            listed = prompt.split("Options: ")[1].split(".\n")[0].split(", ")
            estimate = float(prompt.split("about ")[1].split(".\n")[0])
            best = min(listed, key=lambda option: abs(float(option.split()[0]) - estimate))
            nearest.append(best == reply.strip().split(".\n")[0])
        assert np.mean(nearest) > 0.9


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    from mllm4d_verl.data_tools.questions import QuestionConfig
    from mllm4d_verl.training.demo_model import make_pretraining_world

    folder = tmp_path_factory.mktemp("pretraining")
    settings = {"preset": "tiny_stereo", "clips": 8, "width": 64, "height": 64, "num_frames": 4, "fps": 4.0}
    make_pretraining_world(settings, QuestionConfig(num_frames=4, max_per_clip_task=1), folder, seed=0)
    return folder


class TestPretraining:
    def test_every_clip_gets_a_caption_and_exercises_have_no_video(self, world):
        lessons = make_lessons(world, world / "qa")
        assert len(lessons.captions) == len({row.clip_id for row in lessons.captions}) >= 6
        assert all("<video>" not in prompt and "<answer>" in reply for prompt, reply in lessons.exercises)
        told = [row.meta["messages"][1]["content"] for row in lessons.captions]
        assert ["".join(lines) for lines in lessons.facts] == told

    def test_the_shorter_name_is_used_as_well(self, world):
        lines = [line for lines in make_lessons(world, world / "qa").facts for line in lines]
        assert {" object " in line for line in lines if not line.startswith(("The camera", "Near"))} == {True, False}

    def test_lines_of_a_caption_change_places_and_nothing_else(self, world, tmp_path):
        from verl.utils import hf_processor

        from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model
        from mllm4d_verl.recipes.tiny_cpu.pretraining import _encode_captions, _shuffled

        processor = hf_processor(str(build_tiny_model(tmp_path, max_frame_side=64)))
        lessons = make_lessons(world, world / "qa")
        samples = _encode_captions(processor, lessons, world / "qa", 4096)
        tokenizer, rng, orders = processor.tokenizer, np.random.default_rng(0), set()
        for sample, lines in zip(samples, lessons.facts, strict=True):
            facts = [tokenizer(line, add_special_tokens=False)["input_ids"] for line in lines]
            moved = _shuffled(sample, facts, tokenizer.eos_token_id, rng)
            prompt = int(sample.weights.argmax())
            assert moved.ids[:prompt].equal(sample.ids[:prompt])
            assert moved.positions[0].tolist() == list(range(len(moved.ids)))
            assert (moved.positions[1:, prompt:] - moved.positions[1:, prompt - 1 : -1] == 1).all()
            assert moved.weights.sum() == len(moved.ids) - prompt
            text = tokenizer.decode(moved.ids[prompt:-1])
            told = text.splitlines(keepends=True)
            assert len(set(told)) == len(told) >= len(lines) / 2
            assert set(told) <= set(lines)
            orders.add(tuple(lines.index(line) for line in told))
        assert len(orders) > 1

    def test_repeats_and_leaves_a_checkpoint_with_other_weights(self, world, tmp_path):
        from safetensors.numpy import load_file

        from mllm4d_verl.training.demo_model import make_model

        steps = {"held_out": 2, "tower_steps": 3, "tower_batch": 2, "language_steps": 2, "captions": 2, "exercises": 2}
        steps |= {"reading_steps": 2}
        size = {"hidden": 64, "layers": 2, "vision_hidden": 64, "max_frame_side": 64, "fan_in_init": True}
        size |= {"associative_init": True, "vocab_size": 2048}
        figures, weights = [], []
        for name in ("one", "two"):
            out = tmp_path / name
            figures.append(make_model(size, {**steps, "drills": 2, "threads": 1}, [], out, world, seed=3))
            weights.append(load_file(out / "model.safetensors"))
        assert figures[0] == figures[1]
        assert all(0 <= figures[0][name] <= 1 for name in ("colour", "shape", "caption_tokens", "exercises", "drills"))
        assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
        words = weights[0]["model.language_model.embed_tokens.weight"]
        assert words.std() == pytest.approx(1.2, rel=0.1)
