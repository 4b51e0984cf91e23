"""Who trains a text model, or uses vLLM without verl, in an environment with this package, sees stock behaviour."""

import json
from types import SimpleNamespace

import pytest
from interpreter import warm_python

from mllm4d_verl.verl_compat import ADAPTATIONS

VLLM = """
import sys, json
{before}
from vllm.plugins import load_general_plugins
load_general_plugins()
import vllm.model_executor.models.qwen2_5_vl, vllm.model_executor.models.vision
import vllm.model_executor.layers.utils, vllm.v1.worker.gpu_model_runner
from mllm4d_verl.import_hook import _finder
hooked = _finder in sys.meta_path
loaded = "mllm4d_verl.verl_compat" in sys.modules
from mllm4d_verl.verl_compat import ADAPTATIONS
active = [a.name for a in ADAPTATIONS.values()
          if a.module.startswith("vllm") and a._present() and a.active()]
print("FOUND", json.dumps([loaded, hooked, active]))
"""


def vllm_process(before="", **env):
    """Whether adaptations were loaded, whether imports are watched, which adaptations of vLLM are in use."""
    pytest.importorskip("vllm")
    out, _ = warm_python(VLLM.format(before=before), **env)
    return json.loads(out.rsplit("FOUND", 1)[1])


class TestVllm:
    def test_without_verl_nothing_changes(self):
        assert vllm_process(VERL_PLATFORM="cpu") == [False, False, []]

    def test_a_process_that_verls_server_started_is_adapted(self):
        """verl's server imports verl, and its engine's processes get its environment."""
        code = "import verl.workers.rollout.vllm_rollout, os; print('FOUND', os.environ['MLLM4D_ADAPT_VLLM'])"
        out, _ = warm_python(code, VERL_PLATFORM="cpu")
        (mark,) = out.rsplit("FOUND", 1)[1].split()
        *_, active = vllm_process(MLLM4D_ADAPT_VLLM=mark)
        expected = {a.name for a in ADAPTATIONS.values() if a.module.startswith("vllm") and a.where()}
        assert set(active) == expected

    def test_verl_alone_does_not_mark_the_environment(self):
        """A program that imports verl and starts a vLLM of its own."""
        out, _ = warm_python("import verl, os; print('FOUND', os.environ.get('MLLM4D_ADAPT_VLLM'))", VERL_PLATFORM="")
        assert out.rsplit("FOUND", 1)[1].split() == ["None"]

    def test_the_evaluation_adapts_its_engine(self):
        _, hooked, active = vllm_process("from mllm4d_verl.cpu_lane.vllm_plugin import adapt_vllm; adapt_vllm()")
        assert hooked
        assert "give_vllm_second_per_grid" in active


# verl's own SFT dataset on a text chat, its position ids for a rollout and its batches, as one text.
TEXT_MODEL = """
import hashlib, sys, torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
import verl, pandas as pd
from omegaconf import OmegaConf
from tensordict import TensorDict
from types import SimpleNamespace
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.utils.tensordict_utils import maybe_fix_3d_position_ids
from verl.utils.torch_functional import logprobs_from_logits_v2
from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

alphabet = {c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
backend.decoder = decoders.ByteLevel()
backend.add_special_tokens(["<end>"])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>")
tokenizer.chat_template = (
    "{% for m in messages %}{{ m.role }}:{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}")
chat = [{"role": "user", "content": "two and two?"}, {"role": "assistant", "content": "four"}]
pd.DataFrame({"messages": [chat]}).to_parquet(sys.argv[1])
config = OmegaConf.create({"max_length": 64, "truncation": "error", "pad_mode": "no_padding",
                           "ignore_input_ids_mismatch": True})
row = MultiTurnSFTDataset(sys.argv[1], tokenizer, config)[0]
ids = torch.tensor([[5, 6, 7]])
positions = AgentLoopWorker._compute_position_ids(SimpleNamespace(processor=None), ids, torch.ones_like(ids), {})
flat = torch.nested.as_nested_tensor([torch.arange(3), torch.arange(5)], layout=torch.jagged)
batch = TensorDict({"position_ids": flat}, batch_size=[2])
maybe_fix_3d_position_ids(batch)
torch.manual_seed(0)
log_probs = logprobs_from_logits_v2(torch.randn(4, 7), torch.tensor([1, 2, 3, 4]))
print("FOUND", {key: value.tolist() for key, value in sorted(row.items())}, positions.tolist(),
      [part.tolist() for part in batch["position_ids"].unbind()], log_probs.tolist(),
      qwen2_5_vl_dedup_image_tokens([1, 1, 2], None))
"""


def test_a_text_models_data_and_numbers_are_the_same_with_and_without_the_plugin(tmp_path):
    results = []
    for plugins in ("none", "mllm4d"):
        out, _ = warm_python(
            TEXT_MODEL, str(tmp_path / f"{plugins}.parquet"), VERL_USE_EXTERNAL_PLUGINS=plugins, VERL_PLATFORM=""
        )
        results.append(out.rsplit("FOUND", 1)[1])
    assert "'input_ids'" in results[0]
    assert results[0] == results[1]


class TestLogs:
    """What a run with a reward, a dataset and a model of others logs and sends."""

    @pytest.fixture
    def config(self):
        pytest.importorskip("verl")
        from mllm4d_verl.verl_compat.samples import trainer_config

        return trainer_config({"reward.custom_reward_function": {"path": "my_reward.py", "name": "f"}})

    def test_no_component_is_fetched(self, config):
        stock = lambda self, batch, metrics: metrics.update(score=1.0)  # noqa: E731
        metrics = {}
        ADAPTATIONS["log_reward_components"].change(stock)(SimpleNamespace(config=config), None, metrics)
        assert metrics == {"score": 1.0}  # a fetch would have failed on None, with a warning

    @pytest.mark.parametrize(("dataset", "name"), [(None, "actor/rollout_corr/k3_kl"), ("ours", "rollout_corr/k3_kl")])
    def test_names_in_bypass_mode(self, config, dataset, name):
        if dataset:
            config.data.custom_cls.path = "pkg://mllm4d_verl.datasets.rl"
        stock = lambda self, batch, metrics: metrics.update({"actor/rollout_corr/k3_kl": 0.0})  # noqa: E731
        metrics = {}
        ADAPTATIONS["log_bypass_metrics_under_one_name"].change(stock)(SimpleNamespace(config=config), None, metrics)
        assert list(metrics) == [name]

    @pytest.mark.parametrize(("model", "sent"), [("qwen3", "stock"), ("llama", "stock")])
    def test_merged_lora_of_a_text_model(self, model, sent):
        pytest.importorskip("verl")

        def stock(self):
            yield "stock"

        engine = SimpleNamespace(
            engine_config=SimpleNamespace(mixed_precision={"param_dtype": "fp32"}),
            model_config=SimpleNamespace(hf_config=SimpleNamespace(model_type=model)),
        )
        adapted = ADAPTATIONS["send_merged_lora_in_the_trainers_precision"].change(stock)
        assert list(adapted(engine)) == [sent]

    def test_a_reward_of_others_is_not_checked(self, config):
        checked = []
        adapted = ADAPTATIONS["check_reward_before_ray"].change(lambda **kwargs: checked.append(kwargs))
        adapted(config=config)
        assert len(checked) == 1


class TestProcessorsOfOthers:
    def test_metadata_stay_with_ours(self):
        seen = []
        adapted = ADAPTATIONS["pass_metadata_to_processor"].change(lambda *args, **kwargs: seen.append(kwargs))
        video = SimpleNamespace(mllm4d_video_metadata={"fps": 4.0})
        adapted(object(), [{"content": [{"type": "video", "video": video}]}], tokenize=True)
        assert seen == [{"tokenize": True}]
