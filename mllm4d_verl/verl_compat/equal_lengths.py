"""Position ids of a batch whose sequences are all equally long.

Upstream: verl issue 7899. Its pull request 7901 renames the function to `normalize_3d_position_ids`.
"""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("verl.utils.tensordict_utils", "maybe_fix_3d_position_ids", known={"verl": ">=0.9.0,<=0.9.1"})
def fix_position_ids_of_equal_lengths(stock: Callable) -> Callable:
    """A batch whose sequences all have the same length crashes the actor of a Qwen-VL model.

    Position ids are (4, length) per sequence. TransferQueue packs them with `as_nested_tensor`; where all shapes agree
    the ragged dimension becomes the 4, not the length, and verl only renames it: "split_with_sizes expects split_sizes
    to sum exactly to ... got [4, 4, 4]". Here such a tensor is packed anew along the length.
    """

    def maybe_fix_3d_position_ids(data) -> None:
        positions = data["position_ids"] if "position_ids" in data.keys() else None  # noqa: SIM118 - a TensorDict
        if positions is None or not positions.is_nested or positions.dim() != 3:
            return stock(data)
        values, total = positions.values(), int(positions.offsets()[-1])
        if values.shape[-1] == total and values.shape[0] <= 4:  # (3 or 4, all lengths together): as it should be
            return stock(data)
        from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

        positions._ragged_idx = 1  # (sequences * 4, length) with offsets 0, 4, 8, ...: read it as what it is
        data["position_ids"] = nested_tensor_from_tensor_list(list(positions.unbind()), ragged_idx=2)
        return None

    return maybe_fix_3d_position_ids


@proves(fix_position_ids_of_equal_lengths)
def _sequences_of_equal_length_do_not_come_back(maybe_fix_3d_position_ids: Callable) -> bool:
    import torch
    from tensordict import TensorDict

    equal = [torch.arange(20).reshape(4, 5)] * 3
    data = TensorDict({"position_ids": torch.nested.as_nested_tensor(equal, layout=torch.jagged)}, batch_size=[3])
    maybe_fix_3d_position_ids(data)
    try:
        sequences = data["position_ids"].unbind()
    except RuntimeError:
        return True
    return [tuple(sequence.shape) for sequence in sequences] != [(4, 5)] * 3
