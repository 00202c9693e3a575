"""Files are known by what they hold, each hashed once."""

import hashlib
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import content


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "MEMORY", tmp_path / "memory" / "checksums.sqlite")
    return content.MEMORY


@pytest.fixture
def hashed(monkeypatch):
    """The files that were read."""
    files = []
    original = content.sha256
    monkeypatch.setattr(content, "sha256", lambda path: files.append(path) or original(path))
    return files


def old_file(path, data: bytes):
    """A file that was written an hour ago."""
    path.write_bytes(data)
    hour_ago = time.time_ns() - 3600 * 10**9
    os.utime(path, ns=(hour_ago, hour_ago))
    return path


def test_an_old_file_is_read_once(tmp_path, memory, hashed):
    path = old_file(tmp_path / "a", b"data")
    assert content.checksum(path) == content.checksum(path) == hashlib.sha256(b"data").hexdigest()
    assert len(hashed) == 1


def test_a_file_of_just_now_is_read_again(tmp_path, memory, hashed):
    path = tmp_path / "a"
    path.write_bytes(b"data")
    assert content.checksum(path) == content.checksum(path)
    assert len(hashed) == 2


def test_another_file_at_the_same_place_is_another(tmp_path, memory):
    path = old_file(tmp_path / "a", b"one")
    first, state = content.checksum(path), path.stat()
    other = old_file(tmp_path / "b", b"two")
    os.utime(other, ns=(state.st_mtime_ns, state.st_mtime_ns))
    other.replace(path)
    assert content.checksum(path) != first


def test_without_a_place_to_remember_it_still_works(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(content, "MEMORY", tmp_path / "file" / "checksums.sqlite")
    path = old_file(tmp_path / "a", b"data")
    assert content.checksum(path) == hashlib.sha256(b"data").hexdigest()
    (tmp_path / "broken").write_text("no database" * 100)
    monkeypatch.setattr(content, "MEMORY", tmp_path / "broken")
    assert content.checksum(path) == hashlib.sha256(b"data").hexdigest()


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_changed_byte_changes_the_digest(tmp_path_factory, data, draw):
    folder = tmp_path_factory.mktemp("content")
    path = folder / "shard"
    path.write_bytes(data)
    before = content.contents([path])
    place = draw.draw(st.integers(0, len(data) - 1))
    path.write_bytes(data[:place] + bytes([data[place] ^ (1 + place % 255)]) + data[place + 1 :])
    assert content.contents([path]) != before


def test_names_and_order_count(tmp_path, memory):
    one, two = (old_file(tmp_path / name, name.encode()) for name in "ab")
    assert content.contents([one, two]) != content.contents([two, one])


def test_other_bytes_of_the_same_size_are_other_content(tmp_path, memory):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    known = content.checksum(path)
    assert content.same_content(path, 3, known)
    path.write_bytes(b"two")
    assert not content.same_content(path, 3, known)
    path.write_bytes(b"three")
    assert not content.same_content(path, 3, known)
    path.unlink()
    assert not content.same_content(path, 3, known)
