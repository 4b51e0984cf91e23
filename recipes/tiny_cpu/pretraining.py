"""Gives the random tiny model what released models bring: a vision tower that sees, and a language model that reads.

Two steps, on rendered clips of other seeds than the demo's:

1. The tower and its merger learn motion by regression. A linear map of the mean token of each frame pair, thrown away
   afterwards, gives the displacement of the camera, where the object starts and ends, and its colour and shape. What a
   linear map reads, a language model of three layers reads too.
2. The language model, with the tower frozen, learns to read: first to go on with a sequence that it has seen once, and
   to find an option and its letter in a list; then to tell facts about these clips in any order, and to answer
   questions in which such a caption stands in the video's place.

Neither step sees a question about a video, an ST-CoT text, or the clips that the demo trains and evaluates on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mllm4d_verl.data_tools.questions.solvers import DIRECTIONS, STILL
from mllm4d_verl.data_tools.synthetic.config import COLOURS, SHAPES

from .lessons import Lessons, Motion, drill, way_of, write_captions

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]

_MOVES_M = 0.2  # metres; what moves less has no direction
_WAYS = (*DIRECTIONS, STILL)
_PLACES = 21  # numbers of `_targets` that are places and distances
_PLACES_WEIGHT = 2.0  # of these in the loss: distances, the hardest to tell, are computed from them
_BETAS = (0.9, 0.98)  # AdamW's; 0.999 averages over more steps than a short training has
_WARM_UP_STEPS = 20
_LAST_RATE = 0.05  # of the peak learning rate, at the end of the cosine


@dataclass(frozen=True)
class PretrainingConfig:
    """How long and how fast.

    Attributes:
        held_out: clips that measure and do not train.
        max_pixels: of a frame, as the later stages have it.
        tower_steps, tower_batch, tower_lr: of the first step; clips per step.
        reading_steps: of the second step, before it sees a clip: repetitions and drills.
        language_steps: after these: captions, exercises and drills.
        language_lr: of both.
        repetitions, captions, exercises, drills: texts per step.
        repeated_tokens: least and most of what is repeated, three times in all.
        lookups: options to find in each text of drills.
        number_share: share of the drills whose options are numbers.
        token_std: standard deviation that embeddings of words and tokens of the tower get. With transformers' 0.02 for
            words, and whatever the tower gives for its tokens, one drowns the other.
        threads: of torch; the matrices are small.
    """

    held_out: int = 64
    max_pixels: int = 4096
    tower_steps: int = 400
    tower_batch: int = 32
    tower_lr: float = 2.0e-3
    reading_steps: int = 150
    language_steps: int = 400
    language_lr: float = 3.0e-3
    repetitions: int = 12
    repeated_tokens: tuple[int, int] = (6, 24)
    captions: int = 12
    exercises: int = 4
    drills: int = 6
    lookups: int = 4
    number_share: float = 0.5
    token_std: float = 1.2
    threads: int = 2


class _Sample(NamedTuple):
    """A text of L tokens: `ids` (L,), `positions` (4, L), `weights` (L,) in the loss, and the video's patches."""

    ids: torch.Tensor
    positions: torch.Tensor
    weights: torch.Tensor
    patches: torch.Tensor | None = None
    grid: torch.Tensor | None = None


def pretrain(
    model: Path, lessons: Lessons, videos: Path, config: PretrainingConfig, seed: int, progress: Progress | None = None
) -> dict[str, float]:
    """Pretrain the checkpoint in `model` and write it back.

    Args:
        model: folder of `build_tiny_model`, Qwen3-VL.
        lessons: of the world.
        videos: folder that the captions' video paths start from.
        config: see there.
        seed: of batches and of the head.
        progress: called with steps done and steps in all.

    Returns:
        Held-out figures: `camera_direction`, `object_direction`, `colour`, `shape` (shares that the head reads rightly
        from the tower), `caption_tokens` (share of tokens that are right), `exercises` and `drills` (shares of
        whole replies that are right).
    """
    import torch
    from transformers import AutoModelForImageTextToText
    from verl.utils import hf_processor

    with _threads(config.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        processor = hf_processor(str(model))
        network = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
        network.train()
        tokenizer = processor.tokenizer
        captions = _encode_captions(processor, lessons, videos, config.max_pixels)
        facts = [[tokenizer(line, add_special_tokens=False)["input_ids"] for line in lines] for lines in lessons.facts]
        exercises = [_encode_exercise(tokenizer, *exercise) for exercise in lessons.exercises]
        rng = np.random.default_rng(seed)

        def drills(count: int, lookups: int) -> list[_Sample]:
            return [_encode_drills(tokenizer, rng, lookups, config.number_share) for _ in range(count)]

        def repetitions() -> list[_Sample]:
            return [_repetition(tokenizer, rng, config.repeated_tokens) for _ in range(config.repetitions)]

        motions = [lessons.motions[row.clip_id] for row in lessons.captions]
        steps = config.tower_steps + config.reading_steps + config.language_steps
        report = progress or (lambda done, total: None)
        figures = _teach_sight(network, captions, motions, config, seed, lambda done: report(done, steps))
        with torch.no_grad():
            _scale_tokens(network, captions, config)
        figures |= _teach_language(
            network,
            lambda index: _shuffled(captions[index], facts[index], tokenizer.eos_token_id, rng),
            captions,
            exercises,
            drills,
            repetitions,
            config,
            seed,
            lambda done: report(config.tower_steps + done, steps),
        )
        network.save_pretrained(model)
    return figures


# ------------------------------------------------------------------------------------------------------------- sight


def views(
    network: Any, patches: torch.Tensor, grid: torch.Tensor, draws: torch.Generator | None = None
) -> torch.Tensor:
    """(B, T, width) the mean of the merged tokens of each of a clip's T frame pairs.

    Args:
        patches: (B, P, values) of one clip each.
        grid: (1, 3) patches of a clip in time, height, width.
        draws: gives the tokens of a frame pair random weights, uniform over all that sum to 1: what is read then does
            not hang on how attention spreads. None: the plain mean.
    """
    import torch

    tokens = network.model.visual(patches.flatten(0, 1), grid_thw=grid.repeat(len(patches), 1)).pooler_output
    tokens = tokens.reshape(len(patches), int(grid[0, 0]), -1, tokens.shape[-1])
    if draws is None:
        return tokens.mean(2)
    weights = -torch.rand(tokens.shape[:3], generator=draws).clamp_min(1e-9).log()
    return (tokens * (weights / weights.sum(2, keepdim=True))[..., None]).sum(2)


def _teach_sight(
    network: Any,
    captions: list[_Sample],
    motions: Sequence[Motion],
    config: PretrainingConfig,
    seed: int,
    report: Callable[[int], None],
) -> dict[str, float]:
    import torch

    patches = torch.stack([sample.patches for sample in captions])
    grid = captions[0].grid
    wanted = torch.tensor(np.stack([_targets(motion) for motion in motions]), dtype=torch.float32)
    train = len(patches) - config.held_out
    mean, std = wanted[:train].mean(0), wanted[:train].std(0) + 1e-3  # metres; a constant column stays finite
    width = network.config.text_config.hidden_size
    head = torch.nn.Linear(int(grid[0, 0]) * width, wanted.shape[1])
    parameters = [*network.model.visual.parameters(), *head.parameters()]
    weights = torch.ones(wanted.shape[1])
    weights[:_PLACES] = _PLACES_WEIGHT
    batches = torch.Generator().manual_seed(seed)
    for step, take_step in _steps(parameters, config.tower_steps, config.tower_lr, weight_decay=0.01):
        chosen = torch.randint(train, (config.tower_batch,), generator=batches)
        said = head(views(network, patches[chosen], grid, batches).flatten(1))
        off = torch.nn.functional.smooth_l1_loss(said, (wanted[chosen] - mean) / std, reduction="none")
        take_step((off * weights).mean())
        report(step)
    with torch.no_grad():
        said = head(views(network, patches[train:], grid).flatten(1)) * std + mean
    return _sight_figures(said.numpy(), wanted[train:].numpy())


def _targets(motion: Motion) -> np.ndarray:
    """What the tower is to tell, (21 + colours + shapes + 14,).

    The camera's displacement, the object's start, end and displacement, metres; how far the camera goes each of six
    ways, metres; the logarithm of the distances that the camera moves, and of the object from the camera at the start
    and the end; the object's looks as 0 and 1; and the directions of camera and object as 0 and 1. What follows from
    the first twelve is there because it does so by no linear map, and the language model has few layers.
    """
    words = motion.description.split()
    looks = [float(name in words) for name in (*COLOURS, *SHAPES)]
    shift = motion.end - motion.start
    lengths = np.linalg.norm([motion.camera, motion.start, motion.end - motion.camera], axis=1)
    ways = [[float(way == name) for name in _WAYS] for way in (_way(motion.camera), _way(shift))]
    six_ways = np.maximum([motion.camera, -motion.camera], 0).ravel()
    places = [motion.camera, motion.start, motion.end, shift, six_ways]
    return np.concatenate([*places, np.log(lengths + _MOVES_M), looks, *ways])


def _way(shift: np.ndarray) -> str:
    return way_of(shift) if float(np.linalg.norm(shift)) > _MOVES_M else STILL


def _sight_figures(said: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    camera, shift = slice(0, 3), slice(9, 12)
    colours, shapes = _PLACES + len(COLOURS), _PLACES + len(COLOURS) + len(SHAPES)
    figures = {
        "camera_direction": _directions_right(said[:, camera], wanted[:, camera]),
        "object_direction": _directions_right(said[:, shift], wanted[:, shift]),
    }
    for name, part in (("colour", slice(_PLACES, colours)), ("shape", slice(colours, shapes))):
        figures[name] = float((said[:, part].argmax(1) == wanted[:, part].argmax(1)).mean())
    for name, part in (("camera_travel_error", camera), ("object_travel_error", shift)):
        travel, told = np.linalg.norm(wanted[:, part], axis=1), np.linalg.norm(said[:, part], axis=1)
        moving = travel > _MOVES_M
        figures[name] = float(np.median(np.abs(told[moving] / travel[moving] - 1))) if moving.any() else math.nan
    return figures


def _directions_right(said: np.ndarray, wanted: np.ndarray) -> float:
    """Share of the moving ones whose largest component is the right one, with the right sign."""
    moving = np.linalg.norm(wanted, axis=1) > _MOVES_M
    said, wanted = said[moving], wanted[moving]
    axis = np.abs(wanted).argmax(1)
    rows = np.arange(len(axis))
    same_sign = said[rows, axis] * wanted[rows, axis] > 0
    return float(((np.abs(said).argmax(1) == axis) & same_sign).mean()) if len(axis) else math.nan


def _scale_tokens(network: Any, captions: list[_Sample], config: PretrainingConfig) -> None:
    """Give words and merged tokens the same standard deviation, and nothing to the deepstack tokens.

    The first step trained the merged tokens alone. Deepstack tokens are added to them between decoder layers; from
    random weights they are noise as large as what is seen.
    """
    import torch

    tower = network.model.visual
    sample = torch.stack([caption.patches for caption in captions[: config.tower_batch]])
    tokens = tower(sample.flatten(0, 1), grid_thw=captions[0].grid.repeat(len(sample), 1)).pooler_output
    factors = [config.token_std / float(tokens.std()), *[0.0] * len(tower.deepstack_merger_list)]
    for merger, factor in zip([tower.merger, *tower.deepstack_merger_list], factors, strict=True):
        merger.linear_fc2.weight.mul_(factor)
        merger.linear_fc2.bias.mul_(factor)
    words = network.get_input_embeddings().weight
    words.mul_(config.token_std / float(words.std()))


# ---------------------------------------------------------------------------------------------------------- language


def _teach_language(
    network: Any,
    shuffled: Callable[[int], _Sample],
    captions: list[_Sample],
    exercises: list[_Sample],
    drills: Callable[[int, int], list[_Sample]],
    repetitions: Callable[[], list[_Sample]],
    config: PretrainingConfig,
    seed: int,
    report: Callable[[int], None],
) -> dict[str, float]:
    import torch

    held_out_drills = drills(2 * config.held_out, 1)
    for weight in network.model.visual.parameters():
        weight.requires_grad_(False)
    batches = torch.Generator().manual_seed(seed)
    parameters = [weight for weight in network.parameters() if weight.requires_grad]
    steps = config.reading_steps + config.language_steps
    for step, take_step in _steps(parameters, steps, config.language_lr, weight_decay=0.05):
        loss = torch.zeros(())
        texts = [drills(config.drills, config.lookups)]
        if step <= config.reading_steps:
            texts.append(repetitions())
        else:
            clips = torch.randint(len(captions) - config.held_out, (config.captions,), generator=batches)
            texts.append([shuffled(int(clip)) for clip in clips])
            chosen = torch.randint(len(exercises) - config.held_out, (config.exercises,), generator=batches)
            texts.append([exercises[index] for index in chosen])
        for batch in texts:
            if batch:
                logits, targets = _reply_logits(network, batch)
                loss = loss + torch.nn.functional.cross_entropy(logits, targets)
        take_step(loss)
        report(step)
    for weight in network.model.visual.parameters():
        weight.requires_grad_(True)
    with torch.no_grad():
        tokens_right = [_tokens_right(network, sample) for sample in captions[-config.held_out :]]
        replies = [_tokens_right(network, sample) for sample in exercises[-config.held_out :]]
        found = [_tokens_right(network, sample) for sample in held_out_drills]
    return {
        "caption_tokens": float(torch.cat(tokens_right).float().mean()),
        "exercises": float(np.mean([bool(right.all()) for right in replies])),
        "drills": float(np.mean([bool(right.all()) for right in found])),
    }


def _tokens_right(network: Any, sample: _Sample) -> torch.Tensor:
    logits, targets = _reply_logits(network, [sample])
    return logits.argmax(-1) == targets


def _reply_logits(network: Any, samples: Sequence[_Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (K, vocabulary) before, and ids (K,) of, the K tokens of the samples' replies."""
    import torch

    length = max(len(sample.ids) for sample in samples)
    ids = torch.full((len(samples), length), network.config.text_config.pad_token_id)
    positions = torch.zeros(4, len(samples), length, dtype=torch.long)
    attended, weights = torch.zeros_like(ids), torch.zeros(len(samples), length)
    for row, sample in enumerate(samples):
        until = len(sample.ids)
        ids[row, :until], positions[:, row, :until] = sample.ids, sample.positions
        attended[row, :until], weights[row, :until] = 1, sample.weights
    media: dict[str, torch.Tensor] = {}
    if samples[0].patches is not None:
        kinds = torch.zeros_like(ids)
        kinds[ids == network.config.video_token_id] = 2  # transformers' token type of a video
        media = {
            "pixel_values_videos": torch.cat([sample.patches for sample in samples]),
            "video_grid_thw": torch.cat([sample.grid for sample in samples]),
            "mm_token_type_ids": kinds,
        }
    hidden = network.model(
        input_ids=ids, attention_mask=attended, position_ids=positions, use_cache=False, **media
    ).last_hidden_state
    said = weights[:, 1:] > 0
    return network.lm_head(hidden[:, :-1][said]), ids[:, 1:][said]


# ------------------------------------------------------------------------------------------------------------ helpers


def _steps(
    parameters: list[torch.nn.Parameter], steps: int, peak_lr: float, weight_decay: float
) -> Iterator[tuple[int, Callable[[torch.Tensor], None]]]:
    """Number of the step, and what takes it given a loss; linear warm-up, then a cosine."""
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=peak_lr, betas=_BETAS, weight_decay=weight_decay)

    def take_step(loss: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    for step in range(steps):
        cosine = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * cosine * min(1.0, (step + 1) / _WARM_UP_STEPS)
        yield step + 1, take_step


def _encode_captions(processor: Any, lessons: Lessons, videos: Path, max_pixels: int) -> list[_Sample]:
    """The captions as the SFT stages encode a conversation; written to a file beside the videos first."""
    from importlib.resources import files

    from omegaconf import OmegaConf

    from mllm4d_verl.datasets import MLLM4DSFTDataset

    file = write_captions(lessons, videos / "captions.parquet")
    config = OmegaConf.create((files("mllm4d_verl.config") / "data" / "mllm4d_rows.yaml").read_text(encoding="utf-8"))
    config = OmegaConf.merge(config, {"prompt_template": "dataset", "max_pixels": max_pixels})
    dataset = MLLM4DSFTDataset(str(file), processor.tokenizer, config, processor)
    samples = []
    for index in range(len(dataset)):
        encoded = dataset[index]
        media = encoded["multi_modal_inputs"]
        samples.append(
            _Sample(
                encoded["input_ids"],
                encoded["position_ids"],
                encoded["loss_mask"].float(),
                media["pixel_values_videos"],
                media["video_grid_thw"],
            )
        )
    return samples


def _shuffled(caption: _Sample, facts: list[list[int]], eos: int, rng: np.random.Generator) -> _Sample:
    """Some lines of the caption, half at least, in any order: a fact is then known wherever it is to be told."""
    import torch

    prompt = int(caption.weights.argmax())
    told = rng.permutation(len(facts))[: int(rng.integers((len(facts) + 1) // 2, len(facts) + 1))]
    reply = [token for line in told for token in facts[line]] + [eos]
    positions = caption.positions[:, prompt - 1 : prompt] + torch.arange(1, len(reply) + 1)
    return caption._replace(
        ids=torch.cat([caption.ids[:prompt], torch.tensor(reply)]),
        positions=torch.cat([caption.positions[:, :prompt], positions], dim=1),
        weights=torch.cat([torch.zeros(prompt), torch.ones(len(reply))]),
    )


def _encode_exercise(tokenizer: Any, prompt: str, reply: str) -> _Sample:
    import torch

    turn = [{"role": "user", "content": prompt}]
    asked = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    before = tokenizer(asked, add_special_tokens=False)["input_ids"]
    after = tokenizer(reply + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    length = len(before) + len(after)
    weights = torch.cat([torch.zeros(len(before)), torch.ones(len(after))])
    return _Sample(torch.tensor(before + after), torch.arange(length).expand(4, -1), weights)


def _encode_drills(tokenizer: Any, rng: np.random.Generator, lookups: int, number_share: float) -> _Sample:
    """Drills one after the other; what is to be found counts in the loss."""
    import torch

    ids: list[int] = []
    weights: list[float] = []
    for _ in range(lookups):
        for text, weight in zip(drill(rng, rng.random() < number_share), (0.0, 1.0), strict=True):
            tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += tokens
            weights += [weight] * len(tokens)
    return _Sample(torch.tensor(ids), torch.arange(len(ids)).expand(4, -1), torch.tensor(weights))


def _repetition(tokenizer: Any, rng: np.random.Generator, lengths: tuple[int, int]) -> _Sample:
    """Random tokens three times over, other tokens between; from the second time on they count in the loss.

    Length and gaps vary: at one distance, attention by distance alone would do, and nothing would be looked up.
    """
    import torch

    special = set(tokenizer.all_special_ids)
    plain = [number for number in range(len(tokenizer)) if number not in special]
    repeated = rng.choice(plain, int(rng.integers(*lengths)))
    ids, weights = [], []
    for turn in range(3):
        between = rng.choice(plain, int(rng.integers(lengths[0] * 2)))
        ids += [*repeated, *between]
        weights += [0.0, *[float(turn > 0)] * (len(repeated) - 1), *[0.0] * len(between)]
    return _Sample(torch.tensor(np.array(ids)), torch.arange(len(ids)).expand(4, -1), torch.tensor(weights))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(count, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
