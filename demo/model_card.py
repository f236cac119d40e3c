"""The README that lies beside the demo model and says what it is."""

from __future__ import annotations

from pathlib import Path

_CARD = """# fairlead demo model

A very small instruct model that really answers, made so that the suite can be tried on any CPU with real vLLM.
It has {parameters:,} parameters in the Llama format, deep and thin (hidden size 128, heads of 32), with a context of
1,024 tokens and a byte-level BPE tokenizer that encodes any UTF-8 text.

It was trained from random weights on text made by this repository's own task generator
(`fairlead/workload/tasks.py`); no outside data went into it.

- Made by: `python -m demo.train_model {command}`, {minutes:.0f} minutes on CPU
- Optimizer: Muon for the inner matrices, AdamW for embeddings and norms; bfloat16 autocast; loss on answers only
- Held-out loss: {loss:.3f} nats per answer token. Much of that is chance in the text itself, such as which animal
  comes next in a list, and can not be learnt.
- Stored as bfloat16; serve it as bfloat16 or float32
- Chat template with the roles system, user and assistant; `<|end|>` ends each message
- Checked by: `python -m demo.check_model`

## What it can do, and what not

It answers the kinds of task that the generator makes, in English: sums, counting, lists, multiplication tables,
rewriting a sentence, tables, recipes, plans, letters, descriptions, dialogues, poems and stories. The wording of the
prompt sets the length of the answer ("short", "long", a number of sentences), and chance varies it.

It knows nothing else. Other questions get an apology or nonsense, stories do not follow a plot, it ignores system
texts, and it miscounts. How often it is right, kind by kind, is what the check prints. Do not use it for anything
but a demonstration.
"""


def write_card(folder: Path, *, parameters: int, command: str, loss: float, minutes: float) -> None:
    """Writes README.md into `folder`; `loss` in nats per answer token."""
    text = _CARD.format(parameters=parameters, command=command, loss=loss, minutes=minutes)
    (folder / "README.md").write_text(text)
