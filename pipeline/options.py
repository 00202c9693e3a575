"""What a profile may tell the environments of a domain."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A frozen group of parameters that accepts no unknown key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EnvOptions(Settings):
    """Options of a domain's environments, the same in training, collection and evaluation."""

    engine: str | None = None
    """The engine that plays, instead of the one that each task names."""
    simulator: str | None = None
    """The simulator and version that must be loaded, such as ``mujoco 3.3.0``, instead of the one
    that the engine's tasks are defined on."""
    max_episode_steps: Annotated[int, Field(gt=0)] | None = None
    """The time limit in agent steps, instead of the task's own."""
