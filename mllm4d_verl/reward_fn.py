"""The function verl calls for every answer: hands it to the ST-reward. Selected by `reward=mllm4d_st` and the like.

Rows of other sources in the same run go to another scorer, with the same keys in the result; see `compute_score`.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.reward import DEFAULT_PRESET, OTHER_SOURCE, STReward

# `data_source` of the rows that this package writes begins with it.
OUR_SOURCES = ("mllm4d/",)
# Settings of `reward_kwargs` that are not the reward's: which rows it scores, and who scores the others.
_ROUTING = ("sources", "other_sources")
VERL = "verl"
_FIELD = "reward.custom_reward_function.reward_kwargs"

# Answers after which the run is told that the format gate takes everything: enough that chance does not decide.
_WATCHED_ANSWERS = 200
_HIGH_ACCURACY, _OPEN_GATES = 0.3, 0.02


def make_reward(preset: str, **options: Any) -> STReward:
    """The ST-reward that `reward.custom_reward_function.reward_kwargs` asks for.

    Raises:
        InputError: unknown preset or option, or a value it cannot have.
    """
    try:
        return STReward(preset, **options)
    except (TypeError, ValueError) as error:
        raise InputError(str(error), field=_FIELD) from None


def check_reward_function(custom_reward_function: Mapping[str, Any] | None) -> None:
    """Make the reward that verl's `reward.custom_reward_function` asks for, if it is this one, and throw it away.

    Raises:
        InputError: it cannot be made; see `make_reward`. Or `other_sources` names no function.
    """
    settings = custom_reward_function or {}
    place = str(settings.get("path") or "").removeprefix("pkg://")
    if place == __name__ and settings.get("name") == compute_score.__name__:
        options = {"preset": DEFAULT_PRESET, **_as_dict(settings.get("reward_kwargs"))}
        sources, other = (options.pop(name, None) for name in _ROUTING)
        if not isinstance(options["preset"], str):
            raise InputError(f"must be a name, got {options['preset']!r:.80}", field=f"{_FIELD}.preset")
        make_reward(**options)
        _prefixes(sources)
        if other is not None and not isinstance(other, str):
            raise InputError(f"must be a text, got {other!r:.80}", field=f"{_FIELD}.other_sources")
        _other_scorer(other)


def _as_dict(reward_kwargs: Any) -> dict[str, Any]:
    plain = json.loads(_as_key(reward_kwargs or {}))
    if not isinstance(plain, dict):
        raise InputError(f"must be a mapping, got {reward_kwargs!r:.80}", field=_FIELD)
    return plain


def _as_key(options: Any) -> str:
    return json.dumps(options, sort_keys=True, default=_plain)


@functools.lru_cache(maxsize=32)
def _cached_reward(preset: str, options: str) -> STReward:
    return make_reward(preset, **json.loads(options))


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Mapping[str, Any] | str,
    extra_info: Mapping[str, Any] | None = None,
    preset: str = DEFAULT_PRESET,
    sources: str | Iterable[str] | None = None,
    other_sources: str | None = None,
    **options: Any,
) -> dict[str, float]:
    """Score one answer.

    A row is scored by the ST-reward if its `data_source` begins with one of `sources`, or, where neither `sources` nor
    `other_sources` is set, if its truth is a mapping (or JSON of one) or verl's own scorer does not know its source.
    Every other row goes to `other_sources`.

    Args:
        data_source: where the row comes from.
        solution_str: the decoded answer.
        ground_truth: `reward_model.ground_truth` of the row: answer, camera_center, object_center and what else
            `STReward` takes, as a mapping or as JSON; a bare string that is no JSON object is the answer. Rows of other
            sources: what their scorer takes.
        extra_info: of the row; for the scorer of other sources.
        preset: see `STReward`.
        sources: beginnings of the data sources that the ST-reward scores, `mllm4d/` if null and `other_sources` is set.
        other_sources: who scores the others: null or `verl` for verl's own `default_compute_score`, or a function with
            the arguments of this one, as `pkg://module:function` or `path/to/file.py:function`.
        **options: `components`, and weights of the preset and the components; all from
            `reward.custom_reward_function.reward_kwargs`, and as `STReward` takes them. verl's reward managers add
            arguments of their own at every call; a name that is no option of the reward is ignored, unless it looks
            like a misspelt one.

    Returns:
        `score`, `acc`, every component and `other_source`: the same keys for every sample, as verl takes them from the
        first. For a row of another source `other_source` is 1, and every key but that, `score` and `acc` says nothing.

    Raises:
        InputError: unknown preset, an option that looks like a misspelt one, or a ground truth of the ST-reward that is
            neither of the above.
    """
    # Without options, which is most often, the key of the cache costs nothing.
    options = _known_options(preset, options) if options else options
    reward = _cached_reward(preset, _as_key(options) if options else "{}")
    if not _is_ours(data_source, ground_truth, sources, other_sources):
        scorer = _other_scorer(other_sources)
        return _as_ours(reward, data_source, scorer, (data_source, solution_str, ground_truth, extra_info))
    result = reward(solution_str, read_ground_truth(ground_truth))
    if not _watch.is_done:
        _watch.see(reward, result)
    result[OTHER_SOURCE] = 0.0
    return result


def _known_options(preset: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that the reward has; a reward manager's own arguments are left out."""
    components = options.get("components")
    known = _option_names(preset, _as_key(components))
    for name in options:
        if name not in known and (near := difflib.get_close_matches(name, known, n=1, cutoff=0.8)):
            raise InputError(f"unknown option {name!r}", field=_FIELD, remedy=f"Did you mean {near[0]!r}?")
    return {name: value for name, value in options.items() if name in known}


@functools.lru_cache(maxsize=32)
def _option_names(preset: str, components: str) -> frozenset[str]:
    named = {"components": json.loads(components)} if components != "null" else {}
    return frozenset({"components", *make_reward(preset, **named).weights})


def _is_ours(data_source: str, truth: Any, sources: str | Iterable[str] | None, other_sources: str | None) -> bool:
    if str(data_source).startswith(_prefixes(sources)):
        return True
    if sources is not None or other_sources is not None:
        return False
    return _is_mapping(truth) or not _verl_knows(str(data_source))


def _prefixes(sources: str | Iterable[str] | None) -> tuple[str, ...]:
    if sources is None:
        return OUR_SOURCES
    found = (sources,) if isinstance(sources, str) else tuple(sources) if isinstance(sources, Iterable) else ()
    if not found or not all(isinstance(source, str) and source for source in found):
        raise InputError(f"must be texts, at least one, got {sources!r:.80}", field=f"{_FIELD}.sources")
    return found


def _is_mapping(truth: Any) -> bool:
    if isinstance(truth, str) and truth.lstrip().startswith("{"):
        try:
            return isinstance(json.loads(truth), dict)
        except (ValueError, RecursionError):
            return False
    return isinstance(truth, Mapping)


@functools.lru_cache(maxsize=1024)
def _verl_knows(data_source: str) -> bool:
    """Whether verl's own scorer has a rule for a data source."""
    try:
        from verl.utils.reward_score import default_compute_score

        default_compute_score(data_source, "", "")
    except (NotImplementedError, ImportError):
        return False
    except Exception:  # it has one, which an empty answer does not please
        return True
    return True


@functools.lru_cache(maxsize=32)
def _other_scorer(other_sources: str | None) -> Callable[..., Any]:
    """The function that scores rows of other sources.

    Raises:
        InputError: it is not there, or is no plain function.
    """
    if other_sources in (None, VERL):
        from verl.utils.reward_score import default_compute_score

        return default_compute_score
    from verl.utils.import_utils import load_extern_object

    place, _, name = str(other_sources).rpartition(":")
    field = f"{_FIELD}.other_sources"
    if not place or place == "pkg" or not name.isidentifier():
        raise InputError(
            f"{other_sources!r} names no function",
            field=field,
            remedy="Write file.py:function or pkg://module:function",
        )
    try:
        function = load_extern_object(place, name)
    except Exception as error:
        raise InputError(f"{other_sources!r} cannot be loaded: {error}", field=field) from error
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise InputError(f"{other_sources!r} is no plain function", field=field)
    return function


def _as_ours(reward: STReward, data_source: str, scorer: Callable[..., Any], arguments: tuple) -> dict[str, float]:
    """What another scorer returns for these arguments of `compute_score`, with the keys of the ST-reward.

    Raises:
        InputError: it has no rule for the source, or returns no finite score.
    """
    name = f"{getattr(scorer, '__module__', '')}.{getattr(scorer, '__qualname__', type(scorer).__name__)}".lstrip(".")
    try:
        result = scorer(*arguments)
    except NotImplementedError as error:
        raise InputError(
            f"{name} has no rule for rows of {data_source!r}",
            field=f"{_FIELD}.other_sources",
            remedy="Name a function of yours, or add the source to `sources`",
        ) from error
    found = result if isinstance(result, Mapping) else {"score": result}
    try:
        score = float(found["score"])
        acc = float(found.get("acc", score))
    except (KeyError, TypeError, ValueError):
        score = acc = math.nan
    if not (math.isfinite(score) and math.isfinite(acc)):
        raise InputError(
            f"{name} returned {result!r:.80} for a row of {data_source!r}",
            field=f"{_FIELD}.other_sources",
            remedy='Return a finite number, or {"score": ..., "acc": ...}',
        )
    applies = {f"{component.name}_applies": 0.0 for component in reward.components}
    unmeasured = {key: -1.0 for key in reward.keys if key.endswith("_error_m")}
    return {**dict.fromkeys(reward.keys, 0.0), **unmeasured, **applies, "score": score, "acc": acc, OTHER_SOURCE: 1.0}


class _GateWatch:
    """Tells a run once that the format gate takes what right answers earn."""

    def __init__(self) -> None:
        self.answers = self.right = self.earned = 0
        self.is_done = False

    def see(self, reward: STReward, result: Mapping[str, float]) -> None:
        """Count an answer; warn when enough were seen and nearly all right ones earned nothing."""
        if reward.weights.get("format_gate", 0.0) < 1.0:
            return
        self.answers += 1
        if result["acc"] == 1.0:
            self.right += 1
            self.earned += result["format"] > 0.0
        if self.answers < _WATCHED_ANSWERS:
            return
        self.is_done = True
        if self.right >= _HIGH_ACCURACY * self.answers and self.earned <= _OPEN_GATES * self.right:
            warnings.warn(
                f"{self.right} of the first {self.answers} answers were right, and {self.right - self.earned} of those "
                f"earned nothing, because they lack the ST-CoT form that the preset {reward.preset.name} asks for. If "
                f"the prompt does not ask for that form, add +{_FIELD}.format_gate=0; if it does, a cold start teaches "
                "it (docs/rewards.md)",
                RuntimeWarning,
                stacklevel=3,
            )


_watch = _GateWatch()


def _plain(value: Any) -> Any:  # OmegaConf lists and mappings
    return dict(value) if isinstance(value, Mapping) else list(value)


def read_ground_truth(ground_truth: Mapping[str, Any] | str) -> dict[str, Any]:
    """`reward_model.ground_truth` as a mapping: one already, a JSON object, or a bare string, which is the answer.

    Raises:
        InputError: neither a mapping nor a string.
    """
    if isinstance(ground_truth, Mapping):
        return dict(ground_truth)
    if not isinstance(ground_truth, str):
        raise InputError(
            f"must be a mapping or JSON, got {type(ground_truth).__name__}",
            field="reward_model.ground_truth",
            remedy='Write {"answer": "B", "camera_center": [...], "object_center": [...]} or its JSON',
        )
    try:
        truth = json.loads(ground_truth)
    except (ValueError, RecursionError):
        truth = None
    return truth if isinstance(truth, dict) else {"answer": ground_truth}
