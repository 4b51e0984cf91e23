"""Where the tiny model's weights start.

Two things that released models have learned take far longer to grow than a demo lasts, and when they appear hangs on
chance: attention that finds the earlier occurrence of a token and goes on with what followed it (an induction head,
Olsson et al. 2022, arXiv 2209.11895), and words whose vectors say what they have in common. `start_associative` starts
the model near both; training does the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch

PLACE_STD = 1.5  # of the vision tower's learned places, with fan-in matrices; patches have about this deviation

_EMBEDDING_STD = 1.0  # of words: RMSNorm passes them on at this size, and no branch drowns them
_OUTPUT_STD = 0.05  # of the output layer's rows, which start along the embeddings: a copied token is then foretold
_NUMBER = re.compile(r" ?\d{1,2}\.\d{1,2}")
_NUMBER_WIDTH = 0.05  # in ln of the number: 5% apart is alike, 15% apart is not; options lie a fifth apart
_NUMBER_RANGE = (-3.0, 3.2)  # ln of 0.05 and 24.5
_COMMON = 0.7  # of every word's vector, what all words share, over its deviation: the previous-token head's handle
_PREVIOUS_FREQUENCIES = (0, 1)  # of RoPE, of period 6.3 and 11 tokens: sharp enough to tell a neighbour
_PREVIOUS_GAIN = 2.0  # of norm weights of queries and keys: 9 tenths of the attention fall on the previous token
_PREVIOUS_OUTPUT = 2.0  # a quarter of the vector fits a head; twice that is as large as the token's own vector
_SLOW_FROM = (
    6,
    8,
)  # first of the RoPE frequencies that hardly turn within a prompt: of alike heads, of the induction head
_FAST_SCALE = 0.3  # of the other, turning dimensions of heads that attend to what is alike
_ALIKE_GAIN, _INDUCTION_GAIN = 1.3, 1.7  # of norm weights of queries and keys: how sharply they attend


def draw_by_fan_in(model: Any) -> None:
    """Matrices with variance 1 / fan-in, and places in a frame as large as the patches."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv3d):
            module.weight.normal_(0.0, module.weight[0].numel() ** -0.5)
    places = getattr(model.model.visual, "pos_embed", None)
    if places is not None:
        places.weight.normal_(0.0, PLACE_STD)


def start_associative(model: Any, tokenizer: Any, composed: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Start a Qwen3-VL near attention that looks tokens up; by the global random state of torch.

    * Embeddings have deviation 1. Numbers of one token lie on a curve: numbers within 5% of each other are nearly the
      same vector, whatever their decimals. A token made of others is their mean, as where a vocabulary is extended.
      The output layer starts as the embeddings.
    * In all heads the output matrix is the transpose of the value matrix, and from the second layer on queries equal
      keys: a head copies what is like the current token (mimetic initialisation, Trockman and Kolter 2023, arXiv
      2305.09828).
    * The first head of the first layer attends to the previous token, the first of the second layer to the token after
      an earlier occurrence of the current one.

    Args:
        model: Qwen3VLForConditionalGeneration with two decoder layers or more.
        tokenizer: of the model.
        composed: tokens with the texts that they are made of.
    """
    embeddings = model.get_input_embeddings().weight
    embeddings.normal_(0.0, _EMBEDDING_STD)
    _place_numbers(embeddings, tokenizer)
    for text, parts in composed:
        (token,) = _ids(tokenizer, text)
        made_of = [embeddings[_ids(tokenizer, part)].mean(0) for part in parts]
        own = embeddings[token].clone()
        embeddings[token] = _unit(torch.stack(made_of).sum(0) + own * len(parts) ** 0.5 / 2) * _EMBEDDING_STD
    model.lm_head.weight.copy_(embeddings * (_OUTPUT_STD / _EMBEDDING_STD))
    common = torch.nn.functional.normalize(torch.randn(embeddings.shape[1]), dim=0)
    embeddings.add_(common * (_COMMON * _EMBEDDING_STD * embeddings.shape[1] ** 0.5))
    layers = model.model.language_model.layers
    for number, layer in enumerate(layers):
        _copy_what_is_alike(layer.self_attn, attends=number > 0)
    theta = float(model.config.text_config.rope_parameters["rope_theta"])
    _attend_to_previous(layers[0].self_attn, common, theta)
    _wire_induction(layers[0].self_attn, layers[1].self_attn)


def _place_numbers(embeddings: torch.Tensor, tokenizer: Any) -> None:
    """Bumps along the logarithm of the number, each with a random vector, and as much again of each token's own."""
    centres = torch.arange(*_NUMBER_RANGE, 0.85 * _NUMBER_WIDTH)
    vectors = torch.randn(len(centres), embeddings.shape[1])
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token])
        if _NUMBER.fullmatch(text) and float(text) > 0:
            bumps = torch.exp(-0.5 * ((math.log(float(text)) - centres) / _NUMBER_WIDTH) ** 2)
            embeddings[token] = _unit(embeddings[token] / _EMBEDDING_STD + _unit(bumps @ vectors)) * _EMBEDDING_STD


def _copy_what_is_alike(attention: Any, attends: bool) -> None:
    slow = [dim for dim in range(attention.head_dim) if dim % (attention.head_dim // 2) >= _SLOW_FROM[0]]
    fast = [dim for dim in range(attention.head_dim) if dim not in slow]
    for rows in _heads(attention):
        frame = _frame(attention)
        attention.v_proj.weight[rows] = frame.T
        attention.o_proj.weight[:, rows] = frame
        if attends:
            alike = _frame(attention).T
            for projection in (attention.q_proj, attention.k_proj):
                head = projection.weight[rows]  # a view
                head[slow] = alike[slow]
                head[fast] *= _FAST_SCALE
    if attends:
        for norm in (attention.q_norm, attention.k_norm):
            norm.weight.fill_(_ALIKE_GAIN)


def _attend_to_previous(attention: Any, common: torch.Tensor, theta: float) -> None:
    """The first head: queries are one vector whatever the token, keys the same vector turned on by one place."""
    half = attention.head_dim // 2
    query, key = torch.zeros(attention.head_dim), torch.zeros(attention.head_dim)
    used = []
    for frequency in _PREVIOUS_FREQUENCIES:
        angle = theta ** (-frequency / half)  # radians per token
        query[frequency] = 1.0
        key[frequency], key[frequency + half] = math.cos(angle), math.sin(angle)
        used += [frequency, frequency + half]
    rows = next(_heads(attention))
    attention.q_proj.weight[rows] = torch.outer(query, common)
    attention.k_proj.weight[rows] = torch.outer(key, common)
    for norm in (attention.q_norm, attention.k_norm):
        norm.weight[used] = _PREVIOUS_GAIN


def _wire_induction(first: Any, second: Any) -> None:
    """The first head of `first` writes the previous token where the first head of `second` compares it with its own."""
    rows = next(_heads(first))
    read, write = _frame(first), _frame(first)
    first.v_proj.weight[rows] = read.T
    first.o_proj.weight[:, rows] = write * _PREVIOUS_OUTPUT
    slow = [dim for dim in range(second.head_dim) if dim % (second.head_dim // 2) >= _SLOW_FROM[1]]
    for projection, frame in ((second.q_proj, read), (second.k_proj, write)):
        head = projection.weight[rows]
        head.zero_()
        head[slow] = frame.T[slow]
    for norm in (second.q_norm, second.k_norm):
        norm.weight.fill_(_INDUCTION_GAIN)


def _heads(attention: Any) -> Iterator[slice]:
    width = attention.head_dim
    return (slice(start, start + width) for start in range(0, attention.o_proj.weight.shape[1], width))


def _frame(attention: Any) -> torch.Tensor:
    """(hidden, head_dim), orthonormal columns."""
    return torch.linalg.qr(torch.randn(attention.o_proj.weight.shape[0], attention.head_dim))[0]


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.std()


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
