"""A Llama with random weights and the demo model's tokenizer: as slow as wanted, and nothing to download."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

DEMO = Path(__file__).parent.parent.parent / "worker_svc" / "demo_model"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


@dataclass(frozen=True)
class Size:
    """Of a Llama; about 13 million weights, sized so that a step of 64 decodes takes 10 to 20 ms on one CPU core."""

    layers: int = 6
    hidden: int = 384
    intermediate: int = 1408
    heads: int = 6
    kv_heads: int = 2
    max_context_tokens: int = 1024


def write_llama(folder: Path, size: Size | None = None, *, seed: int = 0) -> Path:
    """Writes config, weights (bfloat16) and tokenizer into `folder`; what is there already is used again.

    Args:
        folder: made where it is missing.
        size: None: the default one.
        seed: of the weights.

    Returns:
        The folder.
    """
    size = size or Size()
    told = json.dumps(_config(size) | {"weights_seed": seed}, indent=1)
    if (folder / "model.safetensors").is_file() and (folder / "config.json").read_text(encoding="utf-8") == told:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER:
        shutil.copyfile(DEMO / name, folder / name)
    _write_weights(folder / "model.safetensors", size, seed)
    (folder / "config.json").write_text(told, encoding="utf-8")
    return folder


def _config(size: Size) -> dict[str, object]:
    demo = json.loads((DEMO / "config.json").read_text(encoding="utf-8"))
    return demo | {
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.hidden // size.heads,
        "max_position_embeddings": size.max_context_tokens,
    }


def _write_weights(path: Path, size: Size, seed: int) -> None:
    import torch  # noqa: PLC0415 - takes seconds, and only this needs it
    from safetensors.torch import save_file  # noqa: PLC0415

    vocabulary = int(json.loads((DEMO / "config.json").read_text(encoding="utf-8"))["vocab_size"])
    generator = torch.Generator().manual_seed(seed)
    hidden, inner, head = size.hidden, size.intermediate, size.hidden // size.heads

    def drawn(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * shape[-1] ** -0.5).to(torch.bfloat16)

    weights = {
        "model.embed_tokens.weight": drawn(vocabulary, hidden),
        "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16),
    }
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (size.kv_heads * head, hidden),
        "self_attn.v_proj": (size.kv_heads * head, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for layer in range(size.layers):
        at = f"model.layers.{layer}."
        weights |= {f"{at}{name}.weight": drawn(*shape) for name, shape in shapes.items()}
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{at}{name}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
    save_file(weights, path, metadata={"format": "pt"})
