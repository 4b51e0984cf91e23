"""Learned masks: real Grounding DINO, SAM 2 and SAM 3 of a few thousand random weights prove that the parts fit."""

import shutil
import sys

import numpy as np
import pytest

from mllm4d_verl.data_tools.annotation.clip import annotate_clip
from mllm4d_verl.data_tools.annotation.config import load_config
from mllm4d_verl.data_tools.annotation.run import annotate, find_source
from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.estimation.learned_objects import (
    Detection,
    LearnedSegmenter,
    box_iou,
    clean_names,
    corners,
    distinct,
    mask_iou,
)
from mllm4d_verl.data_tools.readers import open_clip
from mllm4d_verl.data_tools.schema import read_clip
from mllm4d_verl.data_tools.synthetic import world_preset, write_world

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
transformers = pytest.importorskip("transformers")
if not hasattr(transformers, "Sam2VideoModel"):
    pytest.skip("this transformers has no SAM 2 video model", allow_module_level=True)
tiny_networks = pytest.importorskip("tiny_networks")

FRAMES, HEIGHT, WIDTH = 5, 48, 80
NAMES = ["red ball", "blue box", "car"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of models this small only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    try:
        tiny_networks.write_detector(folder / "dino")
        tiny_networks.write_tracker(folder / "sam2")
    except (TypeError, ValueError, AttributeError) as error:
        pytest.skip(f"this transformers does not build the small models: {error}")
    return folder


@pytest.fixture(scope="module")
def segmenter(models):
    return LearnedSegmenter(
        str(models / "dino"), str(models / "sam2"), keyframe_every=3, min_score=0.05, max_overlap=0.9
    )


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).integers(0, 255, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)


class TestRealModels:
    def test_detections(self, segmenter, video):
        found = segmenter._detector.detect(video[0], NAMES)
        assert found
        assert {item.entity for item in found} <= set(NAMES)
        assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
        for item in found:
            assert (item.box[:2] >= 0).all()
            assert (item.box[2:] <= [WIDTH, HEIGHT]).all()

    def test_names_by_their_tokens(self, segmenter):
        tokens = [2, 6, 7, 5, 8, 9, 5, 10, 5, 3]  # [CLS] red ball . blue box . car . [SEP]
        assert segmenter._detector._spans(tokens, NAMES) == [[1, 2], [4, 5], [7]]
        assert segmenter._detector._spans([2, 1, 5, 10, 5, 3], ["zebra", "car"]) == [[1], [3]]

    def test_masks_follow_boxes_both_ways(self, segmenter, video):
        session = segmenter._tracker.open(video)
        boxes = np.array([[8.0, 8, 30, 30], [40, 10, 70, 40]])
        for keyframe in (2, 0, FRAMES - 1):  # one session serves one keyframe after the other
            steps = list(segmenter._tracker.follow(session, keyframe, boxes))
            after, before = range(keyframe, FRAMES), range(keyframe - 1, -1, -1)
            assert [frame for frame, _ in steps] == [*after, *before]
            for _, logits in steps:
                assert logits.shape == (2, HEIGHT, WIDTH)
                assert logits.dtype == np.float32
                assert np.isfinite(logits).all()

    def test_a_whole_video(self, segmenter, video):
        result = segmenter.segment(video, NAMES)
        assert result.masks.shape == (FRAMES, HEIGHT, WIDTH)
        assert result.masks.dtype == np.uint8
        assert result.names
        assert list(result.names) == list(range(1, len(result.names) + 1))
        assert set(result.names.values()) <= set(NAMES)
        assert set(np.unique(result.masks)) <= {0, *result.names}
        again = segmenter.segment(list(video), NAMES)
        np.testing.assert_array_equal(again.masks, result.masks)

    def test_sam3_needs_no_detector(self, tmp_path, video):
        if not hasattr(transformers, "Sam3VideoModel"):
            pytest.skip("this transformers has no SAM 3 video model")
        try:
            tiny_networks.write_sam3(tmp_path)
        except (TypeError, ValueError, AttributeError) as error:
            pytest.skip(f"this transformers does not build the small model: {error}")
        result = LearnedSegmenter("", str(tmp_path)).segment(video[:3], ["red ball", "car"])
        assert result.masks.shape == (3, HEIGHT, WIDTH)
        assert result.masks.dtype == np.uint8
        assert result.masks.any(axis=(1, 2)).all()
        assert list(result.names) == list(range(1, len(result.names) + 1))
        assert set(result.names.values()) == {"red ball", "car"}
        assert set(np.unique(result.masks)) <= {0, *result.names}

    def test_nothing_found(self, models, video):
        strict = LearnedSegmenter(str(models / "dino"), str(models / "sam2"), min_score=1.0)
        result = strict.segment(video, NAMES)
        assert not result.masks.any()
        assert result.names == {}

    def test_more_names_than_are_read_at_once(self, segmenter, video):
        with pytest.raises(InputError, match="over 32"):
            segmenter.segment(video, [f"{'red ' * count}ball" for count in range(1, 10)])

    def test_models_of_another_kind(self, models):
        with pytest.raises(InputError, match="grounding-dino'"):
            LearnedSegmenter(str(models / "dino"), str(models / "dino"))
        with pytest.raises(InputError, match="sam2_video'"):
            LearnedSegmenter(str(models / "sam2"), str(models / "sam2"))
        with pytest.raises(InputError) as caught:
            LearnedSegmenter("", str(models / "sam2"))
        assert caught.value.field == "detector"

    def test_models_that_are_not_there(self, models, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="cannot be loaded"):
            LearnedSegmenter(str(models / "dino"), str(tmp_path / "empty"))


class BoxTracker:
    """Follows exactly: an object is its box, moved two pixels to the right with every frame."""

    def open(self, video):
        return video.shape

    def follow(self, session, keyframe, boxes):
        frames = [*range(keyframe, session[0]), *range(keyframe - 1, -1, -1)]
        for frame in frames:
            logits = np.full((len(boxes), *session[1:3]), -5.0, np.float32)
            for place, (x0, y0, x1, y1) in enumerate(
                (boxes + [2, 0, 2, 0] * (frame - np.full(4, keyframe))).astype(int)
            ):
                logits[place, y0:y1, max(0, x0) : max(0, x1)] = 5.0 + place
            yield frame, logits


class Scripted:
    """Detections by the value of the frame's first pixel."""

    def __init__(self, by_frame):
        self.by_frame = by_frame

    def detect(self, image, names):
        return self.by_frame.get(int(image[0, 0, 0]), [])


def run(by_frame, **settings):
    segmenter = object.__new__(LearnedSegmenter)
    segmenter.keyframe_every, segmenter.max_overlap, segmenter._sam3 = 2, 0.5, None
    segmenter._detector, segmenter._tracker = Scripted(by_frame), BoxTracker()
    video = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    video[:, 0, 0, 0] = np.arange(FRAMES)
    return segmenter.segment(video, NAMES)


def seen(entity, *box, score=0.9):
    return Detection(entity, np.array(box, np.float64), score)


class TestWhatIsNew:
    def test_what_is_followed_is_not_found_again(self):
        result = run(
            {0: [seen("car", 10, 10, 20, 20)], 2: [seen("car", 15, 10, 25, 20)], 4: [seen("car", 18, 10, 28, 20)]}
        )
        assert result.names == {1: "car"}
        assert [int(np.nonzero(mask)[1].min()) for mask in result.masks] == [10, 12, 14, 16, 18]

    def test_a_newcomer_gets_the_next_number_in_all_frames(self):
        result = run(
            {0: [seen("car", 10, 10, 20, 20)], 2: [seen("car", 14, 10, 24, 20), seen("red ball", 50, 10, 60, 20)]}
        )
        assert result.names == {1: "car", 2: "red ball"}
        assert [int(np.nonzero(mask == 2)[1].min()) for mask in result.masks] == [46, 48, 50, 52, 54]
        assert all((mask == 1).sum() == 100 for mask in result.masks)

    def test_two_names_for_one_thing(self):
        result = run({0: [seen("car", 10, 10, 20, 20, score=0.5), seen("blue box", 10, 10, 21, 20, score=0.8)]})
        assert result.names == {1: "blue box"}

    def test_the_surer_one_has_the_pixel(self):
        result = run({0: [seen("car", 10, 10, 30, 20), seen("red ball", 25, 10, 45, 20)]})
        assert [int((result.masks[0] == number).sum()) for number in (1, 2)] == [150, 200]

    def test_frames_that_look_for_nothing_new(self):
        assert run({1: [seen("car", 10, 10, 20, 20)]}).names == {}  # frame 1 is no keyframe

    def test_numbers_end_with_the_byte(self):
        many = [seen("car", x, y, x + 2, y + 2) for x in range(0, 60, 3) for y in range(0, 45, 3)]
        assert len(many) > 255
        assert len(run({0: many}).names) == 255


class TestSmallParts:
    def test_overlaps(self):
        one = np.array([0.0, 0, 10, 10])
        assert box_iou(one, one) == 1
        assert box_iou(one, np.array([5.0, 0, 15, 10])) == pytest.approx(1 / 3)
        assert box_iou(one, np.array([20.0, 20, 30, 30])) == box_iou(one * 0, one * 0) == 0
        mask = np.arange(12).reshape(3, 4) < 6
        assert mask_iou(mask, mask) == 1
        assert mask_iou(mask, ~mask) == mask_iou(mask & False, mask & False) == 0

    def test_distinct_keeps_the_surest(self):
        low, high, other = seen("a", 0, 0, 9, 10, score=0.4), seen("b", 0, 0, 10, 10), seen("c", 30, 0, 40, 10)
        assert distinct([low, high, other], 0.5) == [high, other]

    def test_corners_stay_in_the_image(self):
        boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.0, 1.0, 0.5, 0.5]])
        np.testing.assert_allclose(corners(boxes, 80, 40), [[20, 10, 60, 30], [0, 30, 20, 40]])

    def test_names(self):
        assert clean_names([" Red  Ball.", "red ball", "", "St. Bernard"]) == ["red ball", "st bernard"]
        with pytest.raises(InputError, match="no names"):
            clean_names([" ", "."])

    @pytest.mark.parametrize(
        "frames",
        [[], np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4, 3)), [np.zeros((4, 4, 3)), np.zeros((5, 4, 3))]],
    )
    def test_frames_of_another_form(self, segmenter, frames):
        with pytest.raises(InputError) as caught:
            segmenter.segment(frames, NAMES)
        assert caught.value.field == "frames"

    @pytest.mark.parametrize(("name", "value"), [("keyframe_every", 0), ("min_score", 0.0), ("max_overlap", 1.5)])
    def test_settings_out_of_range(self, name, value):
        with pytest.raises(InputError) as caught:
            LearnedSegmenter("a", "b", **{name: value})
        assert caught.value.field == name

    @pytest.mark.parametrize("package", ["torch", "torchvision", "transformers"])
    def test_packages_are_asked_for_by_name(self, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=f"need {package}, which is not installed"):
            LearnedSegmenter("a", "b")


class TestInTheAnnotation:
    """`mllm4d data annotate --set learned...`, with networks that see something everywhere."""

    @pytest.fixture(scope="class")
    def recording(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("recording") / "world"
        config = world_preset("default").replace(camera_motions={"left": 1}, detail=0.3)
        write_world(folder, 1, seed=2, width=96, height=64, num_frames=8, config=config, dense=False, workers=1)
        shutil.rmtree(folder / "truth")
        return folder

    def settings(self, models, **changes):
        learned = {"detector": str(models / "dino"), "tracker": str(models / "sam2"), "names": NAMES}
        loose = {
            "quality.min_matches": 0, "quality.min_valid_depth": 0, "quality.max_camera_noise_m": 99,
            "quality.min_track_coverage": 0, "quality.max_reprojection_px": 99, "quality.allow_static": True,
        }  # fmt: skip
        return load_config(None, {"learned": {**learned, "min_score": 0.05, "keyframe_every": 8, **changes}, **loose})

    def test_names_become_categories(self, models, recording, tmp_path):
        (ref,) = find_source(recording).refs
        (outcome,) = annotate_clip(open_clip(ref), self.settings(models), tmp_path)
        assert outcome.is_kept, outcome.reasons
        record = read_clip(tmp_path / "clip4d" / "clip_00000.npz")
        assert record.objects
        assert {track.category for track in record.objects} <= set(NAMES)
        assert all(len(points) for track in record.objects for points in track.points[:1])
        assert record.quality["objects"] == "estimate"

    def test_what_is_missing_is_told_before_the_first_clip(self, models, recording, tmp_path, monkeypatch):
        (tmp_path / "none").mkdir()
        config = self.settings(models, tracker=str(tmp_path / "none"))
        with pytest.raises(InputError, match="cannot be loaded") as caught:
            annotate(find_source(recording), tmp_path / "out", config)
        assert caught.value.field == "learned.tracker"
        shutil.copy(models / "sam2" / "config.json", tmp_path / "none")  # a folder without its weights
        with pytest.raises(InputError, match="cannot be loaded"):
            annotate(find_source(recording), tmp_path / "out", config)
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(InputError, match="need transformers, which is not installed"):
            annotate(find_source(recording), tmp_path / "out", self.settings(models))
        assert not (tmp_path / "out").exists()
