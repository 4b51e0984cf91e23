"""What a study's YAML may say, and what is said of what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.study.planning import reward_overrides
from mllm4d_verl.study.settings import load_study, study_settings
from mllm4d_verl.training.recipe import find_recipe

ROOT = Path(__file__).resolve().parents[2]


def docs_example() -> str:
    """The YAML in docs/study.md."""
    return (ROOT / "docs" / "study.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]


def recipe_example() -> str:
    return (ROOT / "recipes" / "tiny_cpu" / "study.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", [docs_example, recipe_example])
def test_examples_are_accepted(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rewards.py").write_text(
        "from mllm4d_verl.reward import reward_component\n"
        "@reward_component('x')\ndef x(response, truth):\n    return 1.0\n"
    )
    content = yaml.safe_load(example())
    for evaluation in content["evaluations"].values():
        Path(evaluation["data"]).parent.mkdir(parents=True, exist_ok=True)
        Path(evaluation["data"]).touch()
    study = study_settings(content)
    assert len(study.arms) >= 5
    recipe = find_recipe(study.recipe)
    for arm in study.arms.values():
        recipe.compose(arm.stage, [*reward_overrides(arm), *study.overrides_of(arm.stage), *arm.overrides])


class TestArms:
    def test_an_arm_is_a_name_and_a_reward(self, content):
        study = study_settings(content())
        assert list(study.arms) == ["plain", "paper"]
        assert (study.arms["paper"].reward, study.arms["plain"].weights) == ("paper", {"st_weight": 0.0})
        assert study.baseline_arm == "plain"

    def test_a_list_of_arms_is_the_same(self, content):
        arms = [
            {"name": "plain", "reward": "mllm4d_st", "weights": {"st_weight": 0}},
            {"name": "paper", "reward": "paper"},
        ]
        assert study_settings(content(arms=arms)) == study_settings(content())

    def test_an_arm_may_say_nothing_but_its_name(self, content):
        assert study_settings(content(arms={"recipe": None})).arms["recipe"].stage == "grpo"

    def test_a_reward_of_your_own_is_an_arm_in_three_lines(self, content, tmp_path):
        file = tmp_path / "my_rewards.py"
        file.write_text(
            "from mllm4d_verl.reward import reward_component\n"
            "@reward_component('brief', weight=0.1)\n"
            "def brief(response, truth, *, max_chars: int = 2000):\n"
            "    return float(response.num_chars <= max_chars)\n"
        )
        text = f"mine:\n  reward: mllm4d_st\n  components: [{file}]\n"
        assert study_settings(content(arms=yaml.safe_load(text))).arms["mine"].components == (str(file),)

    def test_overrides_as_a_list_go_to_every_stage(self, content):
        study = study_settings(content(overrides=["data.max_pixels=4096"]))
        assert study.overrides_of("grpo") == study.overrides_of("sft") == ("data.max_pixels=4096",)

    def test_overrides_by_stage(self, content):
        study = study_settings(content(overrides={"all": ["a=1"], "grpo": ["b=2"]}))
        assert (study.overrides_of("grpo"), study.overrides_of("sft")) == (("a=1", "b=2"), ("a=1",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": {}}, r"field arm: unknown setting\. Did you mean 'arms'"),
        ({"arms": {"a": {"rewad": "paper"}}}, r"arms\.a\.rewad: unknown setting\. Did you mean 'reward'"),
        ({"arms": {"a": {"reward": "papr"}}}, r"arms\.a: unknown reward preset 'papr'.*paper"),
        ({"arms": {"a": {"weights": {"st_wight": 1}}}}, r"arms\.a: .*st_wight.*st_weight"),
        ({"arms": {"a": {"components": ["nowhere.py"]}}}, r"arms\.a: .*nowhere\.py"),
        ({"arms": {"a": {"stage": "gpro"}}}, r"arms\.a\.stage: unknown: 'gpro'\. Did you mean 'grpo'"),
        ({"arms": {"a": {"stage": "sft", "reward": "paper"}}}, r"arms\.a: the stage sft has no reward"),
        ({"arms": {"a": {"stages": [{"stag": "sft"}]}}}, r"arms\.a\.stages\[0\]\.stag: unknown setting"),
        ({"arms": {"a": {"overrides": "x=1"}}}, r"arms\.a\.overrides: expected a list"),
        ({"arms": {"start": {}}}, r"arms\.start: an arm cannot be called 'start'"),
        ({"arms": [{"reward": "paper"}]}, r"arms\[0\]: has no name"),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, r"arms\[1\]: the name 'a' occurs twice"),
        ({"arms": {}}, r"arms: is empty"),
        ({"arms": {"a": {"match_cpu_seconds_of": "b"}}}, r"arms\.a\.match_cpu_seconds_of: unknown: 'b'"),
        ({"arms": {"a": {"match_cpu_seconds_of": "a"}}}, r"arms\.a\.match_cpu_seconds_of: the time of 'a' is itself"),
        ({"baseline": "papr"}, r"baseline: unknown: 'papr'"),
        ({"seeds": [0, 0]}, r"seeds: expected different numbers"),
        ({"seeds": ["x"]}, r"seeds: expected a whole number"),
        ({"executor": "slurm"}, r"executor: expected one of local, ray"),
        ({"ray": {"train": {"gpu": 8}}}, r"ray\.train\.gpu: unknown setting\. Did you mean 'gpus'"),
        ({"overrides": {"gpro": []}}, r"overrides: unknown: 'gpro'"),
        ({"evaluations": {"t": {"data": "nowhere.parquet"}}}, r"evaluations\.t\.data: no such file"),
        ({"evaluations": {"t": {}}}, r"evaluations\.t\.data: is missing"),
        ({"preset": "papr"}, r"preset: unknown reward preset"),
    ],
)
def test_faults_name_file_and_field(content, changes, message, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content(**changes)))
    with pytest.raises(InputError, match=rf"(?s)file .*study\.yaml, field {message.removeprefix('field ')}"):
        load_study(file)


def test_a_control_that_is_not_there(content, qa):
    evaluation = {"data": str(qa / "test.parquet"), "control": "blnd"}
    with pytest.raises(InputError, match=r"evaluations\.t\.control: no control 'blnd'"):
        study_settings(content(evaluations={"t": evaluation}))


def test_no_yaml(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        load_study(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(InputError, match="not YAML"):
        load_study(tmp_path / "bad.yaml")
