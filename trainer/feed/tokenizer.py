"""The tokenizer: GPT-2's, or one trained on the dataset's own texts."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.errors import UserError
from pipeline.locks import locked
from pipeline.outputs import replaced_file
from trainer.feed.data import TaskData

END = "<|endoftext|>"
"""Ends a text, and pads; the name it has in GPT-2."""
SAMPLE = 5_000_000
"""Characters of each task that training the tokenizer reads at most."""
CHUNK = 1000
"""Texts that are tokenised at once."""


def load_tokenizer(name: str, vocab_size: int, data: Sequence[TaskData]) -> PreTrainedTokenizerFast:
    """``name`` is "train", a local folder, or a repository of the Hub such as "gpt2".

    "train" gives a byte-level BPE of ``vocab_size`` tokens made from the texts of ``data``.
    """
    if name == "train":
        texts = (text for task in data for text in _first_characters(task.texts(), SAMPLE))
        return train_tokenizer(texts, vocab_size)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no tokenizer '{name}' here or on the Hub ({str(error).strip().splitlines()[0]}): "
            "set 'jat.tokenizer' to a local folder or to 'train'"
        ) from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or tokenizer.eos_token_id is None:
        raise UserError(f"tokenizer '{name}' is not a fast one with an end of text: choose another")
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Radford et al. 2019, section 2.2); the same texts give the same tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, bos_token=END, pad_token=END, unk_token=None
    )


def _first_characters(texts: Iterable[str], count: int) -> Iterable[str]:
    for text in texts:
        yield text[:count]
        count -= len(text)
        if count <= 0:
            return


def tokenise(data: TaskData, tokenizer: PreTrainedTokenizerFast) -> tuple[np.ndarray, np.ndarray]:
    """int32 token ids of all texts, each with its end, and int64 offsets (E + 1,) of the texts.

    They are memory-mapped and kept beside the task's arrays, for one tokenizer at a time.
    """
    backend = tokenizer.backend_tokenizer.to_str()
    key = hashlib.sha256(f"{tokenizer.eos_token_id} {backend}".encode()).hexdigest()[:16]
    tokens, offsets = (data.folder / f"tokens-{key}.{kind}" for kind in ("bin", "npy"))
    with locked(offsets):
        if not offsets.exists():
            for stale in data.folder.glob("tokens-*"):
                stale.unlink()
            with replaced_file(tokens) as temporary:
                counts = _write_tokens(data.texts(), tokenizer, temporary)
            with replaced_file(offsets) as temporary, temporary.open("wb") as file:
                np.save(file, np.cumsum(counts))
    if not tokens.stat().st_size:
        raise UserError(f"'{data.task}' has no texts: build the dataset again")
    return np.memmap(tokens, np.int32, "r"), np.load(offsets)


def _write_tokens(
    texts: Iterator[str], tokenizer: PreTrainedTokenizerFast, path: Path
) -> list[int]:
    """Write the token ids of all texts to a file; 0, and how many each text has."""
    counts = [0]
    with path.open("wb") as file:
        while chunk := list(islice(texts, CHUNK)):
            for row in tokenizer(chunk, add_special_tokens=False)["input_ids"]:
                file.write(np.array([*row, tokenizer.eos_token_id], np.int32).tobytes())
                counts.append(len(row) + 1)
    return counts
