"""How many tokens a second JAT trains on, against GPT-Neo of Transformers in its place.

Both are the same model with the same weights, in which one transformer is ours and the other is
``GPTNeoModel`` with eager attention; both get the same micro-batches, one of each domain of a
profile's mixture, in turns. A micro-batch is drawn as often as the profile draws it, so that the
rate is that of the mixture: valid tokens, of forward, backward and the AdamW step. What they
predict is compared first. Texts are read as one document, as GPT-Neo reads them. One core, of
whose time the seconds are; or one GPU.

    python -m benchmarks.train_jat --profile laptop paper --json
    python -m benchmarks.train_jat --profile paper --device cuda
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import GPTNeoConfig, GPTNeoModel

from benchmarks.random_dataset import TASKS, write_dataset
from pipeline.domains import CORPUS_DOMAINS, PUBLISHED_DOMAINS
from pipeline.errors import UserError
from pipeline.params import Params, load_params
from pipeline.stage import exit_with_one_line
from trainer.feed.sampling import PUBLISHED_WEIGHTS, BatchPlan
from trainer.model.configuration_jat import JatConfig
from trainer.model.modeling_jat import JatModel
from trainer.pretrained import quiet
from trainer.training.parts import prepare
from trainer.training.speed import clock, measured_peak, sequence_lengths, training_operations

PROFILES = {"laptop": "params.yaml", "paper": "params/paper.yaml"}
GPT2_TOKENS = 50_257
STEP = "step"
"""The optimizer's, among the domains."""
LOADED = 4
"""Micro-batches of each domain that the loader is timed on."""
TOLERANCE = 1e-4
"""By which the two may differ in what they predict, in float32."""
Seconds = dict[str, list[float]]
"""Domain, or STEP -> one a round."""


class EagerTransformer(GPTNeoModel):
    """GPT-Neo of Transformers, called as ours is."""

    def __init__(self, config: JatConfig) -> None:
        super().__init__(
            GPTNeoConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                attention_types=config.attention_types,
                intermediate_size=config.intermediate_size,
                window_size=config.window_size,
                max_position_embeddings=config.max_position_embeddings,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
        self.set_attn_implementation("eager")

    def forward(self, embeds: Tensor, token_mask: Tensor | None = None, **_: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hidden states (B, L, H)."""
        output = super().forward(
            inputs_embeds=embeds, attention_mask=token_mask, use_cache=False, return_dict=True
        )
        return output[0]


def with_eager_transformer(model: JatModel) -> JatModel:
    """A copy of the model whose transformer is GPT-Neo's, with the same weights and names."""
    eager = EagerTransformer(model.config)
    eager.load_state_dict(model.transformer.state_dict())
    other = copy.deepcopy(model)
    eager.wte = other.transformer.wte
    other.transformer = eager  # pyright: ignore[reportAttributeAccessIssue]
    return other


@dataclass(frozen=True)
class Mixture:
    """One micro-batch of each domain."""

    model: JatModel
    plans: dict[str, BatchPlan]
    weights: dict[str, float]
    """How often a micro-batch of each domain is drawn, relative to the others."""

    def batch(self, domain: str, device: str) -> dict[str, Tensor]:
        """What the model takes."""
        fields = {"task", "tasks", "documents"}
        batch = {k: v for k, v in self.plans[domain][0].items() if k not in fields}
        return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}

    def mean(self, values: dict[str, float]) -> float:
        """The mean of a micro-batch of the mixture, of what each domain's has."""
        total = sum(self.weights.values())
        return sum(self.weights[domain] * values[domain] for domain in self.plans) / total


def domain_weights(params: Params) -> dict[str, float]:
    """The sum of the weights of a profile's tasks, by domain; 0 is left out."""
    factors = params.jat.weights
    weights = {
        name: len(params.domain(name).tasks) * factors.get(name, 1.0) for name in PUBLISHED_DOMAINS
    }
    published = PUBLISHED_WEIGHTS if params.jat.sampling == "published" else {}
    for name in CORPUS_DOMAINS:
        corpora = [published.get(corpus.name, 1.0) for corpus in getattr(params, name)]
        weights[name] = sum(corpora) * factors.get(name, 1.0)
    return {name: weight for name, weight in weights.items() if weight}


def make_mixture(params: Params) -> Mixture:
    """A profile's model, and random data in the present folder to train it on."""
    settings, weights = params.jat, domain_weights(params)
    write_dataset(Path("dataset"), list(weights))
    parts = prepare(settings, params.seed, Path("dataset"), [TASKS[name] for name in weights])
    plans = {}
    for source in parts.sources:
        budget = settings.domain_batch_tokens.get(source.domain, settings.batch_tokens)
        budgets = {source.domain: budget}
        plans[source.domain] = BatchPlan([source], {source.task: 1.0}, budgets, LOADED, params.seed)
    return Mixture(parts.model, plans, weights)


def read_profile(profile: str, rows: int) -> Params:
    """Its parameters; micro-batches of ``paper`` get so many sequences instead of 20."""
    params = load_params(PROFILES[profile])
    changes: dict[str, Any] = {"tokenizer": "train", "vocab_size": 2048}
    if profile == "paper":
        changes["model"] = {"vocab_size": GPT2_TOKENS}
        changes["batch_tokens"] = params.jat.batch_tokens * rows // 20
        budgets = params.jat.domain_batch_tokens
        changes["domain_batch_tokens"] = {name: n * rows // 20 for name, n in budgets.items()}
    return params.model_copy(update={"jat": params.jat.model_copy(update=changes)})


@torch.no_grad()
def difference(ours: JatModel, theirs: JatModel, mixture: Mixture, device: str) -> float:
    """The largest by which the two's losses and predictions differ, in float32."""
    worst = 0.0
    for domain in mixture.plans:
        batch = mixture.batch(domain, device)
        inputs: dict[str, Any] = {**batch, "return_predictions": True}
        outputs = [model.forward(**inputs) for model in (ours, theirs)]
        for name in outputs[0].keys() & outputs[1].keys():
            a, b = (output[name].float() for output in outputs)
            finite = a.isfinite()  # actions that a task does not have are at -inf
            worst = max(worst, float((a[finite] - b[finite]).abs().max()))
    return worst


def clock_of(device: str) -> Callable[[], float]:
    """Seconds of this process' own on a CPU, as others may be busy on it; else of all."""
    return time.process_time if device == "cpu" else partial(clock, torch.device(device))


def time_rounds(
    models: dict[str, JatModel], mixture: Mixture, device: str, bfloat16: bool, rounds: int
) -> dict[str, Seconds]:
    """What each model's micro-batches and optimizer steps take; the models take turns."""
    now = clock_of(device)
    optimizers = {
        # As Transformers' Trainer makes it.
        name: torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        for name, model in models.items()
    }
    seconds = {name: {part: [] for part in (*mixture.plans, STEP)} for name in models}
    for number in range(rounds + 1):  # the first one is not counted
        for name in list(models)[:: 1 if number % 2 else -1]:
            model, optimizer, row = models[name], optimizers[name], seconds[name]
            for domain in mixture.plans:
                batch = mixture.batch(domain, device)
                start = now()
                with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                    loss = model(**batch).loss
                loss.backward()
                row[domain].append(now() - start)
            start = now()
            optimizer.step()
            optimizer.zero_grad()
            row[STEP].append(now() - start)
    return {name: {part: row[1:] for part, row in parts.items()} for name, parts in seconds.items()}


def loading_rate(mixture: Mixture, tokens: dict[str, float]) -> float:
    """Tokens a second that one process of the loader makes."""
    spent = {}
    for domain, plan in mixture.plans.items():
        start = time.process_time()
        for index in range(len(plan)):
            plan[index]
        spent[domain] = (time.process_time() - start) / len(plan)
    return mixture.mean(tokens) / mixture.mean(spent)


def measure(profile: str, device: str, precision: str, rows: int, rounds: int) -> dict[str, Any]:
    """All figures of one profile."""
    params = read_profile(profile, rows)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        mixture = make_mixture(params)
        ours = mixture.model.to(device).train()  # pyright: ignore
        models = {"ours": ours, "eager": with_eager_transformer(ours)}
        worst = difference(ours, models["eager"], mixture, device)
        if worst > TOLERANCE:
            raise UserError(f"the two models' outputs differ by {worst:.1e}: not comparable")
        bfloat16 = precision == "bfloat16"
        seconds = time_rounds(models, mixture, device, bfloat16, rounds)
        lengths = {
            name: sequence_lengths(ours.config, mixture.batch(name, "cpu"))
            for name in mixture.plans
        }
        tokens = {name: float(value.sum()) for name, value in lengths.items()}
        loaded = loading_rate(mixture, tokens)
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    peak = measured_peak(torch.device(device), dtype, clock_of(device))
    operations = {n: float(training_operations(ours.config, v)) for n, v in lengths.items()}
    spent = {
        name: mixture.mean({part: median(values) for part, values in row.items()})
        + median(row[STEP]) / params.jat.accumulation
        for name, row in seconds.items()
    }
    rates = {name: mixture.mean(tokens) / value for name, value in spent.items()}
    return {
        "profile": profile,
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "precision": precision,
        "difference": worst,
        "tokens_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "ratio": round(rates["ours"] / rates["eager"], 3),
        "ratio_by_domain": {
            name: round(median(seconds["eager"][name]) / median(seconds["ours"][name]), 3)
            for name in mixture.plans
        },
        "peak_operations": round(peak),
        "mfu": {n: round(mixture.mean(operations) / s / peak, 3) for n, s in spent.items()},
        "loader_tokens_per_second": round(loaded, 1),
        "loader_ratio": round(loaded / rates["ours"], 2),
    }


def main() -> None:
    """Measure some profiles on one device."""
    parser = argparse.ArgumentParser(description="Measure JAT's training against GPT-Neo's.")
    parser.add_argument("--profile", nargs="+", choices=list(PROFILES), default=list(PROFILES))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="float32 on a CPU")
    parser.add_argument("--rows", type=int, help="sequences of a micro-batch of paper: 2, or 20")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no GPU is there: pass --device cpu")
    precision = arguments.precision or {"cpu": "float32", "cuda": "bfloat16"}[device]
    rows = arguments.rows or {"cpu": 2, "cuda": 20}[device]
    results = []
    for profile in arguments.profile:
        result = measure(profile, device, precision, rows, arguments.rounds)
        results.append(result)
        rates, mfu = result["tokens_per_second"], result["mfu"]
        print(f"{profile} on {result['device']} in {precision}:")
        print(f"  {rates['ours']:,.0f} tokens/s, MFU {mfu['ours']:.0%} of a large product")
        print(f"  GPT-Neo, eager: {rates['eager']:,.0f} tokens/s, MFU {mfu['eager']:.0%}")
        print(f"  ratio {result['ratio']}; by domain {result['ratio_by_domain']}")
        print(f"  outputs differ by {result['difference']:.1e} at most")
        loader, times = result["loader_tokens_per_second"], result["loader_ratio"]
        print(f"  a loader process makes {loader:,.0f} tokens/s, {times} of what ours consumes")
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    exit_with_one_line(main)
