"""What a training run is made of: network, processor, and the tasks' data; new, or from a model."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.errors import UserError
from pipeline.settings import Jat
from trainer.feed.batches import WindowSource, make_source
from trainer.feed.data import TaskData, domain_defaults, load
from trainer.feed.specs import FILE, TaskSpec, load_specs, make_spec, symbols_of
from trainer.feed.tokenizer import load_tokenizer
from trainer.model.configuration_jat import JatConfig
from trainer.model.modeling_jat import JatModel
from trainer.model.processing_jat import JatProcessor
from trainer.pretrained import first_line, read_pretrained


@dataclass(frozen=True)
class Parts:
    """What a run is made of."""

    model: JatModel
    processor: JatProcessor
    specs: dict[str, TaskSpec]
    sources: list[WindowSource]


def prepare(
    settings: Jat, seed: int, dataset: Path, tasks: Sequence[str], pretrained: Path | None = None
) -> Parts:
    """Load the tasks' training splits and make the processor and the network.

    With ``pretrained``, the folder of a JAT, they are that model's own, and so are the scales of
    the tasks it knows; ``settings.model`` overrides its configuration.
    """
    data = [load(dataset, task, "train") for task in tasks]
    known: dict[str, TaskSpec] = {}
    if pretrained is None:
        tokenizer = load_tokenizer(settings.tokenizer, settings.vocab_size, data)
        symbols = max(symbols_of(part) for part in data)
        config = make_config(settings, max(len(tokenizer), symbols))
        processor = JatProcessor(tokenizer, image_size=config.image_size)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = JatModel(config)
    else:
        model, processor = read_pretrained(pretrained, settings.model)
        known = load_specs(pretrained) if (pretrained / FILE).exists() else {}
    specs = {}
    for part in data:
        check_sizes(part, model.config)
        spec = make_spec(part, context_of(settings, part, model.config), settings.normalise)
        specs[part.task] = adopt(known.get(part.task), spec)
    patches = (model.config.image_size // model.config.patch_size) ** 2
    given = settings.loss_weights
    sources = [
        make_source(
            part, specs[part.task], processor, patches, given.get(part.task, given.get(part.domain))
        )
        for part in data
    ]
    return Parts(model, processor, specs, sources)


def adopt(known: TaskSpec | None, spec: TaskSpec) -> TaskSpec:
    """A task's spec with the scales and actions that the pretrained model knows it by."""
    if known is None:
        return spec
    actions = spec.num_actions and max(spec.num_actions, known.num_actions or 0)
    return dataclasses.replace(known, context=spec.context, num_actions=actions)


def make_config(settings: Jat, vocab_size: int) -> JatConfig:
    """The network's configuration; UserError if the overrides do not fit."""
    try:
        return JatConfig.preset(settings.preset, **{"vocab_size": vocab_size, **settings.model})
    except (TypeError, ValueError) as error:
        raise UserError(f"'jat.model': {first_line(error)}") from None


def check_sizes(data: TaskData, config: JatConfig) -> None:
    """UserError if the task's numbers do not fit the model's encoders."""
    if (symbols := symbols_of(data)) > config.vocab_size:
        raise UserError(
            f"'{data.task}' has integers up to {symbols - 1}, the model only {config.vocab_size} "
            "symbols: leave the task out, or train a model from scratch"
        )
    if "observations" not in data.arrays:
        return
    width = data.arrays["observations"].shape[1]
    discrete = data.modality.observation == "discrete"
    # A continuous observation takes its reward along.
    most = config.max_discrete_value if discrete else config.max_continuous_size - 1
    if width > most:
        key = "max_discrete_value" if discrete else "max_continuous_size"
        raise UserError(
            f"'{data.task}' has observations of {width} numbers, the model takes {most}: "
            f"raise 'jat.model.{key}'"
        )


def context_of(settings: Jat, data: TaskData, config: JatConfig) -> int:
    """Timesteps or tokens of a task's windows, within the positions of the model."""
    context = settings.context.get(data.domain, domain_defaults(data.domain).context)
    positions = config.max_position_embeddings
    if data.modality.observation == "text":
        return min(context, positions)
    if data.modality.observation == "vision":
        return min(context, positions - (config.image_size // config.patch_size) ** 2)
    return min(context, positions // 2)
