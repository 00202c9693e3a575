"""Gymnasium's Pusher-v4 on MuJoCo 3, with an object that can be pushed.

MuJoCo 3 leaves the armature of a body that only slides and has no child out of its inverse weight:
7.6e7 for the pusher's object, where MuJoCo 2.3.7 has 16.67. The arm then passes through it, so
Gymnasium refuses v4 on MuJoCo 3, and its v5 is another object. One empty child body gives the
object its old weight back, and with it the task of the published data.
"""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import gymnasium
import numpy as np

FRAME_SKIP = 5
"""Simulated steps of an agent step (gymnasium.envs.mujoco.pusher_v4)."""


def model() -> str:
    """Gymnasium's own model of v4, as XML, whose object has an empty child."""
    source = files("gymnasium") / "envs" / "mujoco" / "assets" / "pusher.xml"
    root = ElementTree.fromstring(source.read_text(encoding="utf8"))
    (thing,) = root.iterfind(".//body[@name='object']")
    ElementTree.SubElement(thing, "body", name="object_child")
    return ElementTree.tostring(root, encoding="unicode")


@contextmanager
def asset_folder() -> Iterator[Path]:
    """A temporary folder of assets in which EnvPool's Pusher-v4 finds this model."""
    with tempfile.TemporaryDirectory(prefix="pusher") as folder:
        path = Path(folder) / "mujoco" / "assets_gym" / "pusher.xml"
        path.parent.mkdir(parents=True)
        path.write_text(model(), encoding="utf8")
        yield Path(folder)


def make_one(render_mode: str | None, limit: int | None) -> gymnasium.Env:
    """Gymnasium's v4 itself, which would refuse to be made on MuJoCo 3, with this model."""
    from gymnasium.envs.mujoco import MujocoEnv
    from gymnasium.envs.mujoco.pusher_v4 import DEFAULT_CAMERA_CONFIG, PusherEnv

    class Pusher(PusherEnv):
        def __init__(self) -> None:
            with asset_folder() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that v4 is not the newest
                MujocoEnv.__init__(
                    self,
                    str(folder / "mujoco" / "assets_gym" / "pusher.xml"),
                    FRAME_SKIP,
                    observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (23,), np.float64),
                    render_mode=render_mode,
                    default_camera_config=DEFAULT_CAMERA_CONFIG,
                )

    env = Pusher()
    return env if limit is None else gymnasium.wrappers.TimeLimit(env, limit)
