"""Every adaptation, on every verl at hand: stock code has the fault, and the code in use has not.

MLLM4D_VERL_CHECKOUTS names more of them: folders, separated by ":", that contain `verl/`. An unpacked wheel will do.
"""

import importlib.util
import json
import os
from pathlib import Path

import pytest
from interpreter import python, warm_python

from mllm4d_verl.verl_compat import ABSENT, ADAPTATIONS, GONE
from mllm4d_verl.verl_compat.versions import ALLOW_UNTESTED

CHECKOUTS = [Path(path) for path in os.environ.get("MLLM4D_VERL_CHECKOUTS", "").split(":") if path]

EXAMINE = """
import json, sys, warnings
import verl, mllm4d_verl.plugin as plugin
from mllm4d_verl.verl_compat import ADAPTATIONS
from mllm4d_verl.verl_compat.versions import running_version
found = {a.name: (a.examine().status, a.examine().detail, a.active()) for a in ADAPTATIONS.values() if a.concerns()
         and (sys.argv[1] == "vllm") == a.module.startswith("vllm") and (a.proof or a.may_be_missing)}
print("FOUND", json.dumps([plugin.failure, verl.__version__, verl.__file__, found]))
"""


def examine(which, run=warm_python, **env):
    """(failure of the plugin, verl's version, its file, status and detail of each adaptation) in its own process."""
    out, _ = run(EXAMINE, which, VERL_PLATFORM="cpu", **env)
    return json.loads(out.rsplit("FOUND", 1)[1])


def assert_all_gone(found):
    wrong = {name: (status, detail) for name, (status, detail, _) in found.items() if status != GONE}
    assert found
    assert not wrong


@pytest.fixture(scope="module")
def installed():
    return {which: examine(which) for which in ("verl", "vllm")}


@pytest.mark.pins
@pytest.mark.parametrize("which", ["verl", "vllm"])
def test_installed_versions(installed, which):
    """Fails when a new version has mended a fault: then the adaptation can go."""
    if which == "vllm" and importlib.util.find_spec("vllm") is None:
        pytest.skip("no vLLM here")
    failure, _, _, found = installed[which]
    assert failure is None
    assert_all_gone(found)


def test_every_adaptation_has_a_proof_and_a_range():
    without = [a.name for a in ADAPTATIONS.values() if a.proof is None]
    assert not without


@pytest.mark.skipif(not CHECKOUTS, reason="MLLM4D_VERL_CHECKOUTS names no other verl")
@pytest.mark.parametrize("checkout", CHECKOUTS, ids=lambda path: path.name)
class TestOtherVerl:
    def test_registration_and_adaptations(self, checkout):
        failure, version, file, found = examine("verl", python, PYTHONPATH=str(checkout))
        assert failure is None
        assert Path(file).is_relative_to(checkout)
        assert version == (checkout / "verl/version/version").read_text().strip()
        assert_all_gone(found)

    def test_names(self, checkout):
        code = """
import verl
from hydra import compose, initialize_config_module
with initialize_config_module("verl.trainer.config", version_base=None):
    print("FOUND", compose("ppo_trainer", ["reward=mllm4d_st", "data=mllm4d"]).data.custom_cls.path)
    for name in ("mllm4d_grpo", "mllm4d_sft", "tiny_cpu/grpo", "tiny_cpu/sft"):
        compose(name)
"""
        out, _ = python(code, VERL_PLATFORM="cpu", PYTHONPATH=str(checkout))
        assert "FOUND pkg://mllm4d_verl" in out


def test_a_version_that_is_not_accepted_is_tried_where_the_user_insists():
    """verl says that it is 99: every proof runs at the first call, and finds what it finds in the installed version."""
    pretend = """
from mllm4d_verl.verl_compat import versions
known = versions.running_version
versions.running_version = lambda package: "99.0" if package == "verl" else known(package)
"""
    out, _ = warm_python(pretend + EXAMINE, "verl", VERL_PLATFORM="cpu", **{ALLOW_UNTESTED: "1"})
    failure, _, _, found = json.loads(out.rsplit("FOUND", 1)[1])
    assert failure is None
    assert_all_gone(found)
    assert all(active for _, _, active in found.values())


def test_vllm_without_a_target_is_imported_with_a_warning():
    """A vLLM that has renamed what an adaptation replaces."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("no vLLM here")
    code = """
import warnings
from mllm4d_verl.verl_compat import ADAPTATIONS
for a in ADAPTATIONS.values():
    if a.module.startswith("vllm"):
        a.target = "Renamed." + a.target
from vllm.plugins import load_general_plugins
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    load_general_plugins()
    import vllm.model_executor.models.qwen2_5_vl
print("FOUND", sum("has no Renamed" in str(w.message) for w in caught))
print([a.examine().status for a in ADAPTATIONS.values() if a.name == "keep_pixel_scale_out_of_the_weights"])
"""
    out, _ = warm_python(code, MLLM4D_ADAPT_VLLM="1")
    assert int(out.rsplit("FOUND", 1)[1].split()[0]) >= 2
    assert ABSENT in out
