"""Registration: what `import verl` gets, what it refuses, and what it says when it cannot."""

import pytest
from interpreter import python, warm_python

from mllm4d_verl import verl_compat

# A verl that is not accepted: the range is moved away from the one that is installed.
NOT_ACCEPTED = """
from packaging.specifiers import SpecifierSet
import mllm4d_verl.verl_compat.versions as versions
versions.SUPPORTED_VERL = SpecifierSet("==0.0")
"""


class TestVersion:
    @pytest.mark.parametrize(
        "version", ["0.9.0", "0.9.1", "0.9.2", "0.10.0.dev", "0.10.0.dev0", "0.10.0", "0.10.0+cu1"]
    )
    def test_accepted(self, version, monkeypatch):
        monkeypatch.delenv(verl_compat.ALLOW_UNTESTED, raising=False)
        verl_compat.check_version(version)

    @pytest.mark.parametrize("version", ["0.8.9", "0.9.0.dev0", "0.11.0.dev0", "0.11.0", "1.0", "unknown"])
    def test_others_are_refused_with_a_way_out(self, version, monkeypatch):
        monkeypatch.delenv(verl_compat.ALLOW_UNTESTED, raising=False)
        with pytest.raises(verl_compat.UntestedVersionError, match=rf"0\.9\.0 up to .*verl {version}.*MLLM4D_ALLOW"):
            verl_compat.check_version(version)

    def test_user_may_insist(self, monkeypatch):
        monkeypatch.setenv(verl_compat.ALLOW_UNTESTED, "1")
        verl_compat.check_version("99.0")


REGISTERED = """
import verl, mllm4d_verl.plugin as plugin
from verl.plugin.platform import PlatformRegistry, get_platform
import os, sys
print(plugin.failure, "cpu" in PlatformRegistry.registered_names(),
      *map(os.environ.get, ("VERL_ENGINE_DEVICE", "VLLM_CPU_KVCACHE_SPACE")))
print([m for m in ("vllm", "hydra", "mllm4d_verl.datasets", "mllm4d_verl.reward") if m in sys.modules])
"""


class TestRegistration:
    def test_on_the_cpu_lane_what_the_user_set_stays(self):
        """In a fresh process, where `import verl` is the first to import torch."""
        out, _ = python(REGISTERED, VERL_PLATFORM="cpu", VLLM_CPU_KVCACHE_SPACE="7")
        assert out.splitlines()[-2:] == ["None True cuda 7", "[]"]

    def test_elsewhere_the_platform_and_the_environment_are_left_alone(self):
        out, _ = warm_python(REGISTERED, VERL_PLATFORM="")
        assert out.splitlines()[-2:] == ["None False None None", "[]"]

    def test_failure_is_loud_once_and_verl_survives(self):
        code = f"""{NOT_ACCEPTED}
import importlib, verl, mllm4d_verl.plugin as plugin
print(plugin.failure)
importlib.reload(plugin)  # as in a Ray actor, which inherits the environment
"""
        out, error = warm_python(code, VERL_PLATFORM="")
        assert error.count("mllm4d-verl is not active in verl: UntestedVersionError") == 1
        assert "mllm4d doctor" in error
        assert "this is verl 0.9.1" in out

    def test_an_adaptation_that_cannot_be_imported_is_reported(self):
        code = """
import sys
sys.modules["mllm4d_verl.verl_compat"] = None
import verl, mllm4d_verl.plugin as plugin
print(plugin.failure)
"""
        out, error = warm_python(code, VERL_PLATFORM="")
        reported = error.partition("mllm4d-verl is not active in verl: ")[2]
        assert "verl_compat" in reported
        assert "verl_compat" in out


REFUSED = f"""{NOT_ACCEPTED}
import verl
from hydra import compose, initialize_config_module
def use(name, *overrides):
    try:
        with initialize_config_module("verl.trainer.config", version_base=None):
            compose(name, list(overrides))
        print("FOUND composed")
    except Exception as error:
        print("FOUND", type(error).__name__, error)
use("ppo_trainer", "reward=mllm4d_st")
use("tiny_cpu/grpo")
use("ppo_trainer", "data=legacy_data")
use("ppo_trainer", "reward=mllm4d_xt")
"""


def test_a_name_of_ours_on_a_verl_that_is_not_accepted_tells_what_to_do():
    out, _ = warm_python(REFUSED, VERL_PLATFORM="")
    reward, recipe, verls_own, unknown = out.split("FOUND ")[1:]
    for used, name in ((reward, "reward/mllm4d_st"), (recipe, "tiny_cpu/grpo")):
        assert used.startswith(f"ConfigCompositionException {name} is a config of mllm4d-verl, which is not active")
        assert 'pip install "verl>=0.9.0,<0.11"' in used
        assert verl_compat.ALLOW_UNTESTED in used
    assert verls_own.startswith("composed")
    assert unknown.startswith("MissingConfigException")


class TestSearchPath:
    """`python -m verl.trainer.main_ppo reward=mllm4d_st` and the other names, with no other flag."""

    @staticmethod
    def compose(name, *overrides):
        import verl  # noqa: F401 - loads the plugin
        from hydra import compose, initialize_config_module

        with initialize_config_module("verl.trainer.config", version_base=None):
            return compose(name, list(overrides))

    @pytest.mark.parametrize(
        ("group", "preset"), [("mllm4d_st", "mllm4d_st"), ("mllm4d_official", "official"), ("mllm4d_paper", "paper")]
    )
    def test_reward_by_name(self, group, preset):
        from verl.trainer.ppo.reward import get_custom_reward_fn

        config = self.compose("ppo_trainer", f"reward={group}")
        assert config.reward.reward_manager.name == "naive"  # verl's own defaults stay
        score = get_custom_reward_fn(config)("any", "<answer>B</answer>", {"answer": "B"}, {})
        from mllm4d_verl.reward import STReward

        assert STReward(preset)("<answer>B</answer>", {"answer": "B"}).items() <= score.items()

    def test_data_by_name(self):
        from verl.utils.dataset.rl_dataset import get_dataset_class

        config = self.compose("ppo_trainer", "data=mllm4d")
        assert get_dataset_class(config.data).__name__ == "MLLM4DDataset"
        assert config.data.train_batch_size == 1024  # verl's own defaults stay

    def test_grpo(self):
        config = self.compose("mllm4d_grpo", "reward=mllm4d_paper", "data.num_frames=16")
        assert config.algorithm.adv_estimator == "grpo"
        assert config.reward.custom_reward_function.reward_kwargs.preset == "paper"
        assert (config.data.prompt_template, config.data.num_frames) == ("st_cot", 16)

    def test_sft(self):
        config = self.compose("mllm4d_sft")
        assert (config.data.prompt_template, config.data.custom_cls.name) == ("direct", "MLLM4DSFTDataset")
        assert config.optim.lr == 2e-5

    def test_rl_and_sft_read_rows_alike(self):
        rl, sft = self.compose("mllm4d_grpo").data, self.compose("mllm4d_sft").data
        for key in ("media_root", "num_frames", "min_pixels", "max_pixels", "tasks"):
            assert rl[key] == sft[key]
