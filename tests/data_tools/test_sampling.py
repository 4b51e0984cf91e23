"""The frames that questions name are the ones qwen_vl_utils hands to the model."""

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.sampling import sample_frame_indices


def test_agrees_with_torch_linspace_everywhere():
    torch = pytest.importorskip("torch")
    for num_frames in range(2, 66, 2):
        for total in range(num_frames, 300, 7):
            expected = torch.linspace(0, total - 1, num_frames).round().long().tolist()
            assert sample_frame_indices(total, num_frames) == expected, (total, num_frames)


def test_example_by_hand():
    assert sample_frame_indices(8, 8) == list(range(8))
    assert sample_frame_indices(15, 8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert sample_frame_indices(100, 2) == [0, 99]


@pytest.mark.parametrize(("total", "num_frames"), [(10, 3), (10, 0), (10, -2), (6, 8)])
def test_refuses_odd_none_and_too_many(total, num_frames):
    with pytest.raises(InputError, match="num_frames"):
        sample_frame_indices(total, num_frames)
