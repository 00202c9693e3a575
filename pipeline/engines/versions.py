"""Which simulators this process really loads, whatever the metadata of packages says."""

import ctypes
import hashlib
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
    """The package that a module belongs to, with its version; where there is none, the module with
    a digest of its source.
    """
    top = module.partition(".")[0]
    if found := packages_distributions().get(top):
        return package(found[0])
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return top
    folder = Path(spec.origin).parent
    files = sorted(folder.rglob("*.py")) if spec.submodule_search_locations else [spec.origin]
    return f"{top} {hashlib.sha256(b''.join(Path(f).read_bytes() for f in files)).hexdigest()[:12]}"


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
