"""Calibration from chessboards: rendered pairs with known cameras, and OpenCV's real pictures."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.readers.calibration_file import read_calibration
from mllm4d_verl.data_tools.stereo.calibrate import (
    calibrate_camera,
    calibrate_stereo,
    find_corners,
    pair_pictures,
    write_calibration,
)
from mllm4d_verl.data_tools.stereo.camera import StereoCamera
from mllm4d_verl.data_tools.stereo.rectify import RawStereoCalibration

CHESSBOARDS = Path(__file__).parents[4] / "shared" / "data" / "opencv_stereo_chessboard"
needs_chessboards = pytest.mark.skipif(not CHESSBOARDS.is_dir(), reason="the chessboard pictures are not here")

WIDTH, HEIGHT = 400, 300
LEFT = np.array([[330.0, 0, 203], [0, 331.0, 148], [0, 0, 1]])
RIGHT = np.array([[326.0, 0, 197], [0, 325.0, 151], [0, 0, 1]])
LEFT_LENS = np.array([-0.22, 0.06, 0.001, -0.0005, 0.0])
RIGHT_LENS = np.array([-0.2, 0.05, -0.0007, 0.0003, 0.0])
TURN = cv2.Rodrigues(np.radians([0.4, -1.2, 0.7]))[0]
SHIFT = np.array([-0.1, 0.0015, -0.002])
PATTERN, SQUARE = (8, 5), 0.03
#: Rotation vectors in degrees and places in metres of the board, turned to all sides and moved into all corners.
VIEWS = [
    ((0, 0, 0), (0.05, 0.0, 0.36)),
    ((25, 0, 3), (0.02, 0.05, 0.4)),
    ((-28, 5, 0), (0.1, -0.04, 0.4)),
    ((0, 30, -4), (-0.03, 0.03, 0.4)),
    ((5, -30, 5), (0.12, 0.0, 0.4)),
    ((20, 20, 15), (-0.02, -0.08, 0.42)),
    ((-20, -22, -15), (0.14, 0.08, 0.42)),
    ((18, -25, 30), (0.14, -0.08, 0.45)),
    ((-25, 18, -30), (-0.02, 0.09, 0.45)),
    ((30, 10, 90), (-0.05, 0.0, 0.42)),
    ((-10, 33, 90), (0.17, 0.0, 0.42)),
    ((10, -10, 0), (0.05, 0.08, 0.4)),
]


FINE = 4  # subpixels along each side


def subpixel_rays(matrix, lens) -> np.ndarray:
    """(H * FINE, W * FINE, 3) rays of all subpixels, undistorted."""
    u, v = np.meshgrid((np.arange(WIDTH * FINE) + 0.5) / FINE - 0.5, (np.arange(HEIGHT * FINE) + 0.5) / FINE - 0.5)
    rays = cv2.undistortPoints(np.stack([u.ravel(), v.ravel()], 1)[:, None], matrix, lens)
    return np.concatenate([rays[:, 0], np.ones((u.size, 1))], 1).reshape(*u.shape, 3).astype(np.float32)


def render(board_to_camera, matrix, lens, rays) -> np.ndarray:
    """The board seen through a lens: the rays meet the board's plane. (H, W) uint8."""
    columns, rows = PATTERN
    outline = np.array([[x, y, 0.0] for x in (-2, columns + 1) for y in (-2, rows + 1)]) * SQUARE
    turn = cv2.Rodrigues(board_to_camera[:3, :3])[0]
    seen = cv2.projectPoints(outline, turn, board_to_camera[:3, 3], matrix, lens)[0][:, 0]
    (left, top), (right, bottom) = np.clip([seen.min(0), seen.max(0)], 0, (WIDTH, HEIGHT)).astype(int)
    part = rays[top * FINE : bottom * FINE, left * FINE : right * FINE]
    plane = board_to_camera[:3, [0, 1, 3]]  # ray = plane (x, y, 1) up to scale
    board = part @ np.linalg.inv(plane).T.astype(np.float32)
    x, y = np.floor(board[..., 0] / board[..., 2] / SQUARE), np.floor(board[..., 1] / board[..., 2] / SQUARE)
    black = (x >= -1) & (x < columns) & (y >= -1) & (y < rows) & ((x + y) % 2 == 0)
    image = np.full((HEIGHT, WIDTH), 220.0)
    share = black.reshape(bottom - top, FINE, right - left, FINE).mean((1, 3))
    image[top:bottom, left:right] -= 190 * share
    noise = np.random.default_rng(int(board_to_camera[2, 3] * 1e6)).normal(0, 1.5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def board_poses():
    left_to_right = np.eye(4)
    left_to_right[:3, :3], left_to_right[:3, 3] = TURN, SHIFT
    for turn, place in VIEWS:
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(np.radians(np.array(turn, float)))[0]
        middle = np.array([(PATTERN[0] - 1) / 2, (PATTERN[1] - 1) / 2, 0]) * SQUARE
        pose[:3, 3] = np.array(place) - pose[:3, :3] @ middle
        yield pose, left_to_right @ pose


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    left_rays, right_rays = subpixel_rays(LEFT, LEFT_LENS), subpixel_rays(RIGHT, RIGHT_LENS)
    return [
        (render(left, LEFT, LEFT_LENS, left_rays), render(right, RIGHT, RIGHT_LENS, right_rays))
        for left, right in board_poses()
    ]


@pytest.fixture(scope="module")
def calibration(pairs):
    return calibrate_stereo(pairs, PATTERN, SQUARE)


def projected_shift(raw) -> float:
    """Largest distance, pixels, between points seen by the true left camera and by the one found."""
    points = np.array([[x, y, 1.0] for x in (-0.4, 0, 0.4) for y in (-0.3, 0, 0.3)])
    none = np.zeros(3)
    true = cv2.projectPoints(points, none, none, LEFT, LEFT_LENS)[0]
    found = cv2.projectPoints(points, none, none, raw.left_matrix, raw.left_distortion)[0]
    return float(np.abs(true - found).max())


def read_raw(path):
    record = json.loads(path.read_text())
    assert record.pop("model") == "raw pinhole"
    fps = record.pop("fps", None)
    record["translation"] = record.pop("translation_m")
    return RawStereoCalibration(**record), fps


def test_known_cameras_are_found(calibration):
    raw = calibration.raw
    assert calibration.rms_px < 0.15
    np.testing.assert_allclose(raw.left_matrix[[0, 1], [0, 1]], [330, 331], rtol=0.004)
    np.testing.assert_allclose(raw.right_matrix[[0, 1], [0, 1]], [326, 325], rtol=0.004)
    assert projected_shift(raw) < 0.5
    assert np.degrees(np.linalg.norm(cv2.Rodrigues(raw.rotation @ TURN.T)[0])) < 0.15
    np.testing.assert_allclose(raw.translation, SHIFT, atol=0.0007)
    assert raw.rectify().camera.baseline == pytest.approx(np.linalg.norm(SHIFT), rel=0.005)


def test_rows_of_rectified_boards_correspond(calibration, pairs):
    rectification = calibration.raw.rectify()
    corners = [find_corners(image, PATTERN) for image in rectification.apply(*pairs[7])]
    assert np.abs((corners[0] - corners[1])[:, 1]).max() < 0.3
    depth = rectification.camera.depth((corners[0] - corners[1])[:, 0])
    space = rectification.camera.lift(corners[0], depth).reshape(PATTERN[1], PATTERN[0], 3)
    sides = np.linalg.norm(np.diff(space, axis=1), axis=-1)
    assert np.median(sides) == pytest.approx(SQUARE, rel=0.02)


def test_report(calibration):
    assert [view.left_out for view in calibration.views] == [None] * len(VIEWS)
    assert all(max(view.errors_px) < 0.3 for view in calibration.views)
    assert 0.4 < calibration.left.coverage < 1
    assert calibration.left.focal_std_px < 2


def test_views_that_do_not_fit_are_left_out_and_named(pairs):
    spoilt = list(pairs)
    spoilt[2] = (pairs[2][0], np.full_like(pairs[2][1], 128))  # a board in one eye only
    spoilt[5] = (pairs[5][0], np.roll(pairs[5][1], 6, axis=0))  # the rig was moved, or taken at another moment
    calibration = calibrate_stereo(spoilt, PATTERN, SQUARE)
    left_out = {index: view.left_out for index, view in enumerate(calibration.views) if view.left_out}
    assert left_out.keys() == {2, 5}
    assert left_out[2] == "no whole board found in the right eye"
    assert "the median is" in left_out[5]
    assert np.isnan(calibration.views[2].errors_px).all()
    np.testing.assert_allclose(calibration.raw.translation, SHIFT, atol=0.001)


def test_right_boards_found_upside_down_are_turned(pairs):
    from mllm4d_verl.data_tools.stereo import calibrate

    corners = find_corners(pairs[0][1], PATTERN)
    turned = calibrate._same_direction(find_corners(pairs[0][0], PATTERN), corners[::-1])
    np.testing.assert_array_equal(turned, corners)


def test_one_camera_alone(pairs):
    camera = calibrate_camera([left for left, _ in pairs], PATTERN, SQUARE)
    assert camera.rms_px < 0.15
    for name, (true, _) in zip(camera.board_poses, board_poses(), strict=True):
        np.testing.assert_allclose(camera.board_poses[name][:3, 3], true[:3, 3], atol=0.005)


def test_few_flat_views_are_warned_of(pairs):
    camera = calibrate_camera([pairs[index][0] for index in (0, 1, 3)], PATTERN, SQUARE)
    assert any("only 3 views" in warning for warning in camera.warnings())
    assert any("of the picture" in warning for warning in camera.warnings())


def test_swapped_eyes_are_named(pairs):
    with pytest.raises(InputError, match="eyes swapped"):
        calibrate_stereo([(right, left) for left, right in pairs], PATTERN, SQUARE)


@pytest.mark.parametrize(
    ("pattern", "square", "words"),
    [
        ((9, 6), SQUARE, "found in 0 of 3"),
        ((7, 7), SQUARE, "turned"),
        ((8, 2), SQUARE, "small"),
        (PATTERN, 0, "metres"),
    ],
    ids=str,
)
def test_wrong_boards(pairs, pattern, square, words):
    with pytest.raises(InputError, match=words):
        calibrate_camera([left for left, _ in pairs[:3]], pattern, square)


def test_wrong_pictures(pairs, tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        calibrate_camera([], PATTERN, SQUARE)
    with pytest.raises(InputError, match="200x150 pixels, the first picture 400x300"):
        calibrate_camera([pairs[0][0], pairs[0][0][::2, ::2]], PATTERN, SQUARE)
    (tmp_path / "text.png").write_text("none")
    with pytest.raises(InputError, match="not a picture"):
        calibrate_camera([tmp_path / "text.png"], PATTERN, SQUARE)


def test_pairs_by_the_number_in_the_name():
    left = [Path(f"left/l_{number}.png") for number in (1, 2, 10)]
    right = [Path(f"right/cam1_0{number}.png") for number in (10, 3, 2)]
    pairs, alone = pair_pictures(left, right)
    assert [(one.name, other.name) for one, other in pairs] == [
        ("l_2.png", "cam1_02.png"),
        ("l_10.png", "cam1_010.png"),
    ]
    assert [path.name for path in alone] == ["l_1.png", "cam1_03.png"]
    assert pair_pictures([Path("a.png")], [Path("b.png")]) == ([(Path("a.png"), Path("b.png"))], [])
    with pytest.raises(InputError, match="1 left and 2 right"):
        pair_pictures([Path("a.png")], [Path("b.png"), Path("c.png")])


def test_files_are_read_back(calibration, tmp_path):
    write_calibration(tmp_path / "raw.json", calibration.raw, fps=25.0)
    raw, fps = read_raw(tmp_path / "raw.json")
    assert fps == 25.0
    np.testing.assert_array_equal(raw.rotation, calibration.raw.rotation)
    np.testing.assert_allclose(raw.rectify().camera.intrinsics, calibration.raw.rectify().camera.intrinsics)

    camera = StereoCamera(64, 48, LEFT, 0.1, disparity_offset_px=2.5)
    write_calibration(tmp_path / "rectified.json", camera)
    read = read_calibration(tmp_path / "rectified.json")
    assert read.rectification is None
    assert (read.camera.baseline, read.camera.disparity_offset_px) == (0.1, 2.5)
    assert json.loads((tmp_path / "rectified.json").read_text())["model"] == "rectified pinhole"


class TestRealPictures:
    pytestmark = needs_chessboards

    def test_error_and_board_centres(self):
        camera = calibrate_camera(sorted(CHESSBOARDS.glob("left*.jpg")), (9, 6), 1.0)
        assert camera.rms_px < 0.25
        reference = json.loads((CHESSBOARDS / "derived_calibration_and_board_poses.json").read_text())
        poses = reference["board_in_left_cam"]
        assert len(camera.board_poses) == len(poses) == 13
        for number, pose in poses.items():
            center = (camera.board_poses[f"left{number}.jpg"] @ [4.0, 2.5, 0.0, 1.0])[:3]
            assert np.linalg.norm(center - pose["center"]) < 0.03  # squares

    def test_stereo_pair(self):
        pairs, alone = pair_pictures(sorted(CHESSBOARDS.glob("left*.jpg")), sorted(CHESSBOARDS.glob("right*.jpg")))
        assert (len(pairs), alone) == (13, [])
        calibration = calibrate_stereo(pairs, (9, 6), 0.025)
        assert calibration.rms_px < 0.25
        reference = json.loads((CHESSBOARDS / "derived_calibration_and_board_poses.json").read_text())
        np.testing.assert_allclose(calibration.raw.translation / 0.025, reference["T_left_to_right"], atol=0.03)
        left, right = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in pairs[0])
        corners = [find_corners(image, (9, 6)) for image in calibration.raw.rectify().apply(left, right)]
        assert np.abs((corners[0] - corners[1])[:, 1]).mean() < 0.3


class TestCommand:
    @pytest.fixture
    def run(self):
        import typer

        from mllm4d_verl.cli.data_calibrate import calibrate

        app = typer.Typer()
        app.command()(calibrate)
        return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])

    @pytest.fixture
    def folders(self, pairs, tmp_path):
        for eye, index in (("left", 0), ("right", 1)):
            (tmp_path / eye).mkdir()
            for number, pair in enumerate(pairs):
                cv2.imwrite(str(tmp_path / eye / f"{number:03d}.png"), pair[index])
        return tmp_path

    def test_a_pair_of_folders(self, run, folders):
        (folders / "right" / "010.png").unlink()
        out = folders / "out" / "calibration.json"
        result = run(folders / "left", folders / "right", out, "--board", "8x5", "--square", SQUARE, "--json")
        assert result.exit_code == 0, result.output
        assert read_raw(out)[0].rectify().camera.baseline == pytest.approx(0.1, rel=0.01)
        record = json.loads(result.stdout.splitlines()[-1])
        assert record["board"] == [8, 5]
        assert record["square_m"] == SQUARE
        assert len(record["views"]) == len(VIEWS) - 1
        assert [Path(path).name for path in record["without_partner"]] == ["010.png"]
        assert "000.png" in result.output

    def test_one_camera_by_pattern(self, run, folders):
        out = folders / "left.json"
        result = run(folders / "left" / "00*.png", out, "--board", "8x5", "--square", SQUARE, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(out.read_text())["model"] == "raw pinhole camera"
        assert json.loads(result.stdout.splitlines()[-1])["rms_px"] < 0.15

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("left", "out.json", "--board", "eight"), "COLUMNSxROWS"),
            (("nothing", "out.json", "--board", "8x5"), "no pictures"),
            (("left", "out.yml", "--board", "8x5"), "JSON"),
            (("a", "b", "c", "out.json", "--board", "8x5"), "Quote patterns"),
        ],
        ids=str,
    )
    def test_wrong_use(self, run, folders, arguments, words, monkeypatch):
        monkeypatch.chdir(folders)
        result = run(*arguments, "--square", SQUARE)
        assert isinstance(result.exception, InputError)
        assert words in str(result.exception)
