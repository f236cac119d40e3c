"""Tokenizer and chat format of the demo model: how a conversation becomes token ids."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PAD, BOS, END, SYSTEM, USER, ASSISTANT = SPECIALS = (
    "<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>",
)  # fmt: skip
"""Special tokens; each one's id is its place in this list. `<|end|>` closes every message and is the EOS token."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('roles are system, user and assistant') }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer: digits stand alone so that numbers can be learnt, and any UTF-8 text encodes."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_tokens: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json with the chat template into `folder`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": CHAT_TEMPLATE,
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def encode_conversation(
    tokenizer: Tokenizer, turns: list[tuple[str, str]], system: str | None = None
) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation of (prompt, answer) turns, and for each id whether it is part of an answer.

    The ids are those that `CHAT_TEMPLATE` renders; the closing `<|end|>` of an answer counts as part of it.
    """
    pieces: list[tuple[int, str, bool]] = []
    if system is not None:
        pieces.append((SPECIALS.index(SYSTEM), system, False))
    for prompt, answer in turns:
        pieces += [(SPECIALS.index(USER), prompt, False), (SPECIALS.index(ASSISTANT), answer, True)]
    ids, learnt = [SPECIALS.index(BOS)], [False]
    for role, text, is_answer in pieces:
        body = [*tokenizer.encode(text.strip(), add_special_tokens=False).ids, SPECIALS.index(END)]
        ids += [role, *body]
        learnt += [False, *([is_answer] * len(body))]
    return ids, learnt
