"""The groups of ``params.yaml``: what each key means, its bounds and its default."""

import re
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from pipeline import domains
from pipeline.errors import UserError, did_you_mean
from pipeline.options import Few, Fraction, Listed, Positive, Settings
from pipeline.tasks import get_task

HUB_EXPERT = re.compile(r"hub:(\w[\w.-]*/\w[\w.-]*)@(\w[\w./-]*)")
"""A source of experts: repository and revision."""


def known_domains() -> tuple[str, ...]:
    """The names of all domains: those of this package, and those that were brought."""
    return (*domains.SHIPPED_DOMAINS, *domains.brought())


def _known_domain(name: str) -> str:
    known = known_domains()
    if name not in known:
        raise ValueError(f"names '{name}', which is no domain{did_you_mean(name, known)}")
    return name


def _known_task(id: str) -> str:
    try:
        return get_task(id).id
    except UserError as error:
        raise ValueError(str(error)) from None


TaskId = Annotated[str, AfterValidator(_known_task)]
DomainName = Annotated[str, AfterValidator(_known_domain)]
PerDomain = dict[DomainName, Positive]


class Expert(Settings):
    """The origin of a domain's experts, and how much training they get."""

    source: str = "train"
    """``train`` | ``shipped`` | ``hub:<repo>@<revision>`` | ``file:<path>`` | one of the domain's
    scripts: ``scripted`` for Meta-World, ``bot`` for BabyAI. A repository or a path holds experts
    of this project or of Sample Factory."""
    sources: dict[str, str] = {}
    """Task -> source, where it differs from the domain's."""
    steps: Positive = 100_000
    """Agent steps of training a task (frames are four times that on Atari)."""
    task_steps: dict[str, Positive] = {}
    """Task -> steps, where it differs."""
    envs: Few = 64
    """Environments stepped together in training."""
    task_envs: dict[str, Few] = {}
    """Task -> environments, where they differ."""
    cpus: Annotated[float, Field(gt=0, le=10**4)] = 1
    """CPU cores of a task, and the threads of its training."""
    gpus: Annotated[float, Field(ge=0, le=10**4)] = 0
    """GPUs of a task (a share such as 0.25 lets four tasks use one); above 0, training is on it."""
    recipe: dict[str, Any] = {}
    """Sample Factory settings that override the domain's recipe."""
    task_recipe: dict[str, dict[str, Any]] = {}
    """Task -> settings that override the domain's recipe and ``recipe``."""
    mode: Literal["sample", "argmax"] | None = None
    """Whether trained experts draw their actions or take the likeliest; unset: as published."""
    task_mode: dict[str, Literal["sample", "argmax"]] = {}
    """Task -> mode, where it differs."""
    gate_episodes: Positive = 100
    """Episodes an expert is scored on before collection."""
    keep_weak: bool = True
    """Collect from experts that the gate calls weak (the verdict goes into manifests and cards)."""

    @property
    def all_sources(self) -> set[str]:
        """Every source that is named."""
        return {self.source, *self.sources.values()}

    def source_of(self, task: str) -> str:
        """The source of one task's expert."""
        return self.sources.get(task, self.source)

    def steps_of(self, task: str) -> int:
        """The training budget of one task, in agent steps."""
        return self.task_steps.get(task, self.steps)

    def envs_of(self, task: str) -> int:
        """How many environments one task is trained on."""
        return self.task_envs.get(task, self.envs)

    def mode_of(self, task: str) -> str | None:
        """How one task's trained expert chooses its actions."""
        return self.task_mode.get(task, self.mode)

    def recipe_of(self, task: str) -> dict[str, Any]:
        """The settings that override the domain's recipe for one task."""
        device = {"device": "gpu"} if self.gpus else {}
        return {**device, **self.recipe, **self.task_recipe.get(task, {})}


class Collect(Settings):
    """How many episodes or steps are collected for each task, and in which pieces."""

    episodes: Positive | None = None
    steps: Positive | None = None
    """A budget of steps instead: whole episodes are added until it is reached."""
    slots: Few = 16
    """Environments stepped together in one shard."""
    episodes_per_slot: Positive = 1
    """The same quota for every slot of a shard, so that short episodes are not over-counted."""
    test_fraction: Fraction = 0.1

    @model_validator(mode="after")
    def _one_budget(self) -> "Collect":
        if (self.episodes is None) == (self.steps is None):
            raise ValueError("needs exactly one of 'episodes' and 'steps'")
        return self


class RLDomain(Settings):
    """One domain of environments."""

    tasks: Listed[TaskId] = ()
    env: dict[str, Any] = {}
    """The domain's options of its environments (see ``pipeline.options``), the same in training,
    collection and evaluation."""
    task_env: dict[str, dict[str, Any]] = {}
    """Task -> options, where they differ."""
    expert: Expert = Expert()
    collect: Collect

    @field_validator("tasks")
    @classmethod
    def _each_once(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tasks)) != len(tasks):
            raise ValueError("names a task twice")
        return tasks

    def env_of(self, task: str) -> dict[str, Any]:
        """The options of one task's environments."""
        return {**self.env, **self.task_env.get(task, {})}


class BroughtDomain(RLDomain):
    """A domain that is no part of this project."""

    module: str | None = None
    """The file that defines it (relative to the parameters' folder) or its dotted name; unset: an
    installed package offers it."""
    collect: Collect = Collect(episodes=160, slots=16, episodes_per_slot=5)


class GymnasiumDomain(RLDomain):
    """How all ``environments`` are trained on and collected from."""

    expert: Expert = Expert(steps=200_000, envs=16)
    collect: Collect = Collect(episodes=160, slots=16, episodes_per_slot=5)


class TextCorpus(Settings):
    """One text corpus: where its documents come from and how they are cleaned."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] = "python-docs"
    """The task's name and its folder's."""
    source: str = "installed_docs"
    """``installed_docs`` | ``files:<folder, file or glob>``, a path or an fsspec URL |
    ``hub:<repo>[@<revision>][#<config>[/<split>]]``."""
    text_column: str = "text"
    """The Parquet column or JSON key that holds the text."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")] = "en"
    """ISO 639 code: English has its own bounds, the other languages share theirs."""
    limit: Positive | None = None
    """Documents read from the source, before cleaning; all of them by default."""
    filters: Literal["roots", "none"] = "roots"
    """``none`` takes every document as it is."""
    deduplication: Literal["minhash", "simhash", "none"] = "minhash"
    """``simhash`` is how ROOTS was made; ``none`` drops exact duplicates only."""
    shards: Annotated[int, Field(gt=0, le=1000)] = 1
    """Parts that are cleaned and deduplicated one by one, each a train and a test file; one part
    must fit into memory."""
    test_fraction: Fraction = 0.05
    lid_model: str | None = None
    """Path of fastText's lid.176; without it texts in other languages are not dropped."""
    kenlm_model: str | None = None
    """Path of CCNet's KenLM model ``<language>.arpa.bin``, ``<language>.sp.model`` beside it."""

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, _, rest = source.partition(":")
        if source != "installed_docs" and (kind not in ("files", "hub") or not rest):
            raise ValueError(
                "is not one of installed_docs, files:<path>, "
                "hub:<repo>[@<revision>][#<config>[/<split>]]"
            )
        return source


class VisionCorpus(Settings):
    """One corpus of images with text."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    """The task's name and its folder's."""
    source: str
    """``grids:captions`` | ``grids:questions`` | ``hub:<repo>[@<revision>]`` |
    ``files:<folder>``."""
    train: Positive
    """Images with text to deliver for training; fewer when the source runs out."""
    test: Positive
    image_size: Annotated[int, Field(ge=70, le=1024)] = 224
    """Side of a rendered picture; real ones are reduced to it on their shorter side."""
    partial_views: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of the grid worlds that are shown as the agent sees them."""
    test_source: Annotated[str, Field(pattern=r"^hub:.")] | None = None
    """``hub:<repo>[@<revision>]`` where the test split is a Hub dataset of its own."""
    subset: str | None = None
    """The Hub dataset's configuration."""
    train_split: str = "train"
    test_split: str = "validation"

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, _, rest = source.partition(":")
        if source not in ("grids:captions", "grids:questions") and (
            kind not in ("hub", "files") or not rest
        ):
            raise ValueError(
                "is not one of grids:captions, grids:questions, hub:<repo>[@<revision>], "
                "files:<folder>"
            )
        return source


def is_installed(tracker: str) -> bool:
    """Whether what ``jat.report_to`` names can be told of a training; either of two packages
    writes TensorBoard's events.
    """
    packages = {"tensorboard": ("tensorboard", "tensorboardX")}.get(tracker, (tracker,))
    return any(find_spec(package) is not None for package in packages)


class Jat(Settings):
    """How the agent is trained on the whole dataset."""

    preset: Literal["laptop", "small", "medium", "large"] = "laptop"
    """Size of the network; ``small`` is the published one."""
    model: dict[str, Any] = {}
    """Fields of ``JatConfig`` that override the preset."""
    tokenizer: str = "train"
    """``train`` (on the dataset's texts) | a local folder | a repository of the Hub (``gpt2``)."""
    vocab_size: Annotated[int, Field(ge=300, le=10**6)] = 2048
    """Tokens of a tokenizer that is trained."""
    steps: Positive = 600
    """Optimizer steps."""
    batch_tokens: Positive = 1024
    """Tokens of one micro-batch, which has one domain: two a timestep, padding included."""
    domain_batch_tokens: PerDomain = {"atari": 256}
    """Domain -> tokens of its micro-batches, where they differ."""
    accumulation: Positive = 4
    """Micro-batches of an optimizer step on each device. Each has one domain, so several in a step
    learn faster than one large one."""
    context: PerDomain = {}
    """Domain -> timesteps (tokens, for corpora) of a window, where they differ from its own."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Its peak; it then falls linearly to 0."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps in which the learning rate rises linearly."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    sampling: Literal["published", "uniform", "temperature", "adaptive"] = "published"
    """How often each task is drawn: oscar, wikipedia and conceptual-captions 10 times as often as
    the others; all alike; by the number of its tokens to the power of 1 / ``temperature``; the
    more often, the less its loss has fallen so far."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    adapt_every: Positive = 100
    """Steps between new weights of adaptive sampling."""
    adapt_power: Annotated[float, Field(ge=0)] = 1.0
    """How strongly adaptive sampling follows the losses; 0 draws all tasks alike."""
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Task or domain -> factor of that weight; a task's own counts before its domain's."""
    loss_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Task or domain -> weight of its loss, where it differs from its own."""
    shuffle: bool = True
    """Draw a task's windows in random order; else one after the other, as the published system."""
    normalise: bool = True
    """Scale continuous observations and actions to the unit of the task's training data."""
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    """Compute each block again in the backward pass instead of keeping it: less memory."""
    compile: bool = False
    """Compile the transformer's blocks; needs a C++ compiler, or Triton on a GPU."""
    save_every: Positive = 500
    """Steps between checkpoints, from which a run that was stopped goes on; rounded up to a
    multiple of ``log_every``."""
    log_every: Positive = 20
    """Steps between points of the learning curve."""
    evaluate_every: Annotated[int, Field(ge=0, le=10**12)] = 0
    """Steps between evaluations on the tasks' environments while training; 0: none."""
    evaluate_episodes: Positive = 8
    """Episodes a task of each of them."""
    report_to: Listed[Literal["tensorboard", "trackio", "wandb"]] = ("tensorboard",)
    """What else is told the curve; must be installed."""


class Evaluation(Settings):
    """How the trained agent is scored."""

    episodes: Positive | None = None
    """Episodes a task; unset: as many as its domain says, or 100."""
    domain_episodes: PerDomain = {}
    """Domain -> episodes a task, where they differ from ``episodes``."""
    envs: Few = 32
    """Environments played together."""
    context_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the window trained on that the agent remembers; the published system: 0.5."""
    sample: Listed[DomainName] | None = None
    """Domains whose discrete actions are drawn, where the likeliest is taken elsewhere; unset: each
    domain says so itself (Atari, as its experts do)."""
    corpus_tokens: Positive = 50_000
    """Tokens of a corpus' test split that are scored."""
    bootstrap: Positive = 2000
    """Resamples behind the confidence intervals."""

    def episodes_of(self, domain: str) -> int:
        """Episodes that each task of a domain is played."""
        own = domains.get_domain(domain).evaluation_episodes
        return self.domain_episodes.get(domain, self.episodes or own or 100)

    def samples(self, name: str) -> bool:
        """Whether the agent draws its discrete actions in the domain of that name."""
        return (
            domains.get_domain(name).sample_actions if self.sample is None else name in self.sample
        )


class Publish(Settings):
    """The place that the finished dataset is published to."""

    to: str = "folder:artifacts/published/dataset"
    """``folder:<path>`` | ``hub:<owner>/<name>``."""

    @field_validator("to")
    @classmethod
    def _known_target(cls, to: str) -> str:
        kind, _, rest = to.partition(":")
        if kind not in ("folder", "hub") or not rest:
            raise ValueError("is neither folder:<path> nor hub:<owner>/<name>")
        return to
