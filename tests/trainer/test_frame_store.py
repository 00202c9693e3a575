"""Screens come back as they were written, whichever slice is read."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from trainer.feed.frame_store import BLOCK, FrameStore, FrameWriter

FRAMES = np.random.default_rng(0).integers(0, 256, (3 * BLOCK + 5, 84, 84)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    writer = FrameWriter(folder)
    for part in np.split(FRAMES, [1, 7, 7 + 2 * BLOCK]):
        writer.write(part)
    writer.close()
    return folder


@settings(deadline=None)
@given(st.integers(0, len(FRAMES) - 1), st.integers(1, len(FRAMES)))
def test_any_slice_is_read(folder, start, length):
    store = FrameStore(folder)
    assert len(store) == len(FRAMES)
    stop = min(start + length, len(FRAMES))
    np.testing.assert_array_equal(store[start:stop], FRAMES[start:stop])


def test_another_process_opens_it_anew(folder):
    again = pickle.loads(pickle.dumps(FrameStore(folder)))
    np.testing.assert_array_equal(again[5:50], FRAMES[5:50])


def test_a_damaged_store_is_one_line(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "frames.zst").read_bytes())
    data[:50] = bytes(50)
    (tmp_path / "frames.zst").write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        FrameStore(tmp_path)[0:4]
