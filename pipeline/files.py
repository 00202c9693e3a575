"""The JSON files that stages leave for each other, each with the shape that its readers rely on.

A file may come from elsewhere, from an earlier release or from a killed run: whatever has another
shape is refused in one line that names the file and the key. More keys than these are always fine.
"""

# A narrower shape demands what the wider one leaves open:
# pyright: reportGeneralTypeIssues=false

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from pipeline.errors import UserError, told
from pipeline.stage import read_json

Count = Annotated[int, Field(ge=0)]


def _own_name(name: str) -> str:
    if name != Path(name).name or name in ("", ".", ".."):
        raise ValueError("names no file of the folder itself")
    return name


FileName = Annotated[str, AfterValidator(_own_name)]


class Shape(BaseModel):
    """A JSON object that has at least these keys, with values of these types."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class ExpertConfig(Shape):
    """``config.json`` of an expert."""

    kind: str
    task: str
    mode: str | None = None
    source: str = ""
    fingerprint: str | None = None
    steps: Count = 0
    recipe: dict[str, Any] = {}
    env: dict[str, Any] = {}
    versions: dict[str, str] = {}
    provenance: "ExpertProvenance" = Field(default_factory=lambda: ExpertProvenance())
    origin: dict[str, Any] = {}


class ExpertProvenance(Shape):
    """How an expert came to be, as whoever published it says."""

    command: str = ""
    wall_seconds: float | None = None


class NetworkConfig(ExpertConfig):
    """``config.json`` of an expert that is a network."""

    mode: str
    network: dict[str, Any]
    weights_sha256: str


class TrainedConfig(NetworkConfig):
    """``config.json`` of an expert that this project trained."""

    steps: Count
    seed: int
    versions: dict[str, str]


class Verdict(Shape):
    """What of ``score.json`` the collection needs: its policies may be scored elsewhere."""

    verdict: str
    mean: float | None = None


class Score(Verdict):
    """What of ``score.json`` the report shows."""

    mean: float
    std: float
    success: float | None = None
    normalised: float | None = None


class GateScore(Score):
    """``score.json`` as the gate writes it."""

    task: str
    episodes: Annotated[int, Field(gt=0)]
    low: float
    high: float
    success: float | None
    success_low: float | None
    normalised: float | None
    random_mean: float
    noop_mean: float
    reference_mean: float | None
    bar: float | None


class Fingerprint(Shape):
    """A file that says what decided it."""

    fingerprint: str | None = None


class Mean(Shape):
    """A file of which the mean return is read."""

    mean: float | None = None


class BaselineResult(Shape):
    """What a policy that knows nothing earned on one task."""

    mean: float
    std: float
    episodes: Annotated[int, Field(gt=0)]
    settings: dict[str, Any] = {}


class File(Shape):
    """A manifest's entry for one file."""

    file: FileName
    bytes: Count
    sha256: str


class Manifest(Shape):
    """What every ``manifest.json`` has."""

    files: list[File]
    task: str = ""
    domain: str = ""
    fingerprint: str | None = None


class Shard(File):
    """An entry of an episodes' manifest, or the ``.json`` beside a shard."""

    rows: Count
    steps: Count


class ShardRecord(Shard):
    """The ``.json`` beside a shard of episodes."""

    fingerprint: str | None = None
    seeds: list[int]
    returns: list[float]
    dropped: dict[str, Count]
    digests: list[str] = []


class Totals(Shape):
    """The sums over a task's shards."""

    rows: Count
    steps: Count
    bytes: Count


class Moments(Shape):
    """Statistics of single numbers, empty where there were none."""

    mean: float | None = None
    std: float | None = None


class Engine(Shape):
    """Who played a task."""

    engine: str
    simulator: str


class EpisodesManifest(Manifest):
    """``manifest.json`` of a task's episodes, as the report shows it."""

    totals: Totals
    dropped: dict[str, Count]
    returns: Moments


class CollectedManifest(EpisodesManifest):
    """``manifest.json`` of a task's episodes, as the dataset is built from it."""

    files: list[Shard]
    decides: dict[str, Any]
    expert: Verdict
    distinct: Count | None = None
    engine: Engine | None = None
    skipped: str = ""


class Returns(Shape):
    """A manifest of which the mean return is read."""

    returns: Moments


class Named(Shape):
    """A manifest of which the domain is read."""

    domain: str = "gymnasium"


class DatasetFile(File):
    """An entry of a dataset's manifest."""

    split: Literal["train", "test"]
    rows: Count


class ModalityShape(BaseModel):
    """The fields of ``pipeline.types.Modality``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    observation: Literal["continuous", "discrete", "image", "text", "vision"]
    action: Literal["continuous", "discrete"] | None = None
    missions: bool = False
    success: bool = False
    wide: bool = False


class Decides(Shape):
    """What decided episodes, as far as it takes to play them again."""

    env: dict[str, Any]


class Provenance(Shape):
    """``provenance`` in a dataset's manifest: who played the episodes, or the corpus' report."""

    decides: Decides | None = None
    expert: Verdict | None = None
    engine: Engine | None = None
    dropped: dict[str, Count] = {}
    report: dict[str, Any] = {}


class SplitManifest(Manifest):
    """``manifest.json`` of a configuration of a dataset, as far as its files go."""

    files: list[DatasetFile]


class DatasetManifest(SplitManifest):
    """``manifest.json`` of a configuration of a dataset."""

    task: str
    domain: str
    modality: ModalityShape
    provenance: Provenance
    distinct: Count | None = None

    @model_validator(mode="after")
    def _episodes_have_a_player(self) -> "DatasetManifest":
        origin = self.provenance
        if self.modality.action and (origin.decides is None or origin.expert is None):
            raise ValueError("'provenance' of episodes needs 'decides' and 'expert'")
        return self


class EpisodesSplit(Shape):
    """One split in ``statistics.json``."""

    steps: Count
    returns: Moments
    success_rate: float | None = None


class KnownMoments(Moments):
    """Statistics of numbers that are there."""

    mean: float
    std: float


class TrainSplit(EpisodesSplit):
    """The split that is never empty."""

    returns: KnownMoments


class EpisodesStatistics(Shape):
    """``statistics.json`` of a configuration whose rows are episodes."""

    train: TrainSplit
    test: EpisodesSplit


class DocumentsStatistics(Shape):
    """``statistics.json`` of a corpus."""

    train: dict[str, Any]
    test: dict[str, Any]


class TextCounts(Shape):
    """What a text corpus was made of."""

    kept: Count


class TextDocuments(TextCounts):
    """How many documents were read, and kept."""

    read: Annotated[int, Field(ge=0, alias="in")]


class TextReport(Shape):
    """``report.json`` of a text corpus."""

    documents: TextDocuments
    bytes: TextCounts
    dropped: dict[str, Count]


class VisionSplit(Shape):
    """One split of a corpus of images."""

    images: Count
    image_bytes: Count
    dropped: dict[str, Count]


class VisionReport(Shape):
    """``report.json`` of a corpus of images."""

    train: VisionSplit
    test: VisionSplit


class CorpusReport(Shape):
    """What the dataset takes of any corpus' report."""

    settings: dict[str, Any] = {}


class Decided(Shape):
    """A file that says what decided it, in full."""

    decides: dict[str, Any] | None = None


class CorpusFile(Shape):
    """What a corpus' report says of one file."""

    bytes: Count
    sha256: str


class CorpusFiles(Shape):
    """The part of a corpus' report that names files."""

    files: dict[FileName, CorpusFile] = {}


class BuiltCorpus(CorpusFiles):
    """A corpus' report, as far as its files go."""

    train: CorpusFiles = CorpusFiles()
    test: CorpusFiles = CorpusFiles()


class ScaleShape(BaseModel):
    """Shift and unit of each number of a vector."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    mean: list[float]
    unit: list[Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _one_each(self) -> "ScaleShape":
        if len(self.mean) != len(self.unit):
            raise ValueError("'mean' and 'unit' have different lengths")
        return self


class TaskSpecShape(BaseModel):
    """One task in ``tasks.json`` beside a model's weights."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    domain: str
    context: Annotated[int, Field(gt=0)]
    observation: Literal["", "continuous", "discrete", "image"] = ""
    missions: bool = False
    num_actions: Annotated[int, Field(gt=0)] | None = None
    action_size: Annotated[int, Field(gt=0)] | None = None
    observations: ScaleShape | None = None
    actions: ScaleShape | None = None


class TaskScore(Shape):
    """One task's result of an evaluation: of episodes it has ``returns``, of a corpus none."""

    domain: str
    returns: Annotated[list[float], Field(min_length=1)] = [0.0]
    success: float | None = None
    loss: float = 0.0
    perplexity: float = 0.0
    accuracy: float = 0.0

    @model_validator(mode="after")
    def _whole(self) -> "TaskScore":
        played = "returns" in self.model_fields_set
        needed = {"success"} if played else {"loss", "perplexity", "accuracy"}
        if missing := needed - self.model_fields_set:
            raise ValueError(f"'{min(missing)}' is missing")
        return self


class Evaluated(Shape):
    """The file of one task's evaluation."""

    key: str
    result: TaskScore


class Normalised(Shape):
    """A score normalised by an expert's."""

    normalised: float | None = None
    normalised_low: float | None = None
    normalised_high: float | None = None


class ScoreRow(Normalised):
    """One task in ``scores.json``."""

    mean: float
    std: float
    episodes: Count
    normalised: float | None
    published: Normalised


class Aggregate(Shape):
    """A domain's aggregate, or none where no score can be normalised."""

    iqm: float | None = None
    low: float | None = None
    high: float | None = None


class DomainAggregate(Aggregate):
    """The aggregates of one domain, as ``scores.json`` has them."""

    published: Aggregate


class CorpusScore(Shape):
    """One corpus in ``scores.json``."""

    loss: float
    perplexity: float
    accuracy: float


class Scores(Shape):
    """``scores.json`` of an evaluation."""

    tasks: dict[str, ScoreRow] = {}
    corpora: dict[str, CorpusScore] = {}
    domains: dict[str, DomainAggregate] = {}


class Key(Shape):
    """A file that says what decided a training, or an evaluation."""

    key: str | None = None


class DatasetMetrics(Shape):
    """``metrics/dataset.json``."""

    bytes: Count


class TrainingMetrics(Shape):
    """``metrics/jat.json``."""

    steps: Count
    parameters: Count


def read_model(path: str | Path, shape: Any) -> Any:
    """A JSON file of this shape, as plain values; UserError that names the file and the key.

    ``shape`` is one of the models above, or a type made of them such as ``dict[str, Baseline]``.
    """
    values = read_json(path)
    try:
        _adapter(shape).validate_python(values, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        what = f"'{key}'" if key else "its contents"
        remedy = "delete it and run its stage again"
        raise UserError(f"'{path}': {what} {told(first)}: {remedy}") from None
    return values


@lru_cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
