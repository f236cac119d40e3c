"""Trains the demo model from nothing on the built-in tasks and writes it as a Llama model that vLLM can serve."""

from __future__ import annotations

import argparse
import json
import math
import random
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from demo.chat_format import BOS, END, PAD, SPECIALS, encode_conversation, save_tokenizer, train_tokenizer
from demo.model_card import write_card
from fairlead.workload import exact
from fairlead.workload.tasks import KINDS, Task, prompts

CONTEXT = 1024
"""Most tokens of a conversation, prompt and answers together."""
_SYSTEM_TEXTS = (
    "You are a helpful assistant.",
    "You are a small demo model. Answer in plain English.",
    "Be kind and answer the question.",
    "You are a friendly assistant who writes clearly.",
)
_HELD_OUT_SEED = 987_654_321

Batch = tuple[torch.Tensor, torch.Tensor]
"""Token ids and the mask of ids to learn, both (conversations, length)."""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_model",
        description=__doc__,
        epilog="The same seed, steps and thread count give the same model. Expect 0.4 s a step on 2 idle CPU cores; "
        "try '--steps 50 --out /path/to/scratch' first to see the speed.",
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("worker_svc/demo_model"), help="folder for the model (default: %(default)s)")
    add(
        "--resume",
        type=Path,
        help="go on from weights and tokenizer of this folder; give another --seed for fresh data",
    )
    add("--steps", type=int, default=4000, help="optimizer steps (default: %(default)s)")
    add("--batch-tokens", type=int, default=4096, help="padded tokens per step (default: %(default)s)")
    add("--rate", type=float, default=6e-3, help="peak learning rate (default: %(default)s)")
    add("--seed", type=int, default=7, help="seed of weights and data (default: %(default)s)")
    add(
        "--threads",
        type=int,
        default=2,
        help="CPU threads; 1 is faster where other work shares the cores (default: %(default)s)",
    )
    add(
        "--focus",
        type=float,
        default=1.0,
        help="how much more often exact tasks are drawn than in the mix (default: %(default)s)",
    )
    add("--vocab", type=int, default=1600, help="tokens in the vocabulary (default: %(default)s)")
    add("--layers", type=int, default=10, help="decoder layers (default: %(default)s)")
    add("--save-every", type=int, default=400, help="steps between saved copies (default: %(default)s)")
    return parser.parse_args()


def build_model(vocab: int, layers: int) -> LlamaForCausalLM:
    """A deep and thin Llama: 128 wide, heads of 32, so that a step costs time although the weights are few."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=SPECIALS.index(PAD),
        bos_token_id=SPECIALS.index(BOS),
        eos_token_id=SPECIALS.index(END),
    )
    return LlamaForCausalLM(config)


def draw_task(rng: random.Random, focus: float) -> Task:
    """One task of the mix, with exact kinds (sums, counts, copies) drawn `focus` times as often as a user would ask.

    Stories hold most of the mix's tokens; without more of the others, copying and stopping at N are learnt last.
    """
    names = tuple(KINDS)
    weights = [weight * (focus if make.__module__ == exact.__name__ else 1.0) for weight, make in KINDS.values()]
    kind = rng.choices(names, weights=weights)[0]
    return Task(kind, *KINDS[kind][1](rng))


def draw_conversation(rng: random.Random, tokenizer: Tokenizer, focus: float) -> tuple[list[int], list[bool]]:
    """One to three turns, now and then under a system text, as ids and answer mask of at most `CONTEXT` ids."""
    while True:
        turns = [draw_task(rng, focus) for _ in range(rng.choices((1, 2, 3), weights=(82, 12, 6))[0])]
        system = rng.choice(_SYSTEM_TEXTS) if rng.random() < 0.2 else None
        ids, learnt = encode_conversation(tokenizer, [(turn.prompt, turn.answer) for turn in turns], system)
        if len(ids) <= CONTEXT:
            return ids, learnt


def batches(rng: random.Random, tokenizer: Tokenizer, batch_tokens: int, focus: float = 1.0) -> Iterator[Batch]:
    """Endless fresh batches; conversations of like length share a batch, so that little is padding."""
    while True:
        pool = sorted((draw_conversation(rng, tokenizer, focus) for _ in range(768)), key=lambda item: len(item[0]))
        groups: list[list[tuple[list[int], list[bool]]]] = [[]]
        for item in pool:
            if len(item[0]) * (len(groups[-1]) + 1) > batch_tokens:
                groups.append([])
            groups[-1].append(item)
        rng.shuffle(groups)
        for group in groups:
            yield padded(group)


def padded(group: list[tuple[list[int], list[bool]]]) -> Batch:
    """Conversations side by side, filled up on the right with the pad token."""
    length = max(len(ids) for ids, _ in group)
    ids = torch.full((len(group), length), SPECIALS.index(PAD))
    learnt = torch.zeros((len(group), length), dtype=torch.bool)
    for row, (row_ids, row_learnt) in enumerate(group):
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        learnt[row, : len(row_learnt)] = torch.tensor(row_learnt)
    return ids, learnt


def answer_loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross entropy (nats per token) of the answer tokens only."""
    ids, learnt = batch
    with torch.autocast("cpu", torch.bfloat16):
        # Padding is on the right and never learnt, so the causal mask alone is enough.
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learnt[:, 1:]])
    return functional.cross_entropy(logits.float(), ids[:, 1:][learnt[:, 1:]])


def rate_factor(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up over 4 % of the steps, then a cosine down to 2 %."""
    warm = max(1, steps * 4 // 100)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def build_optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms.

    With AdamW alone a model this deep and thin needs several times as many steps to the same loss.
    """
    inner = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=rate, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate / 2, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def held_out_loss(model: LlamaForCausalLM, tokenizer: Tokenizer, batch_tokens: int) -> float:
    """Loss on conversations of a seed that training never draws from."""
    stream = batches(random.Random(_HELD_OUT_SEED), tokenizer, batch_tokens)
    with torch.no_grad():
        return sum(answer_loss(model, next(stream)).item() for _ in range(16)) / 16


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes weights as bfloat16, settings, tokenizer and default sampling into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    half = LlamaForCausalLM(model.config).bfloat16()
    half.load_state_dict(model.state_dict())
    half.save_pretrained(folder)
    save_tokenizer(tokenizer, folder, CONTEXT)
    settings = {
        "do_sample": True,
        "temperature": 0.8,
        "top_p": 1.0,
        "bos_token_id": SPECIALS.index(BOS),
        "eos_token_id": SPECIALS.index(END),
        "pad_token_id": SPECIALS.index(PAD),
    }
    (folder / "generation_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def train(args: argparse.Namespace, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Runs the optimizer steps, printing loss, speed and time left, and saves copies along the way."""
    optimizers = build_optimizers(model, args.rate)
    groups = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    stream = batches(random.Random(args.seed), tokenizer, args.batch_tokens, args.focus)
    start, mean = time.monotonic(), 0.0
    for step in range(args.steps):
        for group, peak in groups:
            group["lr"] = peak * rate_factor(step, args.steps)
        loss = answer_loss(model, next(stream))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        mean = loss.item() if step == 0 else 0.97 * mean + 0.03 * loss.item()
        if (step + 1) % 25 == 0:
            per_step = (time.monotonic() - start) / (step + 1)
            left = per_step * (args.steps - step - 1) / 60
            print(
                f"step {step + 1}/{args.steps}  loss {mean:.3f}  {per_step:.2f} s/step  {left:.1f} min left", flush=True
            )
        if (step + 1) % args.save_every == 0:
            save(model, tokenizer, args.out)


def main() -> None:
    """Trains tokenizer and model, then writes the folder with its model card."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    started = time.monotonic()
    if args.resume:
        tokenizer = Tokenizer.from_file(str(args.resume / "tokenizer.json"))
        model = LlamaForCausalLM.from_pretrained(args.resume, dtype=torch.float32)
    else:
        texts = (text for task in prompts(args.seed, 20_000) for text in (task.prompt, task.answer))
        tokenizer = train_tokenizer(texts, args.vocab)
        model = build_model(args.vocab, args.layers)
    count = sum(weight.numel() for weight in model.parameters())
    print(f"{count:,} parameters, {tokenizer.get_vocab_size()} tokens in the vocabulary", flush=True)
    train(args, model, tokenizer)
    loss = held_out_loss(model, tokenizer, args.batch_tokens)
    save(model, tokenizer, args.out)
    minutes = (time.monotonic() - started) / 60
    write_card(args.out, parameters=count, command=shlex.join(sys.argv[1:]), loss=loss, minutes=minutes)
    print(f"held-out loss {loss:.3f} nats per answer token; written to {args.out} after {minutes:.1f} min")


if __name__ == "__main__":
    main()
