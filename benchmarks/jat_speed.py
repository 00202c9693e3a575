"""How many operations a second JAT trains and acts with, on one core or one GPU.

Random MuJoCo-like data; operations are counted as ``pipeline.plan`` counts them: 6 a weight of the
transformer and token in training, 8 a weight and timestep in acting (two tokens, each computed
twice, since windows are refilled). With ``--write`` the rows go to
``pipeline/data/measurements.json``.

    python -m benchmarks.jat_speed --preset laptop --seconds 20 --write
"""

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.rates import record, write_measurements
from trainer.model.configuration_jat import PRESETS, JatConfig
from trainer.model.modeling_jat import JatModel

OBSERVATION, ACTION, TIMESTEPS = 27, 8, 256
ENVS = 32
ACTING_TIMESTEPS = 32
"""A short window, so that it is refilled often enough to be measured."""


def repeat(work: Callable[[], None], seconds: float, device: str) -> tuple[int, float]:
    """(repetitions, seconds they took): of one core's time, or of the GPU's."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    work()
    start, done = clock(), 0
    while clock() - start < seconds:
        work()
        done += 1
        if device != "cpu":
            torch.cuda.synchronize()
    return done, clock() - start


def training_rate(model: JatModel, rows: int, seconds: float, device: str) -> float:
    """Operations a second of whole optimizer steps on ``rows`` windows."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32)).to(device)

    batch = {
        "continuous_observations": draw(rows, TIMESTEPS, OBSERVATION),
        "continuous_actions": draw(rows, TIMESTEPS, ACTION),
        "rewards": draw(rows, TIMESTEPS),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    steps, spent = repeat(step, seconds, device)
    return 6 * weights(model) * rows * TIMESTEPS * 2 * steps / spent


def acting_rate(model: JatModel, seconds: float, device: str) -> float:
    """Operations a second of acting in ``ENVS`` environments."""
    state = model.init_state(ENVS, ACTING_TIMESTEPS)
    observations = np.zeros((ENVS, OBSERVATION), np.float32)
    actions = np.zeros((ENVS, ACTION), np.float32)
    rewards = np.zeros(ENVS, np.float32)

    def step() -> None:
        model.get_next_action(
            state,
            continuous_observations=observations,
            rewards=rewards,
            reset=np.zeros(ENVS, bool),
            action_size=ACTION,
            previous_actions=actions,
        )

    with torch.no_grad():
        steps, spent = repeat(step, seconds, device)
    return 8 * weights(model) * ENVS * steps / spent


def weights(model: JatModel) -> int:
    """12 h² a layer."""
    return 12 * model.config.hidden_size**2 * model.config.num_layers


def main() -> None:
    """Measure one preset on one device."""
    parser = argparse.ArgumentParser(description="Measure how fast JAT trains and acts.")
    parser.add_argument("--preset", choices=list(PRESETS), default="laptop")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rows", type=int, default=8, help="windows of a micro-batch")
    parser.add_argument("--seconds", type=float, default=20, help="for each of the two")
    parser.add_argument("--write", action="store_true", help="into measurements.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, preset, seconds = arguments.device, arguments.preset, arguments.seconds
    model = JatModel(JatConfig.preset(preset)).to(device).train()
    train = training_rate(model, arguments.rows, seconds, device)
    act = acting_rate(model.eval(), seconds, device)
    gpu = "" if device == "cpu" else "_gpu"
    machine = f"1 core, {platform.machine()}" if device == "cpu" else torch.cuda.get_device_name()
    unit = "operations/core-s" if device == "cpu" else "operations/GPU-s"
    command = (
        f"python -m benchmarks.jat_speed --preset {preset} --device {device} "
        f"--rows {arguments.rows} --seconds {seconds:g}"
    )
    rows = [
        record(f"jat.train{gpu}.{preset}", train, unit, machine, command),
        record(f"jat.act{gpu}.{preset}", act, unit, machine, command),
    ]
    for row in rows:
        print(row)
    if arguments.write:
        write_measurements(rows)


if __name__ == "__main__":
    main()
