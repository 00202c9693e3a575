"""The tokenizer: GPT-2's, or one trained on the dataset's own texts."""

from collections.abc import Iterable

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipeline.errors import UserError

END = "<|endoftext|>"
"""Ends a text, and pads; the name it has in GPT-2."""
SAMPLE = 5_000_000
"""Characters that training the tokenizer reads at most."""


def load_tokenizer(name: str, vocab_size: int, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """``name`` is "train", a local folder, or a repository of the Hub such as "gpt2".

    "train" gives a byte-level BPE of ``vocab_size`` tokens made from ``texts``.
    """
    if name == "train":
        return train_tokenizer(texts, vocab_size)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no tokenizer '{name}' here or on the Hub ({str(error).strip().splitlines()[0]}): "
            "set 'jat.tokenizer' to a local folder or to 'train'"
        ) from None
    if tokenizer.eos_token_id is None:
        raise UserError(f"tokenizer '{name}' has no end-of-text token: choose another")
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
    tokenizer.train_from_iterator(_first_characters(texts, SAMPLE), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, bos_token=END, pad_token=END, unk_token=None
    )


def _first_characters(texts: Iterable[str], count: int) -> Iterable[str]:
    for text in texts:
        yield text[:count]
        count -= len(text)
        if count <= 0:
            return
