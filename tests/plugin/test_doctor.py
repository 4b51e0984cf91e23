"""The parts of the doctor that need neither Ray nor vLLM; the whole of it is in tests/e2e/test_doctor.py."""

import pytest

from mllm4d_verl import doctor


@pytest.fixture
def requires(monkeypatch):
    """Let the distribution ask for other packages."""

    def ask(*requirements):
        monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: list(requirements))

    return ask


class TestVersions:
    def test_this_installation(self, monkeypatch):
        monkeypatch.setenv("VERL_PLATFORM", "cpu")
        (check,) = doctor.examine_versions()
        assert (check.status, check.name) == (doctor.OK, "versions (cpu lane)")
        assert "verl 0.9.1" in check.detail

    def test_missing_and_wrong_packages_are_named(self, requires):
        requires("no-such-package>=1", "numpy<1", "pandas")
        (check,) = doctor.examine_versions()
        assert check.status == doctor.FAILED
        assert "no-such-package is missing" in check.detail
        assert "is not <1" in check.detail
        assert "pandas" not in check.detail
        assert "pip install" in check.remedy

    def test_other_lane_is_not_asked_for(self, requires, monkeypatch):
        monkeypatch.setenv("VERL_PLATFORM", "cpu")
        requires("no-such-package; extra == 'gpu'", "numpy; extra == 'cpu'")
        (check,) = doctor.examine_versions()
        assert check.status == doctor.OK


class TestChecks:
    def test_an_exception_becomes_a_line(self):
        check = doctor._guarded("driver", "name", lambda: 1 / 0)
        assert (check.status, check.detail) == (doctor.FAILED, "ZeroDivisionError: division by zero")
        assert not doctor.healthy([check])

    def test_skipped_is_not_ill(self):
        assert doctor.healthy([doctor.Check("driver", "name", doctor.SKIPPED, "")])

    def test_process(self, monkeypatch):
        checks = {check.name: check for check in doctor.examine_process("here")}
        assert checks["reward=mllm4d_st"].status == doctor.OK
        assert checks["data=mllm4d"].detail.endswith("MLLM4DDataset")
        assert checks["mllm4d_sft"].detail.endswith("MLLM4DSFTDataset")
        assert checks["send_vllm_unexpanded_videos"].detail == "active, needed"

    def test_sample_video_has_a_frame_rate_of_its_own(self, tmp_path):
        frames, metadata = doctor.decode_sample(tmp_path, 16)
        assert len(frames) == doctor.SAMPLE_FRAMES
        assert metadata["fps"] == pytest.approx(doctor.SAMPLE_FPS)
