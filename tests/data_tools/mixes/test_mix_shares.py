"""Mixes: named shares, one's own, what falls short, and the same bytes for a seed."""

import json
from collections import Counter

import pytest

from mllm4d_verl.data_tools.errors import InputError
from mllm4d_verl.data_tools.mixes import Mix, draw_mix, load_mix, named_mixes, parse_source
from mllm4d_verl.data_tools.schema import TASKS, QARow, read_qa, write_qa

DISTANCE, DIRECTION = "camera_absolute_distance", "camera_relative_direction"


def row(number, task, clip, split="train", **changes):
    words = task == DIRECTION
    options = ["left", "right", "up", "down"] if words else ["1.0", "2.0", "3.0", "4.0"]
    return QARow(
        id=f"q{number}", clip_id=f"clip{clip}", video=f"videos/clip{clip}.mp4", num_frames=8, task=task, start_frame=0,
        end_frame=7, question="How?", options=options, answer="A", answer_text=options[0],
        value=None if words else 1.0, unit=None if words else "meters",
        camera_center=[[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], split=split, **changes,
    )  # fmt: skip


@pytest.fixture
def source(tmp_path):
    """60 distances and 20 directions about ten clips, and ten held-out distances."""
    rows = [row(n, DISTANCE, n % 10) for n in range(60)] + [row(100 + n, DIRECTION, n % 10) for n in range(20)]
    rows += [row(200 + n, DISTANCE, 20 + n, "test") for n in range(10)]
    write_qa(tmp_path / "in" / "rows.parquet", rows)
    (tmp_path / "in" / "videos").mkdir()
    for number in range(10):  # the paths of videos that are not there stay as they are
        (tmp_path / "in" / "videos" / f"clip{number}.mp4").touch()
    return tmp_path / "in" / "rows.parquet"


def test_the_published_shares():
    assert named_mixes() == ["2m", "bench", "cold_start", "r1_30k"]
    for name, rows in (("2m", 2_000_000), ("cold_start", 7000), ("r1_30k", 30_000), ("bench", 6000)):
        mix = load_mix(name)
        assert mix.rows == rows
        assert set(mix.tasks) == set(TASKS)
    shares = load_mix("r1_30k").tasks
    assert sum(shares.values()) == pytest.approx(100.1)  # as published: 20 + 19.2 + 16.7 + 19.2 + 16.7 + 8.3
    assert (shares["object_absolute_distance"], shares[DISTANCE], shares[DIRECTION]) == (20.0, 19.2, 16.7)
    assert load_mix("bench").split == "test"


def test_shares_are_met_and_spread_over_clips(source, tmp_path):
    drawn = draw_mix(Mix({DISTANCE: 3, DIRECTION: 1}, rows=40), [parse_source(str(source))], tmp_path / "mix.parquet")
    rows = read_qa(tmp_path / "mix.parquet")
    assert Counter(r.task for r in rows) == {DISTANCE: 30, DIRECTION: 10}
    assert Counter(r.clip_id for r in rows if r.task == DISTANCE) == {f"clip{n}": 3 for n in range(10)}
    assert {r.split for r in rows} == {"train"}
    assert not drawn.short
    assert rows[0].video.startswith("in/videos/clip")


def test_without_a_number_shares_are_kept(source, tmp_path):
    drawn = draw_mix(Mix({DISTANCE: 1, DIRECTION: 1}), [parse_source(str(source))], tmp_path / "mix.parquet")
    assert [cell.drawn for cell in drawn.cells] == [20, 20]
    assert not drawn.short


def test_what_falls_short_is_named(source, tmp_path):
    drawn = draw_mix(Mix({DISTANCE: 1, DIRECTION: 1}, rows=100), [parse_source(str(source))], tmp_path / "mix.parquet")
    assert [(cell.task, cell.wanted, cell.drawn) for cell in drawn.short] == [(DIRECTION, 50, 20)]
    assert drawn.rows == 70


def test_a_seed_gives_the_same_bytes(source, tmp_path):
    mix, sources = Mix({DISTANCE: 1}, rows=15), [parse_source(str(source))]
    files = [tmp_path / f"{number}.parquet" for number in range(3)]
    for file, seed in zip(files, (0, 0, 1), strict=True):
        draw_mix(mix, sources, file, seed=seed)
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_sources_have_shares_names_and_licences(source, tmp_path):
    sources = [parse_source(f"a={source}"), parse_source(f"b={source}")]
    mix = Mix({DISTANCE: 1}, rows=20, sources={"a": 1, "b": 3}, licenses={"b": "CC-BY-4.0"})
    draw_mix(mix, sources, tmp_path / "mix.parquet")
    rows = read_qa(tmp_path / "mix.parquet")
    assert Counter(r.meta["source"] for r in rows) == {"a": 5, "b": 15}
    assert {r.meta.get("license") for r in rows if r.meta["source"] == "b"} == {"CC-BY-4.0"}
    assert all(r.id.startswith(f"{r.meta['source']}/q") and r.clip_id.startswith(f"{r.meta['source']}/") for r in rows)
    with pytest.raises(InputError, match="which is no source"):
        draw_mix(mix, sources[:1], tmp_path / "mix.parquet")


def test_a_licence_goes_to_its_own_source_alone(source, tmp_path):
    rows = read_qa(source)
    rows[0].meta = {"source": "elsewhere"}
    write_qa(source, rows)
    mix = Mix({DISTANCE: 1}, rows=60, licenses={"a": "CC-BY-4.0"})
    draw_mix(mix, [parse_source(f"a={source}")], tmp_path / "mix.parquet")
    found = {(r.meta["source"], r.meta.get("license")) for r in read_qa(tmp_path / "mix.parquet")}
    assert found == {("a", "CC-BY-4.0"), ("elsewhere", None)}
    with pytest.raises(InputError, match="licence of 'a', which is no source"):
        draw_mix(mix, [parse_source(str(source))], tmp_path / "mix.parquet")


def test_a_task_that_is_absent_is_named(source, tmp_path):
    with pytest.raises(InputError, match="are of object_speed"):
        draw_mix(Mix({DISTANCE: 1, "object_speed": 1}), [parse_source(str(source))], tmp_path / "mix.parquet")


def test_rows_that_share_an_id_are_refused(source, tmp_path):
    twice = [parse_source(str(source)), parse_source(str(source))]
    with pytest.raises(InputError, match=r"rows\.parquet.*row 0.*repeats"):
        draw_mix(Mix({DISTANCE: 1}, rows=5), twice, tmp_path / "mix.parquet")
    assert not (tmp_path / "mix.parquet").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tasks: {dancing: 1}", "tasks.*no task 'dancing'"),
        ("tasks: {camera_absolute_distance: -1}", "tasks.*positive number"),
        ("tasks: {camera_absolute_distance: .nan}", "tasks.*positive number"),
        ("rows: many\ntasks: {camera_absolute_distance: 1}", "rows.*positive integer"),
        ("task: {camera_absolute_distance: 1}", "task.*unknown key"),
        ("tasks: [", "not YAML"),
        ("rows: 5", "tasks.*names no task"),
    ],
)
def test_a_mix_of_ones_own_is_checked(tmp_path, text, problem):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"(?s)mine\.yaml.*{problem}"):
        load_mix(file)


def test_the_command(source, tmp_path, mllm4d):
    (tmp_path / "mine.yaml").write_text(f"tasks: {{{DISTANCE}: 1, {DIRECTION}: 1}}\nrows: 30\n")
    done = mllm4d("data", "mix", tmp_path / "mine.yaml", tmp_path / "mix.parquet", source, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 30
    (tmp_path / "x.parquet").write_bytes(b"of an earlier run")
    strict = mllm4d("data", "mix", tmp_path / "mine.yaml", tmp_path / "x.parquet", source, "--rows", "60", "--strict")
    assert strict.returncode != 0
    assert "cannot be met" in strict.stderr
    assert (tmp_path / "x.parquet").read_bytes() == b"of an earlier run"
    assert "Known: 2m, bench" in mllm4d("data", "mix", "nowhere", tmp_path / "x.parquet", source).stderr
