"""Commands replace only what they made themselves."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.ownership import check_folder, check_json, check_picture, check_rows, mark

FOREIGN = ["", "{", "[]", "3", "null", '{"other": 1}', "\0\x01", "# Mine"]


def check(folder: Path) -> None:
    check_folder(folder, "record.json", "key", lambda record: record["files"])


def test_a_folder_is_known_by_its_record(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    check(folder)
    folder.mkdir()
    check(folder)
    (folder / "a").write_text("1")
    for text in (None, *FOREIGN):
        if text is not None:
            (folder / "record.json").write_text(text)
        with pytest.raises(UserError, match=r"out' was not made by this command"):
            check(folder)
    (folder / "record.json").write_text(json.dumps({"key": 1, "files": ["a"]}))
    check(folder)
    (folder / "notes").write_text("mine")
    with pytest.raises(UserError, match="notes' was not made by this command and would be lost"):
        check(folder)
    for path in (folder / "a", folder / "a/below"):
        with pytest.raises(UserError, match="is not a folder"):
            check(path)


@pytest.mark.parametrize("text", FOREIGN)
def test_a_table_is_known_by_its_fields(tmp_path: Path, text: str) -> None:
    path, beside = tmp_path / "scores.json", tmp_path / "table.csv"
    check_json(path, ("key",))
    check_rows(path, ("key",), beside)
    path.write_text(text)
    with pytest.raises(UserError, match="was not made by this command"):
        check_json(path, ("key",))
    with pytest.raises(UserError, match="was not made by this command"):
        check_rows(path, ("key",), beside)
    path.write_text('{"key": {"key": 1}}')
    beside.write_text("mine")
    check_json(path, ("key",))
    check_rows(path, ("key",), beside)
    path.unlink()
    with pytest.raises(UserError, match=r"table\.csv' was not made"):
        check_rows(path, ("key",), beside)


def picture(kind: str) -> bytes:
    data = io.BytesIO()
    frames = [Image.fromarray(np.full((8, 8, 3), shade, np.uint8)) for shade in (0, 90, 200)]
    if kind == "GIF":
        frames[0].save(data, kind, save_all=True, append_images=frames[1:])
    else:
        frames[0].save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_marked_picture_is_the_same_picture(tmp_path: Path, kind: str) -> None:
    path, plain = tmp_path / "picture", picture(kind)
    check_picture(path)
    path.write_bytes(plain)
    with pytest.raises(UserError, match="was not made by this command"):
        check_picture(path)
    path.write_bytes(mark(plain))
    check_picture(path)
    with Image.open(path) as marked, Image.open(io.BytesIO(plain)) as original:
        frames = getattr(original, "n_frames", 1)
        assert getattr(marked, "n_frames", 1) == frames
        for frame in range(frames):
            marked.seek(frame)
            original.seek(frame)
            assert np.array_equal(np.asarray(marked), np.asarray(original))
        marked.seek(0)
        marked.load()


def test_a_marked_film_plays(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"vp09"), 30, (32, 32))
    for shade in range(4):
        writer.write(np.full((32, 32, 3), 60 * shade, np.uint8))
    writer.release()
    with pytest.raises(UserError, match="was not made by this command"):
        check_picture(path)
    path.write_bytes(mark(path.read_bytes()))
    check_picture(path)
    film = cv2.VideoCapture(str(path))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert all(film.read()[0] for _ in range(4))


@pytest.mark.parametrize("size", [0, 1, 500])
def test_other_files_and_folders_are_not_pictures(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.gif"
    path.write_bytes(b"G" * size)
    for place in (path, tmp_path):
        with pytest.raises(UserError, match="was not made by this command"):
            check_picture(place)
