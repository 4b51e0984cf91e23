"""verl's SFT trainer, ended when held-out accuracies reach the marks of `trainer.marks`.

`python -m mllm4d_verl.training.marked_sft` takes the place of `verl.trainer.sft_trainer` where marks are set. Between
two steps it has the model under training answer held-out questions greedily; when all marks are reached, the next step
is the last. `trainer.total_training_steps` stays the upper bound.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import torch
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils.device import auto_set_device
from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

from mllm4d_verl.data_tools.errors import InputError

from .marks import ALL, Marks, MarksReached, read_marks


class HeldOutQuestions:
    """Held-out questions as tensors, prepared once, and the accuracies of a model's greedy answers to them."""

    def __init__(self, model: str, data: str, prompt: Mapping[str, Any], marks: Marks) -> None:
        """
        Args:
            model: folder that the processor is read from.
            data: question file.
            prompt: the keys of `PromptOptions`.
            marks: how many questions, how they are answered.
        """
        from mllm4d_verl.evaluation.backends.hugging_face import make_batches, processor_inputs
        from mllm4d_verl.evaluation.job import GenerationJob
        from mllm4d_verl.evaluation.prompting import PromptBuilder, load_dataset
        from mllm4d_verl.evaluation.questions import load_questions, requests_of

        template = prompt["prompt_template"]
        dataset_config = {key: value for key, value in prompt.items() if key != "prompt_template"}
        job = GenerationJob(
            model=model, data=data, unfinished="", template=template, limit=marks.questions, dataset=dataset_config
        )
        dataset = load_dataset(job)
        builder = PromptBuilder(model, dataset)
        requests = requests_of(job, load_questions(job))
        self._max_tokens = marks.max_tokens
        self._tokenizer = dataset.tokenizer
        self._never = builder.placeholder_token_ids()
        self._batches = []
        for batch in make_batches(requests, marks.batch_size):
            prompts = [builder.build_question(job, request.question) for request in batch]
            self._batches.append((batch, processor_inputs(dataset.processor, prompts)))

    def accuracy(self, model: Any) -> dict[str, float]:
        """Task -> share of right answers, `all` first; a response that commits to no answer is wrong."""
        from transformers import GenerationConfig

        from mllm4d_verl.evaluation.backends.base import Answer
        from mllm4d_verl.evaluation.scoring import score_records
        from mllm4d_verl.evaluation.worker import to_record

        settings = GenerationConfig(
            max_new_tokens=self._max_tokens,
            do_sample=False,
            eos_token_id=self._tokenizer.eos_token_id,
            pad_token_id=self._tokenizer.pad_token_id,
            suppress_tokens=self._never,
        )
        records = []
        for batch, inputs in self._batches:
            with torch.no_grad():
                output = model.generate(**inputs.to(model.device), generation_config=settings)
            texts = self._tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            records += [
                to_record(Answer(request, text, 0, 0, "stop")) for request, text in zip(batch, texts, strict=True)
            ]
        right: dict[str, list[float]] = defaultdict(list)
        for record in score_records(records):
            for name in (ALL, record.task):
                right[name].append(record.scores["correct"])
        return {name: sum(values) / len(values) for name, values in right.items()}


class StockForwards:
    """The `forward` methods of a model's classes as transformers has them, for the time of a check.

    verl replaces some of them by forms for training, which take no key-value cache and no token types: `generate` fails
    with these. Make this object before the trainer, which replaces them.

    Args:
        model: folder of the checkpoint.
    """

    def __init__(self, model: str) -> None:
        from transformers import AutoConfig, AutoModelForImageTextToText

        network = AutoModelForImageTextToText._model_mapping[type(AutoConfig.from_pretrained(model))]
        self._stock: dict[type, Callable] = {
            kind: kind.__dict__["forward"]
            for kind in vars(inspect.getmodule(network)).values()
            if inspect.isclass(kind) and issubclass(kind, torch.nn.Module) and "forward" in kind.__dict__
        }

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put them in place, and verl's back afterwards."""
        replaced = {kind: kind.forward for kind, stock in self._stock.items() if kind.forward is not stock}
        try:
            for kind in replaced:
                kind.forward = self._stock[kind]
            yield
        finally:
            for kind, forward in replaced.items():
                kind.forward = forward


class MarkedSFTTrainer(SFTTrainer):
    """SFTTrainer that ends at its marks."""

    def __init__(self, config: Any) -> None:
        self.stock_forwards = StockForwards(str(config.model.path))
        super().__init__(config)
        if torch.distributed.get_world_size() > 1:
            raise InputError(
                "marks are checked by the one process that trains, and there are several",
                field="trainer.marks",
                remedy="Set trainer.marks=null, and trainer.total_training_steps",
            )
        self.marks = Marks.from_config(config.trainer.marks)
        self.checkpoints = Path(config.trainer.default_local_dir)
        file = config.data.get("held_out_file")
        if not file:
            raise InputError("marks need held-out questions", field="data.held_out_file", remedy="Give val.parquet")
        from mllm4d_verl.datasets.options import PromptOptions

        keys = PromptOptions.__dataclass_fields__
        prompt = {key: config.data.get(key) for key in keys}
        self.questions = HeldOutQuestions(str(config.model.path), str(file), prompt, self.marks)

    def fit(self) -> None:
        self.train_dataloader = _Watched(self.train_dataloader, self)
        super().fit()

    def check(self, step: int) -> None:
        """Measure after `step` steps; where all marks are reached, the next step is the last."""
        with self.engine.eval_mode(), self.stock_forwards.in_place():
            accuracy = self.questions.accuracy(self.engine.module)
        earlier = read_marks(self.checkpoints)
        checks = [check for check in (earlier.checks if earlier else []) if check[0] < step]
        reached = MarksReached(step, accuracy, self.marks.missed(accuracy), [*checks, (step, accuracy[ALL])])
        reached.write(self.checkpoints)
        figures = ", ".join(f"{task} {value:.3f}" for task, value in accuracy.items())
        print(f"marks at step {step}: {figures}", flush=True)
        if reached.ended_by_marks:
            self.total_training_steps = step + 1


class _Watched:
    """A data loader between whose batches marks are checked."""

    def __init__(self, loader: Any, trainer: MarkedSFTTrainer) -> None:
        self._loader, self._trainer = loader, trainer
        self._step = trainer.resume_global_step

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield batch
            self._step += 1
            if self._step < self._trainer.total_training_steps and self._trainer.marks.is_check(self._step):
                self._trainer.check(self._step)


@hydra.main(config_path="pkg://verl.trainer.config", config_name="sft_trainer_engine", version_base=None)
def main(config: Any) -> None:
    """verl's own entry point, with this trainer."""
    auto_set_device(config)
    initialize_global_process_group()
    try:
        trainer = MarkedSFTTrainer(config)
    except InputError as error:
        print(f"{error}", file=sys.stderr, flush=True)
        os._exit(1)
    trainer.fit()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
