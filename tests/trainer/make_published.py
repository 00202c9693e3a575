"""Cuts from the published numbers what is small enough to travel with the project.

    python tests/trainer/make_published.py <folder>

reads ``jat_model_cases/``, what the published architecture computes from random weights, and
``jat_model_shapes.json``, the names and shapes of the published checkpoint, and writes beside
itself

- ``published_cases.npz``: the weights but those of the screens' encoder and decoder (nine of
  ten megabytes), as 16-bit multiples of a power of two; of each case that needs no screens the
  inputs, the losses and the predictions, of logits every ``EVERY``-th;
- ``published_shapes.json``.

Before it writes, ``oracle.py`` has to agree with all of the numbers, screens included: it stands
for them in the tests.
"""

import json
import sys
from pathlib import Path

import numpy as np
from oracle import Oracle
from safetensors.numpy import load_file

HERE = Path(__file__).parent
CASES, SHAPES = HERE / "published_cases.npz", HERE / "published_shapes.json"
EVERY = 8
"""Of the logits of a vocabulary, each so many are kept."""
SCREENS = ("image_encoder.", "image_decoder.")
LOGITS = ("logits", "pred_actions")

Arrays = dict[str, np.ndarray]
Case = tuple[Arrays, Arrays]
"""Inputs and outputs, by the names of the model's arguments and of its output's fields."""


def read_cases(tensors: Arrays) -> dict[str, Case]:
    """Tensors named ``<case>/<input or output>/<field>``, by case."""
    cases: dict[str, Case] = {}
    for name, value in tensors.items():
        case, kind, field = name.split("/")
        cases.setdefault(case, ({}, {}))[kind == "output"][field] = value
    return cases


def in_float64(arrays: Arrays) -> Arrays:
    """Floats in float64, all else as it is."""
    return {
        name: value.astype(np.float64) if value.dtype.kind == "f" else value
        for name, value in arrays.items()
    }


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference by the norm of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def check_oracle(weights: Arrays, cases: dict[str, Case], config: dict) -> None:
    """Stops unless the oracle computes every published number."""
    oracle = Oracle(in_float64(weights), config)
    for case, (inputs, outputs) in cases.items():
        found = oracle(in_float64(inputs))
        assert found.keys() == outputs.keys(), case
        for name, expected in outputs.items():
            error = distance(found[name], expected)
            assert error < 2e-6, f"{case}: {name} differs by {error}"


def kept(inputs: Arrays, name: str, value: np.ndarray) -> np.ndarray:
    """What is kept of one output."""
    discrete = "continuous_actions" not in inputs
    return value[..., ::EVERY] if name in LOGITS and discrete else value


def main(reference: Path) -> None:
    """Check, cut and write."""
    folder = reference / "jat_model_cases"
    weights, tensors = (load_file(folder / f"{name}.safetensors") for name in ("model", "cases"))
    expected = json.loads((folder / "expected.json").read_text(encoding="utf8"))
    cases = read_cases(tensors)
    check_oracle(weights, cases, expected["config"])

    cut: Arrays = {"config": np.array(json.dumps(expected["config"]))}
    for name, value in weights.items():
        if name.startswith(SCREENS):
            continue
        unit = 2.0 ** np.ceil(np.log2(np.abs(value).max() / 32767))
        cut[f"weights/{name}"] = np.round(value / unit).astype(np.int16)
        cut[f"units/{name}"] = np.float32(unit)
    for case, (inputs, outputs) in cases.items():
        if "image_observations" in inputs:
            continue
        for name, value in inputs.items():
            short = value.astype(np.int16) if value.dtype == np.int64 else value
            cut[f"{case}/input/{name}"] = short
        for name, value in outputs.items():
            cut[f"{case}/output/{name}"] = kept(inputs, name, value)
        if (norm := f"{case}/grad_norm") in expected["scalars"]:
            cut[norm] = np.float64(expected["scalars"][norm])
    np.savez_compressed(CASES, **cut)  # pyright: ignore[reportArgumentType]

    shapes = json.loads((reference / "jat_model_shapes.json").read_text(encoding="utf8"))
    SHAPES.write_text(json.dumps(shapes) + "\n", encoding="utf8")
    for path in (CASES, SHAPES):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
