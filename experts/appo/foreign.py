"""Experts that Sample Factory trained elsewhere, in its folders, as published with JAT.

Such a folder holds ``config.json`` (``cfg.json`` in older releases: the run's flat settings) and
``checkpoint_p0/*.pth``. Nothing in them is trusted.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.appo import network
from experts.appo.checkpoints import read_checkpoint
from experts.appo.network_policy import spaces_of
from pipeline.domains import get_domain
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.shards import sha256
from pipeline.stage import write_atomic
from pipeline.types import Task

CHECKPOINTS = ("checkpoint_p0/checkpoint_*.pth", "checkpoint_p0/best_*.pth")
"""The last ones, which Sample Factory itself plays, come first."""
CONFIGS = ("config.json", "cfg.json")
FILES = (*CONFIGS, *CHECKPOINTS)
"""What is read of such a folder, as patterns."""
MAX_CONFIG_BYTES = 2**20

Sizes = Annotated[list[Annotated[int, Field(gt=0, le=4096)]], Field(max_length=8)]


class RunSettings(BaseModel):
    """Those settings of a run that its network depends on.

    The names are Sample Factory's (``sample_factory.cfg.cfg``). Defaults stand for settings that
    older releases do not have.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    env: str
    use_rnn: Literal[False]
    encoder_mlp_layers: Sizes
    encoder_conv_architecture: str
    encoder_conv_mlp_layers: Sizes
    decoder_mlp_layers: Sizes = []
    nonlinearity: Literal["elu", "relu", "tanh"]
    obs_subtract_mean: float
    obs_scale: Annotated[float, Field(gt=0)]
    normalize_input: bool
    adaptive_stddev: bool
    continuous_tanh_scale: float = 0.0
    env_frameskip: Annotated[int, Field(gt=0)] = 1
    summaries_use_frameskip: bool = True


def find_checkpoint(path: Path) -> Path | None:
    """The checkpoint that ``path`` is or holds; None for a folder without one."""
    if path.is_file():
        return path
    for pattern in CHECKPOINTS:
        if found := sorted(path.glob(pattern)):
            return found[-1]
    return None


def find_settings(checkpoint: Path) -> Path:
    """The configuration beside a checkpoint or one folder up; UserError when there is none."""
    for folder in checkpoint.parents[:2]:
        for name in CONFIGS:
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"'{checkpoint}' has no config.json of Sample Factory beside it")


def read_settings(path: Path) -> RunSettings:
    """A run's settings; UserError when they are broken or describe what cannot be imported."""
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise UserError(f"'{path}' is too large for Sample Factory's settings")
    try:
        return RunSettings.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        if key == "use_rnn" and first["input"] is True:
            reason = "recurrent policies cannot be imported, only functions of one observation"
        else:
            reason = f"{first['msg']}: it cannot be imported"
        raise UserError(f"'{path}': {key}: {reason}") from None


def convert(task: Task, checkpoint: Path, folder: Path, env: dict[str, Any]) -> dict[str, Any]:
    """Write ``model.safetensors`` of a checkpoint into ``folder``; the expert's description.

    UserError for a broken or recurrent network, or one of other shapes than the task's.
    """
    where = find_settings(checkpoint)
    settings = read_settings(where)
    state = read_checkpoint(checkpoint)
    envs = make_envs(task, [0], **env)
    try:
        policy = network.from_sample_factory(state["model"], settings, *spaces_of(envs))
    except UserError as error:
        raise UserError(f"'{checkpoint}' is no expert of {task.id} ('{where}'): {error}") from None
    finally:
        envs.close()
    write_atomic(folder / "model.safetensors", network.save(policy))
    frames = settings.env_frameskip if settings.summaries_use_frameskip else 1
    return {
        "format": 1,
        "kind": "network",
        "task": task.id,
        "network": policy.architecture.to_dict(),
        "mode": get_domain(task.domain).expert_mode,
        "weights_sha256": sha256(folder / "model.safetensors"),
        "steps": int(state["env_steps"]) // frames,
        "trained_as": settings.env,
    }
