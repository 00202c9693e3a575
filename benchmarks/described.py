"""Write the descriptions of heavy settings anew: ``python -m benchmarks.described``.

They are part of the package (``pipeline/described.py``), for profiles to be checked at once.
"""

import argparse
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from sample_factory.cfg.arguments import parse_sf_args

from experts.appo.recipe import FIXED, FREE, OWN, PRECISIONS, RUN
from pipeline import described
from pipeline.described import TYPES, Description, Setting
from trainer.model.configuration_jat import PRESETS, JatConfig

COUNTS = (
    "batch_size", "num_batches_per_epoch", "num_epochs", "rollout", "num_workers",
    "encoder_mlp_layers", "encoder_conv_mlp_layers", "decoder_mlp_layers", "stats_avg",
    "save_every_sec", "experiment_summaries_interval", "flush_summaries_interval",
)  # fmt: skip
"""Sample Factory's settings that are nothing below 1."""
UNLISTED = {"lr_schedule": ("linear_decay",)}
"""Choices that Sample Factory's learner knows, but its parser does not list."""
AT_LEAST_0 = ("max_grad_norm", "adam_eps", "learning_rate", "gamma", "gae_lambda")
"""And those that are nothing below 0."""


def recipe() -> Description:
    """Sample Factory's settings, less those that this project sets itself, and its own."""
    parser, _ = parse_sf_args(["--algo=APPO", "--env=task", "--experiment=run"])
    settings = {}
    for action in parser._actions:
        name, default = action.dest, action.default
        if name == "help":
            continue
        if name in RUN:
            settings[name] = Setting("str", default="the run's", fixed=True)
            continue
        single = getattr(action.type, "__name__", "str").replace("str2bool", "bool")
        many = action.nargs == "*"
        settings[name] = Setting(
            "list" if many else single,
            single if many else None,
            (*(action.choices or ()), *UNLISTED.get(name, ())),
            optional=default is None,
            least=1 if name in COUNTS else 0 if name in AT_LEAST_0 else None,
            default=FIXED.get(name, default),
            fixed=name in FIXED and name not in FREE,
        )
    for name, default in OWN.items():
        settings[name] = Setting("str", choices=PRECISIONS, default=default)
    return Description("Sample Factory setting", settings)


def jat_config() -> Description:
    """The fields of JAT's own configuration, without those of every model of Transformers."""
    settings = {}
    for name, hint in JatConfig.__annotations__.items():
        kinds = set(get_args(hint) or [hint])
        if not kinds <= {NoneType, *(known for known, _ in TYPES.values())}:
            continue
        (kind,) = (kind.__name__ for kind in kinds - {NoneType})
        least: dict[str, Any] = {"int": 1, "float": 0}
        settings[name] = Setting(
            kind,
            choices=("published",) if name == "compatibility" else (),
            optional=NoneType in kinds,
            least=least.get(kind),
            default=getattr(JatConfig, name),
        )
    return Description("field of JatConfig", settings, PRESETS)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    folder = Path(described.__file__).parent / "data"
    for name, description in (("recipe", recipe()), ("jat_config", jat_config())):
        path = folder / f"{name}.json"
        path.write_text(described.to_json(description), encoding="utf8")
        print(f"{path}: {len(description.settings)} settings")


if __name__ == "__main__":
    main()
