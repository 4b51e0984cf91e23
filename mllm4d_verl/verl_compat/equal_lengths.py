"""Position ids of a batch whose sequences are all equally long."""

from __future__ import annotations

from collections.abc import Callable

from mllm4d_verl.verl_compat.adaptation import adapts, proves


@adapts("verl.utils.tensordict_utils", "maybe_fix_3d_position_ids")
def fix_position_ids_of_equal_lengths(stock: Callable) -> Callable:
    """A batch whose sequences all have the same length crashes the actor of a Qwen-VL model.

    Position ids are (4, length) per sequence. TransferQueue packs them with `as_nested_tensor`; where all shapes agree
    the ragged dimension becomes the 4, not the length, and verl only renames it: "split_with_sizes expects split_sizes
    to sum exactly to ... got [4, 4, 4]". Here such a tensor is packed anew along the length.
    """

    def maybe_fix_3d_position_ids(data) -> None:
        if "position_ids" not in data.keys():  # noqa: SIM118 - a TensorDict has no `in`
            return
        positions = data["position_ids"]
        if not (positions.is_nested and positions.dim() == 3):
            return
        values, total = positions.values(), int(positions.offsets()[-1])
        if values.shape[-1] == total and values.shape[0] <= 4:  # (3 or 4, all lengths together): as it should be
            stock(data)
            return
        from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

        positions._ragged_idx = 1  # (sequences * 4, length) with offsets 0, 4, 8, ...: read it as what it is
        data["position_ids"] = nested_tensor_from_tensor_list(list(positions.unbind()), ragged_idx=2)

    return maybe_fix_3d_position_ids


@proves(fix_position_ids_of_equal_lengths)
def _stock_cannot_read_equal_lengths(stock: Callable) -> bool:
    import torch
    from tensordict import TensorDict

    equal = [torch.arange(20).reshape(4, 5)] * 3
    data = TensorDict({"position_ids": torch.nested.as_nested_tensor(equal, layout=torch.jagged)}, batch_size=[3])
    stock(data)
    try:
        sequences = data["position_ids"].unbind()
    except RuntimeError:
        return True
    return [tuple(sequence.shape) for sequence in sequences] != [(4, 5)] * 3
