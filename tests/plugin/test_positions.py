"""Position ids: Qwen2.5-VL's follow the time between frames, and batches of equal lengths survive."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from mllm4d_verl.verl_compat.equal_lengths import fix_position_ids_of_equal_lengths
from mllm4d_verl.verl_compat.sft_rope import use_the_models_own_rope_index
from mllm4d_verl.video.positions import qwen2_5_vl_positions

pytestmark = pytest.mark.pins


@pytest.fixture(scope="session")
def qwen2_5_processor(tmp_path_factory):
    from verl.utils import hf_processor

    from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model

    folder = tmp_path_factory.mktemp("qwen2_5_vl")
    return hf_processor(str(build_tiny_model(folder, "qwen2_5_vl", hidden=32, layers=1, vision_layers=1)))


def slow_positions(parts, tokens_per_second, merge):
    """The plain reading of the formula: parts are ("text", length) or ("video", (t, h, w), seconds)."""
    rows, start = [], 0
    for part in parts:
        if part[0] == "text":
            own = [(start + i,) * 3 for i in range(part[1])]
        else:
            pairs, height, width = part[1]
            own = [
                (start + int(k * part[2] * tokens_per_second), start + y, start + x)
                for k in range(pairs)
                for y in range(height // merge)
                for x in range(width // merge)
            ]
        rows += own
        start = max(max(row) for row in own) + 1
    return torch.tensor(rows).T


def types_of(parts, merge=2):
    return [
        kind
        for part in parts
        for kind in ([0] * part[1] if part[0] == "text" else [2] * (int(np.prod(part[1])) // merge**2))
    ]


@pytest.mark.parametrize("seconds", [0.0625, 0.3125, 0.5, 2 / 3, 1.0, 2.5])
@pytest.mark.parametrize("grid", [(1, 4, 4), (6, 4, 8), (16, 2, 2)])
def test_qwen2_5_vl_positions(seconds, grid):
    parts = [("text", 5), ("video", grid, seconds), ("text", 3), ("video", (2, 2, 4), 1.0), ("text", 2)]
    positions = qwen2_5_vl_positions(
        types_of(parts), iter(()), iter([(grid, seconds), ((2, 2, 4), 1.0)]), tokens_per_second=2, spatial_merge_size=2
    )
    assert torch.equal(positions, slow_positions(parts, 2, 2))


def test_image_has_no_time():
    positions = qwen2_5_vl_positions([0, 1, 1, 0], iter([(1, 2, 4)]), iter(()), 2, 2)
    assert positions.tolist() == [[0, 1, 1, 3], [0, 1, 1, 3], [0, 1, 2, 3]]


def test_processor_of_verl_has_them(qwen2_5_processor):
    """Padding on the left, fractions of a second, text after the last frame."""
    ids = torch.tensor([[0, 0, 7, 8, 8, 8, 9]])
    types = torch.tensor([[0, 0, 0, 2, 2, 2, 0]])
    positions, deltas = qwen2_5_processor.get_rope_index(
        ids,
        types,
        video_grid_thw=torch.tensor([[3, 2, 2]]),
        second_per_grid_ts=torch.tensor([0.5]),
        attention_mask=torch.tensor([[0, 0, 1, 1, 1, 1, 1]]),
    )
    assert positions[0, 0].tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert positions[1, 0].tolist() == [0, 0, 0, 1, 1, 1, 4]
    assert deltas.tolist() == [[0]]


def test_agent_loop_learns_the_time_between_frames(qwen2_5_processor):
    """Through verl's own method: half a second between frame pairs is one position of two a second."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

    worker = SimpleNamespace(processor=qwen2_5_processor)
    ids = torch.full((1, 5), 7)
    ids[0, 1:4] = qwen2_5_processor.video_token_id
    inputs = {
        "video_grid_thw": torch.tensor([[3, 2, 2]]),
        "second_per_grid_ts": torch.tensor([0.5]),
        "mm_token_type_ids": ids,
    }
    positions = AgentLoopWorker._compute_position_ids(worker, ids, torch.ones_like(ids), inputs)
    assert positions.shape == (1, 4, 5)
    assert positions[0, 1].tolist() == [0, 1, 2, 3, 4]


def test_sft_of_qwen3_vl_with_several_frames(qwen3_processor):
    tokenizer = qwen3_processor.tokenizer
    start, end, pad = tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>", "<|video_pad|>"])
    ids = torch.tensor([5, start, pad, end, 5, start, pad, end, 6])
    positions = use_the_models_own_rope_index.current()(
        qwen3_processor, ids, video_grid_thw=torch.tensor([[2, 2, 2]]), attention_mask=torch.ones_like(ids)
    )
    assert positions.tolist() == [list(range(9))] * 3


class TestEqualLengths:
    @staticmethod
    def batch(lengths, rows=4):
        sequences = [torch.arange(rows * n).reshape(rows, n) + 100 * i for i, n in enumerate(lengths)]
        # as TransferQueue packs them
        packed = torch.nested.as_nested_tensor(sequences, layout=torch.jagged)
        return sequences, TensorDict({"position_ids": packed}, batch_size=[len(lengths)])

    @pytest.mark.parametrize("rows", [3, 4])
    @pytest.mark.parametrize("lengths", [[5, 5, 5], [5], [4, 4], [1, 1]])
    def test_sequences_come_back(self, lengths, rows):
        sequences, data = self.batch(lengths, rows)
        fix_position_ids_of_equal_lengths.current()(data)
        restored = data["position_ids"].unbind()
        assert [tuple(s.shape) for s in restored] == [(rows, n) for n in lengths]
        assert all(torch.equal(a, b) for a, b in zip(restored, sequences, strict=True))

    def test_flat_positions_stay(self):
        flat = torch.nested.as_nested_tensor([torch.arange(3), torch.arange(5)], layout=torch.jagged)
        data = TensorDict({"position_ids": flat}, batch_size=[2])
        fix_position_ids_of_equal_lengths.current()(data)
        assert [s.tolist() for s in data["position_ids"].unbind()] == [[0, 1, 2], [0, 1, 2, 3, 4]]

    def test_batch_without_positions(self):
        fix_position_ids_of_equal_lengths.current()(TensorDict({}, batch_size=[2]))
