import io
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from untrained import parameters, untrained

from experts.appo.network_policy import spaces_of
from experts.load import load_policy
from experts.play import encode, record
from pipeline.engines import make_envs, render_options
from pipeline.errors import UserError
from pipeline.tasks import all_tasks, get_task

TASKS = ("mujoco-reacher", "metaworld-reach", "babyai-go-to-obj", "atari-pong")
MUJOCO = [id for id in all_tasks() if get_task(id).domain == "mujoco"]


@pytest.fixture
def network(tmp_path):
    def make(id):
        return partial(load_policy, get_task(id), untrained(tmp_path / id, id))

    return make


@pytest.mark.parametrize("id", TASKS)
def test_every_domain_can_be_watched(id, network):
    replay = record(get_task(id), network(id), seed=1, env={}, frames=3)
    assert len(replay.pictures) == 3
    assert len(replay.returns) == 1
    for picture in replay.pictures:
        assert picture.dtype == np.uint8
        assert picture.shape == replay.pictures[0].shape
        assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
        assert 100 < max(picture.shape) <= 256
        assert picture.std() > 1


def test_episodes_follow_each_other_on_seeds_of_their_own(network):
    task, make = get_task("mujoco-reacher"), network("mujoco-reacher")
    replay = record(task, make, seed=1, env={}, episodes=2, frames=60)
    assert len(replay.pictures) == 60
    first, cut = replay.returns
    assert first < cut < 0
    assert (replay.pictures[0] != replay.pictures[50]).any()
    whole = record(task, make, seed=1, env={}, episodes=1, frames=200)
    assert len(whole.pictures) == 50
    assert whole.returns == [first]


@pytest.mark.parametrize("id", TASKS)
def test_the_seed_decides_what_is_seen(id, network):
    def look(seed):
        return record(get_task(id), network(id), seed, env={}, frames=2).pictures

    first, again, other = look(1), look(1), look(2)
    np.testing.assert_array_equal(first, again)
    if id != "atari-pong":  # its games begin alike
        assert first[0].shape != other[0].shape or (first[0] != other[0]).any()


@pytest.mark.parametrize("visible", [True, False])
def test_the_goal_of_meta_world_is_shown_as_the_profile_says(visible):
    task, seen = get_task("metaworld-reach"), []
    for seed in (1, 1, 2):
        envs = make_envs(task, [seed], **{"goal_visible": visible, **render_options(task)})
        seen.append(envs.reset()["continuous_observations"][0, -3:])
        envs.close()
    assert seen[0].any() == visible
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any() == visible


@pytest.mark.parametrize("id", MUJOCO)
def test_mujoco_is_drawn_with_the_shapes_of_the_data(id):
    task = get_task(id)
    theirs, ours = (make_envs(task, [0], **more) for more in (render_options(task), {}))
    assert spaces_of(theirs) == spaces_of(ours)
    np.testing.assert_allclose(theirs.action_space.high, ours.action_space.high)
    theirs.close()
    ours.close()


def test_a_machine_that_cannot_draw_says_so(network, monkeypatch):
    def render(env):
        raise AttributeError("'NoneType' object has no attribute 'glGetError'")

    monkeypatch.setattr("gymnasium.envs.mujoco.MujocoEnv.render", render)
    id = "mujoco-reacher"
    with pytest.raises(UserError, match=r"glGetError.*MUJOCO_GL"):
        record(get_task(id), network(id), seed=1, env={}, frames=3)


def shades(count=6):
    return [np.full((64, 48, 3), 40 * k, np.uint8) for k in range(count)]


def test_a_gif_has_every_picture():
    image = Image.open(io.BytesIO(encode(shades(), ".gif")))
    assert image.n_frames == 6  # type: ignore[attr-defined]
    assert image.size == (48, 64)


def test_a_video_has_every_picture(tmp_path):
    pictures = [np.where(np.arange(3) == 0, picture, 0).astype(np.uint8) for picture in shades()]
    (tmp_path / "x.mp4").write_bytes(encode(pictures, ".mp4"))
    video, seen = cv2.VideoCapture(str(tmp_path / "x.mp4")), []
    while (frame := video.read())[0]:
        seen.append(frame[1][:, :, ::-1])
    assert len(seen) == 6
    np.testing.assert_allclose(seen, pictures, atol=12)


def play(*options):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "experts.play", *options],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def test_the_program_writes_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    id = "babyai-go-to-obj"
    Path("params.yaml").write_text(yaml.safe_dump(parameters(id, source="bot")))
    done = play("--task", id, "--output", "out/x.gif", "--episodes", "2", "--frames", "9")
    assert done.returncode == 0, done.stderr
    assert "returns 0." in done.stderr
    assert Image.open("out/x.gif").size[0] > 100
    Path("mine.gif").write_bytes(b"GIF89a, but of someone else")
    done = play("--task", id, "--output", "mine.gif")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'mine.gif' was not made by this command")
    assert Path("mine.gif").read_bytes() == b"GIF89a, but of someone else"
    for wrong, message in (("x.webm", "must end in"), ("x.gif", "at least 1")):
        done = play("--task", id, "--output", wrong, "--frames", "0")
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
