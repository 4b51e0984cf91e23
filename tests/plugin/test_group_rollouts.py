"""Rollouts that share their prompt's work write the same rows to TransferQueue as verl's own agent loop does."""

from __future__ import annotations

import asyncio
import uuid

import numpy as np
import pytest
import torch

pytest.importorskip("verl")
pytest.importorskip("transfer_queue")

import transfer_queue as tq
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn, get_dataset_class
from verl.workers.rollout.replica import TokenOutput

from mllm4d_verl.data_tools.schema import QARow, write_qa
from mllm4d_verl.group_rollouts import GroupAgentLoopWorker, LocalRewards
from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model
from mllm4d_verl.training.recipe import find_recipe
from mllm4d_verl.verl_compat.cpu_answers import OTHER_ANSWERS

STOCK = AgentLoopWorkerTQ.__ray_metadata__.modified_class
ROLLOUTS = 3
OF_THE_RUN = {"uid", "session_id", "metrics"}  # identifiers and timings


class Engine:
    """Stands in for verl's client of the rollout engine; counts the requests and fails the one it is told to."""

    def __init__(self, fails: int = -1) -> None:
        self.requests: list[dict] = []
        self.fails = fails

    async def generate(self, request_id, prompt_ids, sampling_params, **media):
        number = len(self.requests)
        self.requests.append({"prompt_ids": list(prompt_ids), "sampling_params": sampling_params, **media})
        if "n" in sampling_params:
            await asyncio.sleep(0.01)
            first, *others = [self.answer(index) for index in range(sampling_params["n"])]
            first.extra_fields[OTHER_ANSWERS] = others
            return first
        before = sum(request["prompt_ids"] == list(prompt_ids) for request in self.requests[:-1])
        await asyncio.sleep(0.01)
        if number == self.fails:
            raise RuntimeError("the engine is gone")
        return self.answer(before % ROLLOUTS)

    def answer(self, index):
        tokens = list(range(40, 45 + index))  # lengths differ within a group
        return TokenOutput(token_ids=tokens, log_probs=[-1.0] * len(tokens), extra_fields={"global_steps": 1})


@pytest.fixture(scope="module", params=["qwen3_vl", "qwen2_5_vl"])
def config(request, tmp_path_factory, write_video):
    folder = tmp_path_factory.mktemp(request.param)
    model = build_tiny_model(folder / "model", request.param, hidden=32, layers=1, vision_layers=1)
    write_video(folder / "clip" / "left.mp4", num_frames=12)
    rows = [
        QARow(
            id=f"q{index}",
            clip_id="clip",
            video="clip/left.mp4",
            num_frames=4,
            task="camera_relative_direction",
            start_frame=0,
            end_frame=3,
            question=f"Question {index}: where does the camera go from frame 0 to frame 3 of 3?",
            options=["left", "right", "up", "down"],
            answer="B",
            camera_center=[[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]],
        )
        for index in range(2)
    ]
    data = write_qa(folder / "train.parquet", rows)
    config = find_recipe("tiny_cpu").compose(
        "grpo",
        [
            f"actor_rollout_ref.model.path={model}",
            f"data.train_files={data}",
            f"actor_rollout_ref.rollout.n={ROLLOUTS}",
            "data.max_prompt_length=2048",
        ],
    )
    OmegaConf.resolve(config)
    return config


def roll_out(worker_class, config, monkeypatch, engine=None):
    """What a worker writes for two questions about one clip: rows by question and length, statuses, and all writes."""
    writes = []

    async def put(**write):
        writes.append(write)

    monkeypatch.setattr(tq, "init", lambda *args: None)
    monkeypatch.setattr(tq, "async_kv_put", put)
    monkeypatch.setattr(tq, "async_kv_batch_put", put)

    async def run():
        worker = worker_class(config, engine or Engine(), None, [LocalRewards(config)])
        dataset = get_dataset_class(config.data)(
            data_files=config.data.train_files,
            tokenizer=worker.tokenizer,
            processor=worker.processor,
            config=config.data,
        )
        columns = collate_fn([dataset[0], dataset[1]])
        columns["uid"] = np.array([str(uuid.uuid4()) for _ in range(2)], dtype=object)
        batch = tu.get_tensordict(columns)
        tu.assign_non_tensor_data(batch, "global_steps", 1)
        await worker.generate_sequences(batch)
        while worker.background_tasks:
            await asyncio.sleep(0.01)

    asyncio.run(run())
    rows = {}
    for write in writes:
        for index, key in enumerate(write.get("keys", ())):
            row = {name: of_row(write["fields"], name, index) for name in write["fields"].keys()}  # noqa: SIM118
            assert key == f"{row['uid']}_{row['session_id']}_0"
            rows[row["extra_info"]["id"], len(row["responses"])] = (row, write["tags"][index])
    statuses = [write["tag"]["status"] for write in writes if "tag" in write]
    return rows, statuses, writes


def of_row(fields, name, index):
    value = fields[name]
    if isinstance(value, torch.Tensor):
        return value.unbind()[index]
    item = value[index]
    return getattr(item, "data", item)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return repr(one) == repr(other)


@pytest.mark.parametrize("platform", ["cpu", ""])
def test_rows_are_those_of_verls_agent_loop(config, platform, monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", platform)
    stock, _, _ = roll_out(STOCK, config, monkeypatch)
    ours, statuses, _ = roll_out(GroupAgentLoopWorker, config, monkeypatch)
    assert stock.keys() == ours.keys()
    assert len(ours) == 2 * ROLLOUTS
    for place, (row, tag) in ours.items():
        expected, expected_tag = stock[place]
        assert row.keys() == expected.keys()
        different = [name for name in row if name not in OF_THE_RUN and not same(row[name], expected[name])]
        assert not different, different
        assert tag == expected_tag
    assert statuses.count("finished") == 2


@pytest.mark.parametrize(("platform", "requests"), [("cpu", 2), ("", 2 * ROLLOUTS)])
def test_a_prompt_is_written_at_once_and_asked_for_final_answers(config, platform, requests, monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", platform)
    engine = Engine()
    _, _, writes = roll_out(GroupAgentLoopWorker, config, monkeypatch, engine)
    assert [len(write["keys"]) for write in writes if "keys" in write] == [ROLLOUTS] * 2
    assert len(engine.requests) == requests
    assert all(request["sampling_params"]["detokenize"] is False for request in engine.requests)


def test_a_failed_rollout_leaves_the_others_of_its_prompt(config, monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "")
    rows, statuses, _ = roll_out(GroupAgentLoopWorker, config, monkeypatch, Engine(fails=0))
    assert len(rows) == 2 * ROLLOUTS - 1
    assert sorted(status for status in statuses if status != "running") == ["failure", "finished"]


def test_reward_models_are_refused(config):
    other = OmegaConf.merge(config, {"reward": {"reward_model": {"enable": True}}})
    with pytest.raises(ValueError, match="agent_loop_manager_class"):
        GroupAgentLoopWorker(other, Engine())
