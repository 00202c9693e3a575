"""Check a whole profile before anything runs: ``python -m pipeline.check --params FILE``.

All mistakes are told at once, each in one line with its line in the file, and the exit code is 2.
Nothing heavy is imported and nothing is downloaded: it takes a second or two.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from pipeline.described import described, recipe_problem
from pipeline.document import Mistake, Place, read_document
from pipeline.domains import get_domain
from pipeline.engines import identity
from pipeline.params import Params, read_params
from pipeline.paths import ARTIFACTS, expanded, is_there
from pipeline.plan import Measurements, collection_cost, corpus_cost, total
from pipeline.quantities import quantity
from pipeline.settings import TextCorpus, VisionCorpus, is_installed
from pipeline.stage import exit_with_one_line
from pipeline.tasks import get_task

REPOSITORY = r"\w[\w.-]*(/\w[\w.-]*)?"
"""A name on the Hub, with its owner or without."""
HUB_DATASET = re.compile(rf"hub:{REPOSITORY}(@\w[\w./-]*)?")
HUB_TEXTS = re.compile(rf"hub:{REPOSITORY}(@\w[\w./-]*)?(#[\w.-]+(/[\w.\[\]:%+-]+)?)?")
HUB_TARGET = re.compile(r"\w[\w.-]*/\w[\w.-]*")
PACKAGES = {"lid_model": ("fasttext",), "kenlm_model": ("kenlm", "sentencepiece")}
"""Key of a text corpus -> the packages that read the model that it names."""


def find_mistakes(path: str | Path) -> tuple[Params, list[str]]:
    """The profile, and one line for each mistake in it; UserError if it cannot be read at all."""
    document = read_document(path)
    reading = read_params(document.values, document.path)
    mistakes = [*document.mistakes, *reading.mistakes]
    known = [mistake.place for mistake in mistakes]
    for check in CHECKS:
        for mistake in check(reading.params):
            if not any(place == mistake.place[: len(place)] for place in known):
                mistakes.append(mistake)
    mistakes.sort(key=lambda mistake: document.line(mistake.place))
    return reading.params, list(dict.fromkeys(map(document.tell, mistakes)))


def experts(params: Params) -> Iterator[Mistake]:
    """Sources that have no expert for a task, and recipes that cannot be cut into batches."""
    shipped = files("experts") / "shipped"
    for name in params.rl_domains:
        domain, expert = get_domain(name), params.domain(name).expert
        key = (*params.place_of(name), "expert")
        for task in params.domain(name).tasks:
            source = expert.source_of(task)
            where = (*key, "sources", task) if task in expert.sources else (*key, "source")
            if source == "train" and domain.recipe is None:
                ways = ", ".join(domain.scripts) or "hub:<owner>/<repo>@<revision>"
                yield Mistake(where, f"{task} cannot be trained: set 'source' to {ways}")
            elif source == "train":
                problem = batches(params, name, task)
                if problem:
                    yield Mistake((*key, "recipe"), f"the recipe of {task}: {problem}")
            elif source == "shipped" and not (shipped / task).is_dir():
                text = f"no expert of {task} is shipped: set 'source' to another one"
                yield Mistake(where, text)
            elif source.startswith("file:"):
                path = expanded(source.removeprefix("file:"))
                if not is_there(path):
                    yield Mistake(where, f"the expert source '{source}' of {task} does not exist")


def batches(params: Params, name: str, task: str) -> str | None:
    """Why the recipe of a task cannot be trained, if it cannot."""
    recipe, expert = get_domain(name).recipe, params.domain(name).expert
    assert recipe is not None
    settings = {**recipe(get_task(task)), **expert.recipe_of(task)}
    description = described("recipe")
    if any(True for _ in description.problems(settings)):  # told where they stand
        return None
    return recipe_problem(description.filled(settings), expert.envs_of(task))


def simulators(params: Params) -> Iterator[Mistake]:
    """Simulators that are not those that the tasks are defined on."""
    for name in params.rl_domains:
        domain, seen = get_domain(name), set()
        for task in params.domain(name).tasks:
            options = params.env_of(task)
            if (options.get("engine") or get_task(task).engine) not in domain.engines:
                continue  # told where it stands
            played = identity(get_task(task), options)
            expected = options.get("simulator") or domain.engines[played["engine"]].simulator
            if expected in ("", played["simulator"]) or expected in seen:
                continue
            seen.add(expected)
            text = (
                f"{task} is defined on {expected}, but engine '{played['engine']}' loads "
                f"{played['simulator']}: install that version, or accept this one by "
                f"'env.simulator: {played['simulator']}'"
            )
            yield Mistake((*params.place_of(name), "env", "simulator"), text)


def corpora(params: Params) -> Iterator[Mistake]:
    """Sources and models of corpora that are not there."""
    for k, corpus in enumerate(params.text):
        yield from text_corpus(("text", k), corpus)
    for k, corpus in enumerate(params.vision):
        yield from vision_corpus(("vision", k), corpus)


def text_corpus(place: Place, corpus: TextCorpus) -> Iterator[Mistake]:
    """What one text corpus names."""
    kind, _, where = corpus.source.partition(":")
    if kind == "files" and "://" not in where and not any_file(where):
        yield Mistake((*place, "source"), f"there is no file '{where}' for '{corpus.name}'")
    if kind == "hub" and not HUB_TEXTS.fullmatch(corpus.source):
        text = f"'{corpus.source}' is not hub:<owner>/<name>[@<revision>][#<config>[/<split>]]"
        yield Mistake((*place, "source"), text)
    for key, packages in PACKAGES.items():
        if (model := getattr(corpus, key)) is None:
            continue
        needed = [Path(model)]
        if key == "kenlm_model":
            needed.append(needed[0].with_name(f"{needed[0].name.split('.')[0]}.sp.model"))
        for path in needed:
            if not (is_there(path) and path.is_file()):
                yield Mistake((*place, key), f"'{key}' of '{corpus.name}': no file '{path}'")
        for package in packages:
            if find_spec(package) is None:
                text = f"'{key}' of '{corpus.name}' needs the package {package}: install it"
                yield Mistake((*place, key), text)


def any_file(pattern: str) -> bool:
    """Whether a folder, file or glob stands for anything."""
    path = Path(pattern)
    try:
        return is_there(path) or any(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    except (OSError, ValueError, NotImplementedError):
        return False


def vision_corpus(place: Place, corpus: VisionCorpus) -> Iterator[Mistake]:
    """What one corpus of images names."""
    kind, _, where = corpus.source.partition(":")
    if kind == "files" and not is_there(Path(where) / "captions.jsonl"):
        text = f"there is no '{Path(where) / 'captions.jsonl'}' for '{corpus.name}'"
        yield Mistake((*place, "source"), text)
    for key in ("source", "test_source"):
        source = getattr(corpus, key) or ""
        if source.startswith("hub:") and not HUB_DATASET.fullmatch(source):
            yield Mistake((*place, key), f"'{source}' is not hub:<owner>/<name>[@<revision>]")


def training(params: Params) -> Iterator[Mistake]:
    """A tokenizer or a tracker that is not there."""
    name = params.jat.tokenizer
    if name != "train" and not is_there(name) and not re.fullmatch(REPOSITORY, name):
        text = f"the tokenizer '{name}' is neither 'train', nor a folder, nor a name on the Hub"
        yield Mistake(("jat", "tokenizer"), text)
    for k, package in enumerate(params.jat.report_to):
        if not is_installed(package):
            text = f"'{package}' is not installed: pip install {package}, or leave it out"
            yield Mistake(("jat", "report_to", k), text)


def publication(params: Params) -> Iterator[Mistake]:
    """A target that the dataset cannot be published to."""
    kind, _, target = params.publish.to.partition(":")
    if kind == "hub" and not HUB_TARGET.fullmatch(target):
        yield Mistake(("publish", "to"), f"'{params.publish.to}' is not hub:<owner>/<name>")
    if kind == "folder" and is_there(target) and Path(target).is_file():
        yield Mistake(("publish", "to"), f"'{target}' is a file, no folder")


def disk(params: Params) -> Iterator[Mistake]:
    """A profile whose data does not fit."""
    needed, free = disk_needed(params), disk_free()
    if needed > free:
        text = (
            f"the profile's data needs about {quantity(needed, 'B')}, but only "
            f"{quantity(free, 'B')} are free: collect less, or free some"
        )
        yield Mistake((), text)


def disk_needed(params: Params) -> float:
    """Bytes of episodes and corpora by ``pipeline.plan``, and of the dataset made of them."""
    measured = Measurements.shipped()
    costs = [collection_cost(params, name, measured) for name in params.rl_domains]
    costs += [corpus_cost("text", corpus, measured) for corpus in params.text]
    costs += [corpus_cost("vision", corpus, measured) for corpus in params.vision]
    return 2 * total(costs, "all", "").bytes


def disk_free() -> float:
    """Bytes that may be written to where the artifacts are, or will be."""
    path = ARTIFACTS.resolve()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


CHECKS: tuple[Callable[[Params], Iterator[Mistake]], ...] = (
    experts, simulators, corpora, training, publication, disk,
)  # fmt: skip


def summary(path: str, params: Params) -> str:
    """What was checked, in a sentence or two."""
    needed = disk_needed(params)
    tasks, texts = len(params.tasks), len(params.text) + len(params.vision)
    return (
        f"{path}: everything is in order: keys and types, {tasks} tasks and their experts, "
        f"recipes, options and simulators, {texts} corpora, JAT's network, publishing, and disk "
        f"(about {quantity(needed, 'B')} of {quantity(disk_free(), 'B')} free)"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Check a whole profile, and tell all mistakes at once.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--params", default="params.yaml", help="the parameter file")
    arguments = parser.parse_args()

    def run() -> None:
        params, mistakes = find_mistakes(arguments.params)
        for mistake in mistakes:
            print(f"error: {mistake}", file=sys.stderr)
        if mistakes:
            sys.exit(2)
        print(summary(arguments.params, params))

    exit_with_one_line(run)


if __name__ == "__main__":
    main()
