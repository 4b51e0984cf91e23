"""FoundationStereo's archives: PNG files in zips with a table, joined with Stereo4D's npz and videos."""

import zipfile

import cv2
import numpy as np
import pytest
from test_reader_stereo4d import NAME, NUM_FRAMES, TIMES_US, VIDEO_ID, write_npz
from tiny_scene import drive, from_first, measured_disparity, plane_pair

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.readers.foundation_stereo import FoundationStereoReader, scale_disparity
from mllm4d_verl.data_tools.synthetic.mp4 import write_mp4

SIZE = 784
FRAMES = [0, 2, 3]
HEADER = "file_name,zip_file,vid_id,frame_idx,youtube_video_id,timestamp_us,timestamp_sec,video_frame_index,fps"


def png(disparity: np.ndarray) -> bytes:
    """Bytes of a disparity as the data set writes it: thousandths of a pixel in digits of base 255, red the highest."""
    thousandths = np.rint(disparity * 1000).astype(np.int64)
    red, rest = np.divmod(thousandths, 255 * 255)
    green, blue = np.divmod(rest, 255)
    return cv2.imencode(".png", np.stack([blue, green, red], axis=-1).astype(np.uint8))[1].tobytes()


def truth(frame: int) -> np.ndarray:
    """A slanted plane with a nearer half, and a corner that is not known."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    disparity = 40 + frame + 0.01 * columns + 0.005 * rows + 60 * (columns >= SIZE // 2)
    disparity[:56, :56] = 0
    return disparity


def table_row(frame: int, file: str, archive: str = "0000000.zip") -> str:
    time = TIMES_US[frame]
    return f"{file},{archive},{NAME},{frame},{VIDEO_ID},{time},{time / 1e6},{2 + frame},30.0"


@pytest.fixture(scope="module")
def pngs():
    return {frame: png(truth(frame)) for frame in FRAMES}


@pytest.fixture
def folder(tmp_path, pngs):
    """Two frames in the first archive, in a folder of it, and one in the second."""
    rows = [HEADER]
    for archive, frames, inside in (("0000000.zip", FRAMES[:2], "train/"), ("0000001.zip", FRAMES[2:], "")):
        with zipfile.ZipFile(tmp_path / archive, "w") as packed:
            for frame in frames:
                file = f"{NAME}_frame_{frame:06d}.png"
                packed.writestr(inside + file, pngs[frame])
                rows.append(table_row(frame, file, archive))
    (tmp_path / "metadata.csv").write_text("\n".join([rows[0], *rows[:0:-1]]) + "\n")  # the order is not relied on
    return tmp_path


def open_clip(folder, **options):
    reader = FoundationStereoReader()
    (ref,) = reader.find(folder, **options)
    return reader.open(ref)


class TestDisparity:
    def test_digits_are_of_base_255(self, folder):
        clip = open_clip(folder)
        expected = truth(2)
        disparity = clip.disparity(1)
        assert disparity.dtype == np.float32
        assert np.isnan(disparity[:56, :56]).all()
        known = expected > 0
        assert np.abs(disparity[known] - expected[known]).max() < 0.001
        assert clip.camera.focal_px == pytest.approx(678.97, abs=0.01)
        assert clip.depth(1)[100, 200] == pytest.approx(678.964 * 0.063 / expected[100, 200], rel=1e-4)

    def test_another_size_scales_the_values_and_keeps_the_edges(self, folder):
        clip = open_clip(folder, size=196)
        disparity, full = clip.disparity(0), truth(0)
        assert disparity.shape == (196, 196)
        left = disparity[100, :98]
        assert left.max() * 4 < 49  # nothing between the two surfaces
        assert disparity[100, 30] == pytest.approx(full[402, 122] / 4, abs=0.01)
        assert clip.depth(0)[100, 30] == pytest.approx(678.964 * 0.063 / full[402, 122], rel=1e-3)

    def test_unpacked_files_do_as_well(self, folder, pngs):
        (folder / "0000000").mkdir()
        for archive in folder.glob("*.zip"):
            archive.unlink()
        (folder / "0000000" / f"{NAME}_frame_000000.png").write_bytes(pngs[0])
        (folder / f"{NAME}_frame_000002.png").write_bytes(pngs[2])
        clip = open_clip(folder)
        assert np.nanmax(clip.disparity(1)) == pytest.approx(truth(2).max(), abs=0.001)
        assert np.nanmax(clip.disparity(0)) == pytest.approx(truth(0).max(), abs=0.001)
        with pytest.raises(InputError, match=r"0000001\.zip"):
            clip.disparity(2)

    def test_upscaling(self):
        assert scale_disparity(np.array([[1, 2]], np.float32), 4, 2).tolist() == [[2, 2, 4, 4], [2, 2, 4, 4]]


class TestJoin:
    def test_alone_it_has_no_images(self, folder):
        clip = open_clip(folder)
        assert (clip.clip_id, clip.num_frames, clip.has_frames, clip.cam_to_world) == (NAME, 3, False, None)
        assert clip.timestamps_s == pytest.approx([0, 2 / 30, 3 / 30], abs=1e-5)
        with pytest.raises(InputError, match="videos=FOLDER"):
            clip.pairs()

    def test_poses_come_from_the_npz(self, folder):
        (folder / "npz").mkdir()
        write_npz(folder / "npz")
        assert np.allclose(open_clip(folder).cam_to_world, from_first(drive(NUM_FRAMES)[FRAMES]))

    def test_frames_of_a_rectified_pair(self, folder):
        for eye in (0, 1):
            images = np.stack([plane_pair(5 + t, width=64, height=64)[eye] for t in range(NUM_FRAMES)])
            write_mp4(folder / f"{NAME}-{('left', 'right')[eye]}_rectified.mp4", images, 30.0)
        clip = open_clip(folder)
        assert clip.disparity(0).shape == (64, 64)
        assert [(pair.frame, measured_disparity(pair)) for pair in clip.pairs()] == [(0, 5), (1, 7), (2, 8)]
        assert [pair.frame for pair in clip.pairs(1, 2)] == [1]

    def test_frames_of_the_raw_video(self, folder):
        (folder / "npz").mkdir()
        write_npz(folder / "npz")
        frames = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.full((1, 64, 128, 3), 20, np.uint8)
        write_mp4(folder / f"{VIDEO_ID}.mp4", frames, 30.0)
        clip = open_clip(folder, size=32)
        levels = [pair.left[16, 16, 0] / 20 for pair in clip.pairs()]
        assert levels == pytest.approx([2, 4, 5], abs=0.2)


class TestReader:
    def test_recognises_the_table(self, folder, tmp_path_factory):
        reader = FoundationStereoReader()
        assert "zip_file" in reader.recognises(folder)
        other = tmp_path_factory.mktemp("other")
        (other / "metadata.csv").write_text("file_name,label\na.png,cat\n")
        assert reader.recognises(other) is None

    @pytest.mark.parametrize(
        ("row", "field", "words"),
        [
            (table_row(0, "a.png").replace(f",{TIMES_US[0]},", ",soon,"), "timestamp_us", "'soon' is not a number"),
            (table_row(1, "a.png").replace(NAME, "../up"), "vid_id", "is not a clip's name"),
            (table_row(2, "again.png"), "frame_idx", "2 comes after 2"),
            (table_row(1, "late.png").replace(str(TIMES_US[1]), "1"), "timestamp_us", "1 comes after"),
        ],
    )
    def test_bad_rows_are_named(self, folder, row, field, words):
        path = folder / "metadata.csv"
        path.write_text(path.read_text() + row + "\n")
        with pytest.raises(InputError, match=words) as caught:
            open_clip(folder)
        assert (caught.value.field, caught.value.file, caught.value.row) == (field, str(path), 4)

    def test_a_missing_column(self, folder):
        path = folder / "metadata.csv"
        path.write_text(path.read_text().replace("zip_file", "archive"))
        with pytest.raises(InputError, match="field zip_file: the column is missing"):
            FoundationStereoReader().find(folder)

    def test_an_archive_that_is_cut_off(self, folder):
        archive = folder / "0000001.zip"
        archive.write_bytes(archive.read_bytes()[:5000])
        with pytest.raises(InputError, match="not a readable zip"):
            open_clip(folder).disparity(2)

    def test_a_png_that_is_not_there(self, folder):
        path = folder / "metadata.csv"
        path.write_text(path.read_text().replace(f"{NAME}_frame_000000", "gone"))
        with pytest.raises(InputError, match=r"the archive has no gone\.png"):
            open_clip(folder).disparity(0)
