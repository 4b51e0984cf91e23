"""Settings of the annotation: YAML, dotted keys, and what is said of slips."""

import pytest

from mllm4d_verl.data_tools.annotation.config import AnnotateConfig, dump_config, load_config
from mllm4d_verl.data_tools.errors import InputError


def test_defaults_survive_yaml(tmp_path):
    file = tmp_path / "all.yaml"
    file.write_text(dump_config(AnnotateConfig()))
    assert load_config(file) == AnnotateConfig()


def test_keys_override_the_file(tmp_path):
    file = tmp_path / "some.yaml"
    file.write_text("quality:\n  min_valid_depth: 0.2\n  min_matches: 9\norigin:\n  poses: source\n")
    config = load_config(file, {"quality.min_valid_depth": 0.1, "frames.stride": 2})
    assert (config.quality.min_valid_depth, config.quality.min_matches) == (0.1, 9)
    assert (config.origin.poses, config.frames.stride) == ("source", 2)


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "empty.yaml") == AnnotateConfig()


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("quality.min_valid_dept", "'quality.min_valid_depth'"),
        ("min_valid_depth", "'quality.min_valid_depth'"),
        ("odometry.min_valid_depth", "'quality.min_valid_depth'"),
        ("pose", "'origin.poses'"),
        ("wholly_unknown", "Known: write_masks"),
    ],
)
def test_unknown_keys_get_a_suggestion(key, hint):
    with pytest.raises(InputError, match=f"{key}.*unknown setting.*{hint}"):
        load_config(None, {key: 1})


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("frames.stride", 1.5, "whole number"),
        ("frames.stride", float("inf"), "whole number"),
        ("frames.stride", 0, "at least 1"),
        ("quality.min_matches", "many", "expected a number"),
        ("quality.min_matches", -1, "at least 0"),
        ("quality.min_matches", float("nan"), "expected a number"),
        ("write_masks", "yes", "true or false"),
        ("origin.poses", "guess", "auto, source, estimate"),
        ("quality", 3, "group of settings"),
        ("run.seconds_per_frame", 0, "above 0"),
        ("frames.max_frames", 4, "below frames.min_frames"),
    ],
)
def test_bad_values_are_named(key, value, problem):
    with pytest.raises(InputError, match=problem) as caught:
        load_config(None, {key: value})
    assert caught.value.field == key


def test_files_that_do_not_read_are_named(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    for name, problem in (("missing.yaml", "cannot be read"), ("bad.yaml", "not YAML"), ("list.yaml", "group")):
        with pytest.raises(InputError, match=problem) as caught:
            load_config(tmp_path / name)
        assert caught.value.file == str(tmp_path / name)


def test_the_fingerprint_is_of_what_decides():
    plain = AnnotateConfig().fingerprint
    assert load_config(None, {"run.seconds_per_frame": 9}).fingerprint == plain
    assert load_config(None, {"quality.max_frozen": 0.5}).fingerprint != plain
    assert load_config(None, {"naming.timeout_s": 9}).fingerprint == plain
    asked = {"naming": {"base_url": "http://one/v1", "model": "m"}}
    assert load_config(None, asked).fingerprint != plain
    elsewhere = {"naming": {"base_url": "http://two/v1", "model": "m", "cache_dir": "names"}}
    assert load_config(None, elsewhere).fingerprint == load_config(None, asked).fingerprint


@pytest.mark.parametrize("first", ["naming.base_url", "naming.model"])
def test_settings_that_need_one_another_come_in_any_order(first):
    both = {"naming.base_url": "http://localhost:8000/v1", "naming.model": "some-vl"}
    config = load_config(None, {first: both[first], **both, "naming.max_chars": 40})
    assert (config.naming.base_url, config.naming.model, config.naming.max_chars) == (*both.values(), 40)
    mixed = load_config(None, {"naming.max_chars": 40, "naming": {"model": "m", "base_url": "http://x/v1"}})
    assert (mixed.naming.model, mixed.naming.max_chars) == ("m", 40)
