"""What the tiny model's starting weights are worth: looking up, after a few hundred steps, with and without them.

    python benchmarks/tiny_reading.py --steps 300

Two models of the demo's size read the same repetitions and drills (recipes/tiny_cpu/pretraining.py), one from
`associative_init`, one from plain random weights. Every 50 steps, on held-out texts: the share of repeated tokens that
are foretold, of look-ups among words and among numbers those that are right with their letter, and processor seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from mllm4d_verl.recipes.tiny_cpu import pretraining
from mllm4d_verl.recipes.tiny_cpu.lessons import drill
from mllm4d_verl.recipes.tiny_cpu.model import build_tiny_model

_HELD_OUT = 100
_SIZE = {"hidden": 128, "layers": 3, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 2048}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="Number of training steps of each model.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the weights and of the texts.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for associative in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            rng = np.random.default_rng(arguments.seed)
            corpus = ("".join(drill(rng, turn % 2 == 0)) for turn in range(400))
            build_tiny_model(
                folder, corpus=corpus, seed=arguments.seed, fan_in_init=True, associative_init=associative, **_SIZE
            )
            print(f"{'associative' if associative else 'plain'} start", flush=True)
            _train(Path(folder), arguments.steps, arguments.seed, scale_words=not associative)


def _train(folder: Path, steps: int, seed: int, scale_words: bool) -> None:
    config = pretraining.PretrainingConfig()
    torch.manual_seed(seed)
    network = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).train()
    if scale_words:  # the pretraining does this to words, too
        words = network.get_input_embeddings().weight
        words.data.mul_(config.token_std / float(words.detach().std()))
    tokenizer, rng = AutoTokenizer.from_pretrained(folder), np.random.default_rng(seed)

    def drills(count: int, lookups: int, numbers: float) -> list[pretraining._Sample]:
        return [pretraining._encode_drills(tokenizer, rng, lookups, numbers) for _ in range(count)]

    def repetitions(count: int) -> list[pretraining._Sample]:
        return [pretraining._repetition(tokenizer, rng, config.repeated_tokens) for _ in range(count)]

    held_out = repetitions(_HELD_OUT), drills(_HELD_OUT, 1, 0.0), drills(_HELD_OUT, 1, 1.0)
    parameters = [weight for name, weight in network.named_parameters() if "visual" not in name]
    began = time.process_time()
    for step, take_step in pretraining._steps(parameters, steps, config.language_lr, weight_decay=0.05):
        loss = torch.zeros(())
        for batch in (repetitions(config.repetitions), drills(config.drills, config.lookups, config.number_share)):
            logits, targets = pretraining._reply_logits(network, batch)
            loss = loss + torch.nn.functional.cross_entropy(logits, targets)
        take_step(loss)
        if step % 50 == 0:
            seconds = time.process_time() - began
            foretold, words, numbers = (_right(network, samples) for samples in held_out)
            print(
                f"step {step}: repeated tokens {np.mean(np.concatenate(foretold)):.0%}, "
                f"words {np.mean([reply.all() for reply in words]):.0%}, "
                f"numbers {np.mean([reply.all() for reply in numbers]):.0%}; {seconds:.0f} s",
                flush=True,
            )


@torch.no_grad()
def _right(network: torch.nn.Module, samples: list[pretraining._Sample]) -> list[np.ndarray]:
    return [pretraining._tokens_right(network, sample).numpy() for sample in samples]


if __name__ == "__main__":
    main()
