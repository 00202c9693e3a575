"""Publications replace and delete what their marker lists, and nothing else."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.publication import MARKER, Publication, _parse, check_place, check_target, published

NEW = Publication("dataset", "laptop")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project/artifacts/episodes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")


def put(target: Path, files: dict[str, str], new: Publication = NEW) -> None:
    with published(target, check_target(target, new, "--to")) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


def found(target: Path) -> dict[str, str]:
    files = (path for path in target.rglob("*") if path.is_file())
    return {path.relative_to(target).as_posix(): path.read_text() for path in files}


def test_only_what_was_published_is_replaced_and_deleted(tmp_path: Path) -> None:
    target = tmp_path / "out"
    put(target, {"a": "1", "b/c": "2", "d/e": "3"})
    id = json.loads((target / MARKER).read_text())["id"]
    (target / "b/mine").write_text("mine")
    put(target, {"a": "new", "f/g": "4"})
    files = found(target)
    marker = json.loads(files.pop(MARKER))
    assert files == {"a": "new", "b/mine": "mine", "f/g": "4"}
    assert marker == {"kind": "dataset", "of": "laptop", "files": ["a", "f/g"], "id": id}
    assert not (target / "d").exists()


@pytest.mark.parametrize("way", ["file", "folder", "parent", "link"])
def test_a_file_in_the_way_stops_it_before_anything_is_replaced(tmp_path: Path, way: str) -> None:
    target, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    put(target, {"a": "1"})
    if way == "file":
        (target / "b").mkdir()
        (target / "b/c").write_text("mine")
    elif way == "folder":
        (target / "b/c/d").mkdir(parents=True)
    elif way == "parent":
        (target / "b").write_text("mine")
    else:
        (target / "b").symlink_to(elsewhere)
    before = found(target)
    with pytest.raises(UserError, match="in the way"):
        put(target, {"a": "2", "b/c": "3"})
    assert found(target) == before
    assert not any(elsewhere.iterdir())


def test_a_listed_file_behind_a_link_is_not_deleted(tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    put(target, {"a": "1", "b/c": "2"})
    (target / "b").rename(elsewhere)
    (target / "b").symlink_to(elsewhere)
    put(target, {"a": "1"})
    assert (elsewhere / "c").read_text() == "2"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "deep/out"
    for earlier in ({}, {"a": "1"}):
        if earlier:
            put(target, earlier)
        with pytest.raises(IsADirectoryError):
            put(target, {"a": "half", ".": "no file"})
        assert {name: text for name, text in found(target).items() if name != MARKER} == earlier
        assert target.exists() == bool(earlier)


@pytest.mark.parametrize("moved", range(6))
def test_killed_at_any_moment_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    target, left = tmp_path / "out", moved

    def replace(source: Path, destination: Path) -> None:
        nonlocal left
        if not left:
            raise SystemExit
        left -= 1
        source.rename(destination)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.publication.os.replace", replace)
        with pytest.raises(SystemExit):
            put(target, {"a": "1", "b/c": "2", "d": "3"})
    put(target, {"a": "1", "d": "4"})
    files = found(target)
    files.pop(MARKER)
    assert files == {"a": "1", "d": "4"}


def test_an_empty_folder_may_be_taken_and_another_kind_not(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    put(target, {"a": "1"})
    with pytest.raises(UserError, match="another publication already"):
        put(target, {"a": "1"}, Publication("export", "x"))


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_a_damaged_marker_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="damaged"):
        _parse(text, "out")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", ".", "a\0", 3, None])
def test_a_marker_cannot_lead_outside(name: object) -> None:
    fields = {"kind": "dataset", "of": "x", "files": [name], "id": "1"}
    with pytest.raises(UserError, match="damaged"):
        _parse(json.dumps(fields), "out")


def test_places(tmp_path: Path) -> None:
    source = Path("artifacts/dataset")
    for place in ("out", "artifacts/published/x", "artifacts/published_experts/x"):
        assert check_place(Path(place), [source], "--to") == Path(place).resolve()
    for place in ("artifacts", "artifacts/x", "artifacts/published/../x", "/", ".", source):
        with pytest.raises(UserError, match=r"^--to: "):
            check_place(Path(place), [source], "--to")
    (tmp_path / "linked").symlink_to(Path("artifacts/episodes").resolve())
    Path("artifacts/published").symlink_to("episodes")
    for place in (tmp_path / "linked/x", Path("artifacts/published/x")):
        with pytest.raises(UserError, match="place of the stages"):
            check_place(place, [source], "--to")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(UserError, match=r"^--to: "):
        check_target(check_place(loop, [], "--to"), NEW, "--to")


def test_artifacts_may_be_elsewhere(tmp_path: Path) -> None:
    Path("artifacts").rename(tmp_path / "disk")
    Path("artifacts").symlink_to(tmp_path / "disk")
    assert check_place(Path("artifacts/published/x"), [], "--to") == tmp_path / "disk/published/x"
    with pytest.raises(UserError, match="place of the stages"):
        check_place(tmp_path / "disk/episodes/x", [], "--to")
