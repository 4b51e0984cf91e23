"""Every knob of question making, with unit, default and reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InputError
from ..schema import OTHER_TASK, TASKS, known_tasks
from .options import SPREADS

#: Difficulty of a question, by margin (tasks/base.py).
BANDS: tuple[str, ...] = ("hard", "medium", "easy")


@dataclass(frozen=True)
class Thresholds:
    """When the metadata of a clip supports a question.

    Attributes:
        min_points: points an object needs at both frames.
        min_motion_m: least displacement, metres, that is asked about as a distance or a direction.
        noise_factor: displacement must also exceed this many times the clip's measured noise
            (`quality["camera_noise_m"]`; `quality["object_noises_m"]` of the object, else `quality["object_noise_m"]`;
            exact clips have none). So many times the noise must not reach the next option of a distance, a fifth off.
        axis_margin: the dominant axis of a camera direction must exceed the second by this factor.
        tau_m: changes below it are "not moving", metres.
        tau_relative: the same as a share of the object's distance; the larger of the two counts, because ten
            centimetres cannot be seen at thirty metres.
        dead_zone: changes within tau * (1 +- dead_zone) are too close to call and not asked.
        min_distance_m: least camera-object distance that is asked about, metres.
    """

    min_points: int = 8
    min_motion_m: float = 0.1
    noise_factor: float = 3.0
    axis_margin: float = 1.5
    tau_m: float = 0.1
    tau_relative: float = 0.02
    dead_zone: float = 0.5
    min_distance_m: float = 0.2


@dataclass(frozen=True)
class QuestionConfig:
    """How questions are made from clips.

    Attributes:
        seed: decides splits, frame pairs, phrasings, distractors and orders.
        num_frames: frames sampled for the model, even. The paper samples 32.
        tasks: which to ask: the seven, others of schema.EXTRA_TASKS, or those of installed packages.
        max_per_clip: questions per clip, all tasks together.
        max_per_clip_task: questions per clip and task.
        whole_clip_share: share of questions from the first to the last frame; the others name an inner pair, so
            that the frame numbers in the question matter.
        inner_pairs: frame pairs looked at per clip beside first-to-last; more give more questions to choose from.
        difficulties: bands that are asked, of hard, medium and easy: by how much the deciding quantity exceeds what
            can be told (tasks/base.py).
        balance_difficulty: ask the bands of a task equally often, as far as clips have them.
        val_fraction, test_fraction: shares of clips; the rest trains.
        balance_ratio: an answer of a task occurs at most this many times the second commonest and the mean answer; a
            quarter of what exceeds 1 is allowed among questions about equally long spans (`fair_share`). Infinite: no
            balance at all, what clips offer.
        option_spread: "even" numeric options lie about a fifth apart and hide the truth from a blind guess; "wide"
            ones fill 25 to 175 percent of the truth, easier for a small model but also for a guess (options.py).
        cold_start: None for all train rows, or at most this many.
        cot_style: "full" for readers of 8B size, "compact" (under 90 words) for tiny ones.
        cot_decimals: decimals of coordinates in responses; released texts print four.
        thresholds: see Thresholds.
    """

    seed: int = 0
    num_frames: int = 32
    tasks: tuple[str, ...] = TASKS
    max_per_clip: int = 14
    max_per_clip_task: int = 2
    whole_clip_share: float = 0.6
    inner_pairs: int = 4
    difficulties: tuple[str, ...] = BANDS
    balance_difficulty: bool = False
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    balance_ratio: float = 1.25
    option_spread: str = "even"
    cold_start: int | None = None
    cot_style: str = "full"
    cot_decimals: int = 4
    thresholds: Thresholds = field(default_factory=Thresholds)

    def fair_share(self, answers: int) -> float:
        """Largest share of one of so many answers among questions that a blind guess can tell from others.

        1.0625 times its due by default: of two options 53 percent, of three 35.4, of four 26.6.
        """
        return (1 + 0.25 * (self.balance_ratio - 1)) / answers

    @property
    def fair_rank_share(self) -> float:
        """The same of one rank of the truth among four numbers: 1.1 times its due, 27.5 percent.

        More than of words, since a guess does not tell places of sets apart as surely: it then reaches 27 percent.
        """
        return (1 + 0.4 * (self.balance_ratio - 1)) / 4

    def __post_init__(self) -> None:
        known = [task for task in known_tasks() if task != OTHER_TASK]
        unknown = [task for task in self.tasks if task not in known]
        if unknown or not self.tasks:
            raise InputError(f"unknown tasks {unknown}", field="tasks", remedy=f"Known: {', '.join(known)}")
        if self.num_frames < 2 or self.num_frames % 2:
            raise InputError(f"must be even and at least 2, got {self.num_frames}", field="num_frames")
        for name in ("whole_clip_share", "val_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"must lie in 0..1, got {getattr(self, name)}", field=name)
        if self.val_fraction + self.test_fraction >= 1:
            raise InputError("val and test leave no clips for training", field="val_fraction")
        if self.cot_style not in ("full", "compact"):
            raise InputError(f"unknown style {self.cot_style!r}", field="cot_style", remedy="Known: full, compact")
        if self.option_spread not in SPREADS:
            raise InputError(
                f"unknown spread {self.option_spread!r}", field="option_spread", remedy=f"Known: {', '.join(SPREADS)}"
            )
        for name in ("max_per_clip", "max_per_clip_task"):
            if getattr(self, name) < 1:
                raise InputError(f"must be at least 1, got {getattr(self, name)}", field=name)
        if self.inner_pairs < 0:
            raise InputError(f"must not be negative, got {self.inner_pairs}", field="inner_pairs")
        if not self.difficulties or set(self.difficulties) - set(BANDS):
            raise InputError(
                f"unknown difficulties {self.difficulties}", field="difficulties", remedy=f"Known: {', '.join(BANDS)}"
            )
        if not 0 <= self.cot_decimals <= 6:
            raise InputError(f"must lie in 0..6, got {self.cot_decimals}", field="cot_decimals")
