"""Networks behind the interface of the matchers, on a small one that really matches."""

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.estimation.disparity import DisparityConfig, make_disparity_estimator

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from mllm4d_verl.data_tools.estimation.learned_disparity import LearnedDisparity  # noqa: E402

SHIFT = 7
CAMERA = SimpleNamespace(width=75, height=50)


class BoxMatching(torch.nn.Module):
    """Sums of absolute differences over 7x7 pixels, the best of 16 shifts, a parabola through its neighbours."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        costs = []
        for shift in range(16):
            moved = torch.nn.functional.pad(right, [shift, 0, 0, 0])[..., : right.shape[-1]]
            cost = (left - moved).abs().mean(1, keepdim=True)
            costs.append(torch.nn.functional.avg_pool2d(cost, 7, 1, 3))
        volume = torch.cat(costs, 1)
        best = volume.argmin(1, keepdim=True).clamp(1, 14)
        before, at, after = volume.gather(1, best - 1), volume.gather(1, best), volume.gather(1, best + 1)
        return best + 0.5 * (before - after) / (before - 2 * at + after).clamp_min(1e-3)


class Flow(BoxMatching):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> list[torch.Tensor]:
        return [left, -super().forward(left, right)]


class Features(torch.nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left[..., ::4, ::4]


def make() -> BoxMatching:
    return BoxMatching()


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Shifted texture with a patch in the right eye that nothing in the left one matches; an odd size."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (50, 75 + SHIFT, 3), np.uint8)
    left, right = wide[:, :75].copy(), wide[:, SHIFT:].copy()
    right[20:35, 30:45] = rng.integers(0, 255, (15, 15, 3))
    return left, right


@pytest.fixture
def network_file(tmp_path) -> Path:
    path = tmp_path / "matching.pt"
    torch.jit.save(torch.jit.script(BoxMatching()), str(path))
    return path


def test_a_torchscript_file_matches(network_file, pair):
    config = DisparityConfig(method=f"learned:{network_file}")
    disparity = make_disparity_estimator(config, SimpleNamespace(camera=CAMERA), []).compute(*pair, 0)
    assert disparity.pixels.shape == (50, 75)
    assert disparity.pixels.dtype == np.float32
    clear = disparity.pixels[:, 60:]
    assert np.isfinite(clear).mean() > 0.9
    assert np.nanmedian(np.abs(clear - SHIFT)) < 0.1
    assert 0 < disparity.std_px < 0.5


def test_what_the_other_eye_denies_is_unknown(network_file, pair):
    checked = LearnedDisparity(str(network_file)).compute(*pair, 0)
    unchecked = LearnedDisparity(str(network_file), left_right_max_diff_px=0).compute(*pair, 0)
    patch = np.s_[24:31, 41:48]  # what the patch covers, seen from the left eye
    assert np.isnan(checked.pixels[patch]).mean() > 0.5
    assert np.isfinite(unchecked.pixels[patch]).all()
    assert unchecked.confidence is None
    assert (checked.confidence[np.isnan(checked.pixels)] == 0).all()
    assert checked.confidence[np.isfinite(checked.pixels)].mean() > 0.5


def test_no_match_outside_the_right_image(network_file, pair):
    pixels = LearnedDisparity(str(network_file), left_right_max_diff_px=0).compute(*pair, 0).pixels
    columns = np.arange(75)
    assert not (pixels > columns).any()


def test_a_function_that_makes_the_model(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "a_network", SimpleNamespace(make=make))
    estimator = LearnedDisparity("a_network:make")
    expected = estimator.compute(*pair, 0).pixels
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(estimator)).compute(*pair, 0).pixels, expected)


def test_grey_images(network_file, pair):
    disparity = LearnedDisparity(str(network_file)).compute(pair[0][..., 0], pair[1][..., 0], 0)
    assert np.nanmedian(np.abs(disparity.pixels - SHIFT)) < 0.1


def test_networks_that_do_not_fit(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "a_network", SimpleNamespace(flow=Flow, features=Features, number=lambda: 3))
    with pytest.raises(InputError, match="negative disparity"):
        LearnedDisparity("a_network:flow").compute(*pair, 0)
    with pytest.raises(InputError, match=r"returns \(1, 3, 16, 24\) for images of \(64, 96\)"):
        LearnedDisparity("a_network:features").compute(*pair, 0)
    with pytest.raises(InputError, match="is no model"):
        LearnedDisparity("a_network:number")


def test_networks_that_cannot_be_loaded(tmp_path):
    with pytest.raises(InputError, match="no such network"):
        LearnedDisparity(str(tmp_path / "absent.pt"))
    (tmp_path / "text.pt").write_text("not a network")
    with pytest.raises(InputError, match="not a TorchScript file"):
        LearnedDisparity(str(tmp_path / "text.pt"))
    with pytest.raises(InputError, match="neither a file"):
        LearnedDisparity("network")
    with pytest.raises(InputError, match="cannot be imported"):
        LearnedDisparity("mllm4d_verl.absent:make")
    with pytest.raises(InputError, match="cannot be imported"):
        LearnedDisparity("mllm4d_verl:absent")


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="needs PyTorch"):
        LearnedDisparity("any.pt")
