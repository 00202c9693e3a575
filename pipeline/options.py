"""What groups of parameters have in common, and what a profile may tell a domain's environments."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Settings(BaseModel):
    """A frozen group of parameters that accepts no unknown key and no value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


T = TypeVar("T")
Listed = Annotated[tuple[T, ...], BeforeValidator(_as_tuple)]
"""A list of a file, frozen."""
Positive = Annotated[int, Field(gt=0, le=10**12)]
Few = Annotated[int, Field(gt=0, le=10**5)]
"""How many of what takes memory or processes each."""
Fraction = Annotated[float, Field(gt=0, lt=1)]


class EnvOptions(Settings):
    """Options of a domain's environments, the same in training, collection and evaluation."""

    engine: str | None = None
    """The engine that plays, instead of the one that each task names."""
    simulator: str | None = None
    """The simulator and version that must be loaded, such as ``mujoco 3.3.0``, instead of the one
    that the engine's tasks are defined on."""
    max_episode_steps: Positive | None = None
    """The time limit in agent steps, instead of the task's own."""
