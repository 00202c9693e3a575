"""Which simulators this process really loads, whatever the metadata of packages says."""

import ctypes
from functools import lru_cache
from importlib import import_module
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path


@lru_cache
def mujoco() -> str:
    """The MuJoCo that the ``mujoco`` package loads."""
    return f"mujoco {import_module('mujoco').mj_versionString()}"


@lru_cache
def mujoco_of_envpool() -> str:
    """The MuJoCo that is built into EnvPool."""
    library = ctypes.CDLL(str(_envpool() / "mujoco" / "mujoco_gym_envpool.so"))
    library.mj_versionString.restype = ctypes.c_char_p
    return f"mujoco {library.mj_versionString().decode()}"


@lru_cache
def envpool_and(what: str) -> str:
    """A simulator built into EnvPool that does not tell its version: EnvPool's stands for it."""
    return f"{what} of envpool {version('envpool')}"


@lru_cache
def package(name: str) -> str:
    """An installed package as its own simulator, such as ``"minigrid 3.2.0"``."""
    return f"{name} {version(name)}"


@lru_cache
def package_of(module: str) -> str:
    """The package that a module belongs to, with its version; the module where there is none."""
    top = module.partition(".")[0]
    found = packages_distributions().get(top)
    return package(found[0]) if found else top


@lru_cache
def ale() -> str:
    """The Arcade Learning Environment that the ``ale_py`` package loads."""
    return f"ale {import_module('ale_py').__version__}"


@lru_cache
def ale_of_envpool() -> str:
    """The Arcade Learning Environment that is built into EnvPool, by the banner that it prints."""
    library = (_envpool() / "atari" / "atari_envpool.so").read_bytes()
    _, found, after = library.partition(b"(version \0")
    return f"ale {after[: after.index(0)].decode()}" if found else envpool_and("ale")


def _envpool() -> Path:
    spec = find_spec("envpool")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
