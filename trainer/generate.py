"""Command: continue a text, or describe a picture, with a trained JAT."""

import argparse
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import UserError, plain
from pipeline.paths import JAT
from pipeline.stage import exit_with_one_line
from trainer.evaluation.jat_policy import load_model, model_checksum
from trainer.places import model_folder


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Continue a text, or describe a picture, with a trained JAT.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", default=str(JAT), help="folder or Hub repository")
    parser.add_argument("--prompt", default="", help="the text to continue")
    parser.add_argument("--image", type=Path, help="a picture that goes first")
    parser.add_argument("--tokens", type=int, default=32, help="how many to add at most")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main(arguments: argparse.Namespace) -> str:
    """The prompt and what the model adds to it; UserError for what it cannot take."""
    folder = model_folder(arguments.model)
    model, processor = load_model(folder, model_checksum(folder))
    if not arguments.prompt and arguments.image is None:
        raise UserError("nothing to start from: give --prompt or --image")
    if arguments.tokens < 1 or arguments.temperature < 0:
        raise UserError("--tokens must be at least 1, --temperature at least 0")
    inputs = {}
    if arguments.image is not None:
        inputs = dict(processor(images=[read_image(arguments.image)]))
    if arguments.prompt:
        inputs |= processor(text=[arguments.prompt])
    sample = arguments.temperature > 0
    try:
        tokens = model.generate(
            **{name: value.to(model.device) for name, value in inputs.items()},
            max_new_tokens=arguments.tokens,
            do_sample=sample,
            temperature=arguments.temperature if sample else 1.0,
            eos_token_id=processor.tokenizer.eos_token_id,
            generator=torch.Generator().manual_seed(arguments.seed),
        )
    except ValueError as error:
        raise UserError(f"{error} (--prompt, --tokens)") from None
    return arguments.prompt + processor.tokenizer.decode(tokens[0], skip_special_tokens=True)


def show(text: str) -> None:
    """Print what a model wrote: its tokens may spell anything, but command no terminal."""
    print("\n".join(map(plain, text.split("\n"))))


def read_image(path: Path) -> np.ndarray:
    """A picture, uint8 (height, width, 3); UserError if it is none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"'{path}' is no picture that can be read: {error}") from None


if __name__ == "__main__":
    exit_with_one_line(lambda: show(main(parse())))
