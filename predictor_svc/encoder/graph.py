"""A BERT sentence encoder as an int8 ONNX graph, written from its weights.

The graph is written out directly, not traced: it then has no dependence on the exporter of one torch version, uses the
fused operators of onnxruntime, and its bytes depend on the weights alone. Linear layers have int8 weights with one
scale a column and quantise their input as they run, word vectors are int8 with one scale a row; the rest stays float32.

Inputs: `input_ids`, `attention_mask`, int64 and int32 [batch, tokens]. Output: `embedding`, float32 [batch, width],
pooled as the model was trained (mean or first token) and of length 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

_FUSED = "com.microsoft"
Array: TypeAlias = NDArray[Any]


class NotSupported(Exception):
    """Not a model that this graph can express; the message says what is missing."""


@dataclass(frozen=True)
class Shape:
    """What of a model's `config.json` the graph needs.

    Attributes:
        width: of the hidden states.
        layers, heads: counts.
        epsilon: of the layer norms.
        positions: tokens at most.
    """

    width: int
    layers: int
    heads: int
    epsilon: float
    positions: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From `config.json`; raises NotSupported for what is not BERT with GELU and absolute positions."""
        kind, activation = config.get("model_type"), config.get("hidden_act")
        position = config.get("position_embedding_type", "absolute")
        if kind != "bert" or activation != "gelu" or position != "absolute":
            raise NotSupported(
                f"model_type {kind!r} with {activation!r} and {position!r} positions; the encoder must be BERT with "
                "gelu and absolute positions, as MiniLM, BGE, GTE and E5 are"
            )
        return cls(
            int(config["hidden_size"]),
            int(config["num_hidden_layers"]),
            int(config["num_attention_heads"]),
            float(config["layer_norm_eps"]),
            int(config["max_position_embeddings"]),
        )


class _Writer:
    def __init__(self, weights: Mapping[str, Array], shape: Shape, *, quantised: bool) -> None:
        self._weights = weights
        self._quantised = quantised
        self._shape = shape
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}

    def constant(self, name: str, value: Array) -> str:
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def weight(self, name: str) -> Array:
        if name not in self._weights:
            raise NotSupported(f"the weights have no {name}")
        return cast(Array, np.asarray(self._weights[name], np.float32))

    def node(self, kind: str, inputs: list[str], *, domain: str = "", outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"{kind}_{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    def linear(self, inputs: str, *layers: str) -> str:
        """y = x W^T + b; several layers side by side give one output."""
        matrix = np.concatenate([self.weight(f"{layer}.weight") for layer in layers]).T
        bias = np.concatenate([self.weight(f"{layer}.bias") for layer in layers])
        if not self._quantised:
            product = self.node("MatMul", [inputs, self.constant(f"{layers[0]}.weight", matrix)])[0]
            return self.node("Add", [product, self.constant(f"{layers[0]}.bias", bias)])[0]
        scale = np.maximum(np.abs(matrix).max(axis=0) / 127, 1e-12).astype(np.float32)
        quantised = np.clip(np.rint(matrix / scale), -127, 127).astype(np.int8)
        name = layers[0]
        constants = [
            self.constant(f"{name}.int8", quantised),
            self.constant(f"{name}.scale", scale),
            self.constant(f"{name}.zero", np.zeros(len(scale), np.int8)),
            self.constant(f"{name}.bias", bias),
        ]
        return self.node("DynamicQuantizeMatMul", [inputs, *constants], domain=_FUSED)[0]

    def norm(self, inputs: str, added: str, layer: str) -> str:
        scale = self.constant(f"{layer}.weight", self.weight(f"{layer}.weight"))
        bias = self.constant(f"{layer}.bias", self.weight(f"{layer}.bias"))
        return self.node(
            "SkipLayerNormalization", [inputs, added, scale, bias], domain=_FUSED, epsilon=self._shape.epsilon
        )[0]

    def embedded(self) -> str:
        table = self.weight("embeddings.word_embeddings.weight")
        scale = np.maximum(np.abs(table).max(axis=1, keepdims=True) / 127, 1e-12).astype(np.float32)
        words = self.constant("words", np.clip(np.rint(table / scale), -127, 127).astype(np.int8))
        scales = self.constant("words.scale", scale)
        kinds = self.weight("embeddings.token_type_embeddings.weight")[0]
        positions = self.constant("positions", self.weight("embeddings.position_embeddings.weight") + kinds)
        length = self.node("Gather", [self.node("Shape", ["input_ids"])[0], self.constant("second", np.array([1]))])[0]
        code = self.node("Cast", [self.node("Gather", [words, "input_ids"])[0]], to=TensorProto.FLOAT)[0]
        word = self.node("Mul", [code, self.node("Gather", [scales, "input_ids"])[0]])[0]
        start, rows = self.constant("start", np.array([0])), self.constant("rows", np.array([0]))
        place = self.node("Slice", [positions, start, length, rows])[0]
        place = self.node("Unsqueeze", [place, rows])[0]
        place = self.node("Expand", [place, self.node("Shape", [word])[0]])[0]
        return self.norm(word, place, "embeddings.LayerNorm")

    def layer(self, states: str, index: int) -> str:
        base = f"encoder.layer.{index}"
        attention = f"{base}.attention.self"
        mixed = self.linear(states, f"{attention}.query", f"{attention}.key", f"{attention}.value")
        parts = self.node("Split", [mixed], outputs=3, axis=2, num_outputs=3)
        seen = self.node(
            "MultiHeadAttention", [*parts, "", "attention_mask"], domain=_FUSED, num_heads=self._shape.heads
        )[0]
        states = self.norm(
            self.linear(seen, f"{base}.attention.output.dense"), states, f"{base}.attention.output.LayerNorm"
        )
        inner = self.node("Gelu", [self.linear(states, f"{base}.intermediate.dense")], domain=_FUSED)[0]
        return self.norm(self.linear(inner, f"{base}.output.dense"), states, f"{base}.output.LayerNorm")

    def pooled(self, states: str, pooling: Literal["mean", "cls"]) -> str:
        if pooling == "cls":
            vector = self.node("Gather", [states, self.constant("first", np.array(0))], axis=1)[0]
        else:
            mask = self.node("Cast", ["attention_mask"], to=TensorProto.FLOAT)[0]
            mask = self.node("Unsqueeze", [mask, self.constant("axis2", np.array([2]))])[0]
            axis1 = self.constant("axis1", np.array([1]))
            total = self.node("ReduceSum", [self.node("Mul", [states, mask])[0], axis1], keepdims=0)[0]
            vector = self.node("Div", [total, self.node("ReduceSum", [mask, axis1], keepdims=0)[0]])[0]
        return self.node("LpNormalization", [vector], axis=1, p=2)[0]

    def graph(self, pooling: Literal["mean", "cls"]) -> GraphProto:
        states = self.embedded()
        for index in range(self._shape.layers):
            states = self.layer(states, index)
        self._nodes.append(helper.make_node("Identity", [self.pooled(states, pooling)], ["embedding"]))
        sizes = ["batch", "tokens"]
        return helper.make_graph(
            self._nodes,
            "encoder",
            [
                helper.make_tensor_value_info("input_ids", TensorProto.INT64, sizes),
                helper.make_tensor_value_info("attention_mask", TensorProto.INT32, sizes),
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", self._shape.width])],
            list(self._constants.values()),
        )


def encoder_graph(
    weights: Mapping[str, Array], shape: Shape, pooling: Literal["mean", "cls"], *, quantised: bool = True
) -> ModelProto:
    """The graph of a BERT encoder.

    Args:
        weights: tensors by their Hugging Face names, with or without the prefix `bert.`.
        shape: of the model.
        pooling: how the token states become one vector.
        quantised: int8 linear layers; False: float32, to see what int8 costs. Word vectors are int8 in both.

    Raises:
        NotSupported: a tensor is missing.
    """
    plain = {name.removeprefix("bert."): value for name, value in weights.items()}
    return helper.make_model(
        _Writer(plain, shape, quantised=quantised).graph(pooling),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(_FUSED, 1)],
        ir_version=9,
        producer_name="fairlead",
    )
