"""Masks of named objects by networks: Grounding DINO finds them and SAM 2 follows them, or SAM 3 does both."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Image = NDArray[np.uint8]
FloatArray = NDArray[np.float64]

_DETECTORS = ("grounding-dino", "mm-grounding-dino")
_TRACKERS = ("sam2_video", "sam3_video")
#: Masks are bytes and 0 is the background.
_MOST_OBJECTS = 255


@dataclass(frozen=True)
class Detection:
    """One object in one frame.

    Attributes:
        entity: the name it was found by.
        box: (4,) left, top, right, bottom in pixels.
        score: 0 to 1.
    """

    entity: str
    box: FloatArray
    score: float


@dataclass(eq=False)
class SegmentedVideo:
    """Objects of a video.

    Attributes:
        masks: (T, H, W) uint8 object ids, 0 background.
        names: entity of each id, ids from 1 in the order found.
    """

    masks: NDArray[np.uint8]
    names: dict[int, str] = field(default_factory=dict)


class LearnedSegmenter:
    """Finds objects by name on keyframes and carries their masks through the video, both ways.

    Needs torch, torchvision and transformers. Models are folders or names on the Hugging Face Hub.

    Args:
        detector: a Grounding DINO; not needed with SAM 3, which finds objects by name itself.
        tracker: a SAM 2 video model ("facebook/sam2.1-hiera-small", say) or a SAM 3 one.
        device: "cpu", "cuda", "cuda:1", ...
        keyframe_every: frames between looks for new objects. This and the two below are not used with SAM 3, whose
            thresholds are in its own config.
        min_score: of a detection, 0 to 1.
        max_overlap: intersection over union from which two detections, or a detection and an object that is followed
            already, are one.

    Raises:
        InputError: a package is not installed; a model cannot be loaded or is of another kind; an argument is out of
            range.
    """

    def __init__(
        self,
        detector: str,
        tracker: str,
        device: str = "cpu",
        *,
        keyframe_every: int = 15,
        min_score: float = 0.3,
        max_overlap: float = 0.5,
    ) -> None:
        if keyframe_every < 1:
            raise InputError(f"must be at least 1, got {keyframe_every}", field="keyframe_every")
        for name, value in (("min_score", min_score), ("max_overlap", max_overlap)):
            if not 0 < value <= 1:
                raise InputError(f"must be above 0 and at most 1, got {value}", field=name)
        self.keyframe_every, self.max_overlap = keyframe_every, max_overlap
        packages()
        self._sam3: _Sam3 | None = None
        if model_type(tracker, "tracker", _TRACKERS) == "sam3_video":
            self._sam3 = _Sam3(tracker, device)
            return
        if not detector:
            raise InputError("is empty", field="detector", remedy="Name a Grounding DINO, or a SAM 3 as tracker")
        model_type(detector, "detector", _DETECTORS)
        self._detector = GroundingDetector(detector, device, min_score)
        self._tracker = _Sam2(tracker, device)

    def segment(self, frames: Sequence[Image] | NDArray[np.uint8], entities: Sequence[str]) -> SegmentedVideo:
        """Masks of everything that goes by one of the names.

        Where masks overlap, the surer one has the pixel.

        Args:
            frames: T images (H, W, 3) uint8 RGB.
            entities: names such as "car" or "red ball".

        Raises:
            InputError: frames of another shape or type; no names, or more than the detector can read at once.
        """
        video = _checked_video(frames)
        names = clean_names(entities)
        if self._sam3 is not None:
            return self._sam3.segment(video, names)
        merged = _Merged(video.shape[:3])
        session = self._tracker.open(video)
        for keyframe in range(0, len(video), self.keyframe_every):
            found = self._detector.detect(video[keyframe], names)
            new = [item for item in distinct(found, self.max_overlap) if not self._is_known(item, merged, keyframe)]
            new = new[: _MOST_OBJECTS - len(merged.names)]
            if new:
                self._follow(session, keyframe, new, merged)
        return SegmentedVideo(merged.labels, merged.names)

    def _is_known(self, item: Detection, merged: _Merged, frame: int) -> bool:
        return any(box_iou(item.box, box) >= self.max_overlap for box in merged.boxes(frame))

    def _follow(self, session: Any, keyframe: int, new: list[Detection], merged: _Merged) -> None:
        """Add those whose mask shows something that nobody has yet."""
        kept: list[int] = []
        ids: list[int] = []
        for frame, logits in self._tracker.follow(session, keyframe, np.stack([item.box for item in new])):
            if not ids:  # the keyframe comes first: only here are masks and boxes of the same time
                shapes = [merged.mask_of(frame, number) for number in merged.names]
                for place, item in enumerate(new):
                    mask = logits[place] > 0
                    if mask.any() and all(mask_iou(mask, other) < self.max_overlap for other in shapes):
                        kept.append(place)
                        shapes.append(mask)
                        ids.append(merged.add(item.entity))
                if not ids:
                    return
            merged.put(frame, logits[kept], ids)


class GroundingDetector:
    """Objects of an image by name, with Grounding DINO.

    A box has the name whose words it answers to most. Names are told apart by their tokens, not by the text of the
    tokens above a threshold, which may be half a name, or parts of two.
    """

    def __init__(self, model: str, device: str, min_score: float) -> None:
        import transformers

        self.min_score, self._device = min_score, device
        self._model = _load(transformers.AutoModelForZeroShotObjectDetection, model, "detector").to(device).eval()
        self._processor = _load(transformers.AutoProcessor, model, "detector")

    def detect(self, image: Image, names: Sequence[str]) -> list[Detection]:
        """Detections in (H, W, 3) uint8 RGB, the surest first. Raises InputError for more names than fit."""
        import torch

        inputs = self._processor(images=image, text=". ".join(names) + ".", return_tensors="pt").to(self._device)
        tokens = inputs["input_ids"][0].tolist()
        longest = int(self._model.config.max_text_len)
        if len(tokens) > longest:
            raise InputError(
                f"{len(names)} names are {len(tokens)} tokens, over {longest}",
                field="entities",
                remedy="Ask for fewer names at a time",
            )
        with torch.inference_mode():
            output = self._model(**inputs)
        scores = output.logits[0, :, : len(tokens)].float().sigmoid().cpu().numpy()
        per_name = np.stack([scores[:, span].max(axis=1) for span in self._spans(tokens, names)], axis=1)
        boxes = corners(output.pred_boxes[0].float().cpu().numpy().astype(np.float64), image.shape[1], image.shape[0])
        best = per_name.argmax(axis=1)
        order = np.argsort(-per_name.max(axis=1), kind="stable")
        return [
            Detection(names[best[query]], boxes[query], float(per_name[query, best[query]]))
            for query in order
            if per_name[query, best[query]] >= self.min_score and (boxes[query, 2:] - boxes[query, :2]).min() >= 1
        ]

    def _spans(self, tokens: list[int], names: Sequence[str]) -> list[list[int]]:
        """Places of the tokens of each name: what stands between the full stops."""
        tokenizer = self._processor.tokenizer
        stop = tokenizer.convert_tokens_to_ids(".")
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        spans: list[list[int]] = [[]]
        for place, token in enumerate(tokens):
            if token == stop:
                spans.append([])
            elif token not in special:
                spans[-1].append(place)
        spans = [span for span in spans if span]
        if len(spans) != len(names):
            raise InputError(
                f"the detector reads {len(spans)} names where {len(names)} were given",
                field="entities",
                remedy="Use plain words",
            )
        return spans


class _Sam2:
    """Masks from boxes, carried through a video."""

    def __init__(self, model: str, device: str) -> None:
        import transformers

        self._device = device
        self._model = _load(transformers.Sam2VideoModel, model, "tracker").to(device).eval()
        self._processor = _load(transformers.Sam2VideoProcessor, model, "tracker")

    def open(self, video: NDArray[np.uint8]) -> Any:
        """A session; frames wait in main memory."""
        return self._processor.init_video_session(
            video=list(video),
            inference_device=self._device,
            processing_device="cpu",
            video_storage_device="cpu",
            dtype=self._model.dtype,
        )

    def follow(self, session: Any, keyframe: int, boxes: FloatArray) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Logits (N, H, W) of each box's object: the keyframe, the frames after it, then those before it."""
        import torch

        session.reset_tracking_data()  # what was followed before needs no second pass
        with torch.inference_mode():
            self._processor.add_inputs_to_inference_session(
                inference_session=session,
                frame_idx=keyframe,
                obj_ids=list(range(1, len(boxes) + 1)),
                input_boxes=[boxes.tolist()],
            )
            for reverse in (False, True):
                steps = self._model.propagate_in_video_iterator(session, start_frame_idx=keyframe, reverse=reverse)
                for output in steps:
                    if reverse and output.frame_idx == keyframe:
                        continue
                    yield output.frame_idx, self._full_size(output.pred_masks, session)

    def _full_size(self, masks: Any, session: Any) -> NDArray[np.float32]:
        import torch

        size = (int(session.video_height), int(session.video_width))
        full = torch.nn.functional.interpolate(masks.float(), size, mode="bilinear", align_corners=False)
        return np.asarray(full[:, 0].cpu().numpy(), np.float32)


class _Sam3:
    """Finds by name and follows in one."""

    def __init__(self, model: str, device: str) -> None:
        import transformers

        if not hasattr(transformers, "Sam3VideoModel"):
            raise InputError(
                f"transformers {transformers.__version__} has no SAM 3 video model",
                field="tracker",
                remedy="Install a newer transformers, or use a SAM 2 model with a detector",
            )
        self._device = device
        self._model = _load(transformers.Sam3VideoModel, model, "tracker").to(device).eval()
        self._processor = _load(transformers.Sam3VideoProcessor, model, "tracker")

    def segment(self, video: NDArray[np.uint8], names: Sequence[str]) -> SegmentedVideo:
        import torch

        session = self._processor.init_video_session(
            video=list(video),
            inference_device=self._device,
            processing_device="cpu",
            video_storage_device="cpu",
            dtype=self._model.dtype,
        )
        labels = np.zeros(video.shape[:3], np.uint8)
        found: dict[int, str] = {}
        numbers: dict[int, int] = {}  # its ids as ours
        with torch.inference_mode():
            self._processor.add_text_prompt(session, list(names))
            for output in self._model.propagate_in_video_iterator(session):
                result = self._processor.postprocess_outputs(session, output)
                name_of = {one: name for name, ids in result["prompt_to_obj_ids"].items() for one in ids}
                masks = result["masks"].cpu().numpy()
                # the surest is written last, over the others
                for place in np.argsort(result["scores"].float().cpu().numpy(), kind="stable"):
                    its_id = int(result["object_ids"][place])
                    if its_id not in numbers:
                        if len(numbers) == _MOST_OBJECTS:
                            continue
                        numbers[its_id] = len(numbers) + 1
                        found[numbers[its_id]] = name_of[its_id]
                    labels[output.frame_idx][masks[place]] = numbers[its_id]
        return SegmentedVideo(labels, found)


class _Merged:
    """Masks of all objects so far, one label per pixel: that of the highest logit."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.labels = np.zeros(shape, np.uint8)
        self.names: dict[int, str] = {}
        self._best = np.zeros(shape, np.float16)  # half is enough to tell which of two is surer

    def add(self, name: str) -> int:
        number = len(self.names) + 1
        self.names[number] = name
        return number

    def put(self, frame: int, logits: NDArray[np.float32], ids: Sequence[int]) -> None:
        for number, values in zip(ids, logits.clip(-1e4, 1e4).astype(np.float16), strict=True):
            wins = values > self._best[frame]
            self.labels[frame][wins] = number
            self._best[frame][wins] = values[wins]

    def mask_of(self, frame: int, number: int) -> NDArray[np.bool_]:
        return np.asarray(self.labels[frame] == number)

    def boxes(self, frame: int) -> list[FloatArray]:
        """Of the objects that are seen, left, top, right, bottom in pixels."""
        found = []
        for number in self.names:
            rows, columns = np.nonzero(self.mask_of(frame, number))
            if len(rows):
                found.append(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64))
        return found


def distinct(detections: Sequence[Detection], max_overlap: float) -> list[Detection]:
    """The detections without those that overlap a surer one, whatever their names."""
    kept: list[Detection] = []
    for item in sorted(detections, key=lambda one: -one.score):
        if all(box_iou(item.box, other.box) < max_overlap for other in kept):
            kept.append(item)
    return kept


def box_iou(one: FloatArray, other: FloatArray) -> float:
    """Intersection over union of two boxes (4,) left, top, right, bottom."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = float(np.prod((high - low).clip(0)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common
    return common / union if union > 0 else 0.0


def mask_iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks, 0 where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def corners(boxes: FloatArray, width: int, height: int) -> FloatArray:
    """(N, 4) centre and size as shares of the image, to left, top, right, bottom in pixels within it."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    return np.asarray(np.concatenate([low, high], axis=1).clip(0, 1) * [width, height, width, height], np.float64)


def clean_names(entities: Sequence[str]) -> list[str]:
    """Names in lower case, single spaces, each once; full stops, which part names for the detector, are taken off."""
    names = [" ".join(re.sub(r"[.\s]+", " ", name).lower().split()) for name in entities]
    names = list(dict.fromkeys(name for name in names if name))
    if not names:
        raise InputError("no names to look for", field="entities", remedy='Give some, such as ["car", "person"]')
    return names


def packages() -> None:
    """Check that what the networks need is installed. Raises InputError."""
    for name in ("torch", "torchvision", "transformers"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise InputError(
                f"learned masks need {name}, which is not installed",
                field="detector",
                remedy="Run pip install torch torchvision transformers",
            ) from None


def model_type(model: str, what: str, known: Sequence[str]) -> str:
    """Kind of a model by its config. Raises InputError where it is none of those known."""
    import transformers

    kind = str(_load(transformers.AutoConfig, model, what).model_type)
    if kind not in known:
        raise InputError(f"{model} is of the kind {kind!r}, not {' or '.join(known)}", field=what)
    return kind


def _load(loader: Any, model: str, what: str) -> Any:
    try:
        return loader.from_pretrained(model)
    except (OSError, ValueError) as error:
        problem = str(error).strip().splitlines()[0]
        raise InputError(
            f"cannot be loaded ({problem})",
            file=model,
            field=what,
            remedy="Give a folder that save_pretrained wrote, processor included, or a name on the Hugging Face Hub",
        ) from None


def _checked_video(frames: Sequence[Image] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    shapes = {np.shape(frame) for frame in frames}
    if len(shapes) != 1:
        raise InputError(f"frames of {len(shapes)} sizes", field="frames", remedy="Give one or more, all of one size")
    video = np.asarray(frames)
    if video.ndim != 4 or video.shape[3] != 3 or video.dtype != np.uint8:
        raise InputError(f"expected (T, H, W, 3) uint8, got {video.shape} {video.dtype}", field="frames")
    return video
