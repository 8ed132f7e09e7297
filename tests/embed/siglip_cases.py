"""SigLIP checkpoints of random numbers in the published layout, and a reference of its arithmetic in plain torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from buffycoat.embed.siglip import SigLIP

IMAGE = {
    "hidden_size": 32, "intermediate_size": 86, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip
TEXT = {
    "hidden_size": 32, "intermediate_size": 50, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 40,
    "max_position_embeddings": 8,
}  # fmt: skip
CONFIG: dict[str, Any] = {"model_type": "siglip", "vision_config": IMAGE, "text_config": TEXT}


def sizes(config: dict[str, Any] = CONFIG) -> SigLIP:
    return SigLIP.model_validate(config)


def _layers(prefix: str, width: int, wide: int, depth: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(depth):
        layer = f"{prefix}encoder.layers.{k}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= {f"{layer}self_attn.{name}.weight": (width, width), f"{layer}self_attn.{name}.bias": (width,)}
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}{name}.weight": (width,), f"{layer}{name}.bias": (width,)}
        shapes |= {f"{layer}mlp.fc1.weight": (wide, width), f"{layer}mlp.fc1.bias": (wide,)}
        shapes |= {f"{layer}mlp.fc2.weight": (width, wide), f"{layer}mlp.fc2.bias": (width,)}
    return shapes


def published_shapes(model: SigLIP) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a published checkpoint, written down by hand, not taken from our code."""
    v, t = model.vision_config, model.text_config
    d, w, e = v.hidden_size, v.intermediate_size, t.hidden_size
    image: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (d, 3, v.patch_size, v.patch_size),
        "embeddings.patch_embedding.bias": (d,),
        "embeddings.position_embedding.weight": ((v.image_size // v.patch_size) ** 2, d), "post_layernorm.weight": (d,),
        "post_layernorm.bias": (d,), "head.probe": (1, 1, d), "head.attention.in_proj_weight": (3 * d, d),
        "head.attention.in_proj_bias": (3 * d,), "head.attention.out_proj.weight": (d, d),
        "head.attention.out_proj.bias": (d,), "head.layernorm.weight": (d,), "head.layernorm.bias": (d,),
        "head.mlp.fc1.weight": (w, d), "head.mlp.fc1.bias": (w,), "head.mlp.fc2.weight": (d, w),
        "head.mlp.fc2.bias": (d,),
    }  # fmt: skip
    text: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (t.vocab_size, e),
        "embeddings.position_embedding.weight": (t.max_position_embeddings, e), "final_layer_norm.weight": (e,),
        "final_layer_norm.bias": (e,), "head.weight": (d, e), "head.bias": (d,),
    }  # fmt: skip
    return {
        "logit_scale": (1,), "logit_bias": (1,), **{f"vision_model.{name}": shape for name, shape in image.items()},
        **{f"text_model.{name}": shape for name, shape in text.items()},
        **_layers("vision_model.", d, w, v.num_hidden_layers),
        **_layers("text_model.", e, t.intermediate_size, t.num_hidden_layers),
    }  # fmt: skip


def published(model: SigLIP, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = published_shapes(model)
    return {k: torch.randn(s, generator=generator, dtype=torch.float64).mul(0.3).to(dtype) for k, s in shapes.items()}


def checkpoint(folder: Path, parts: int = 1, config: dict[str, Any] = CONFIG) -> dict[str, Tensor]:
    """Write a published folder, in one file or in parts with an index; return its tensors."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    tensors = published(sizes(config))
    names = sorted(tensors)
    if parts == 1:
        save_file(tensors, folder / "model.safetensors")
        return tensors
    places = {name: f"model-{k % parts + 1:05d}-of-{parts:05d}.safetensors" for k, name in enumerate(names)}
    for part in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == part}, folder / part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return tensors


def _tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """(n, Q, D), (n, T, D), (n, T, D): one head after the other, softmax written out."""
    width = q.shape[-1] // heads
    parts = []
    for h in range(heads):
        a, b, c = (x[..., h * width : (h + 1) * width] for x in (q, k, v))
        scores = torch.exp(a @ b.transpose(1, 2) / math.sqrt(width))
        parts.append(scores / scores.sum(dim=-1, keepdim=True) @ c)
    return torch.cat(parts, dim=-1)


def _tower(w: dict[str, Tensor], x: Tensor, prefix: str, depth: int, heads: int) -> Tensor:
    def affine(name: str, y: Tensor) -> Tensor:
        return linear(y, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(name: str, y: Tensor) -> Tensor:
        return layer_norm(y, y.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    for k in range(depth):
        layer = f"{prefix}encoder.layers.{k}."
        y = norm(f"{layer}layer_norm1", x)
        q, key, v = (affine(f"{layer}self_attn.{name}_proj", y) for name in "qkv")
        x = x + affine(f"{layer}self_attn.out_proj", _attention(q, key, v, heads))
        x = x + affine(f"{layer}mlp.fc2", _tanh_gelu(affine(f"{layer}mlp.fc1", norm(f"{layer}layer_norm2", x))))
    return x


def slow_image(w: dict[str, Tensor], images: Tensor, model: SigLIP) -> Tensor:
    """SigLIP's image embedding (n, D) of images (n, 3, S, S) by the formulas, from the published tensors."""
    v = model.vision_config
    p, d = v.patch_size, v.hidden_size
    patches = images.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    kernel, bias = (w[f"vision_model.embeddings.patch_embedding.{kind}"] for kind in ("weight", "bias"))
    x = patches @ kernel.flatten(1).T + bias + w["vision_model.embeddings.position_embedding.weight"]
    x = _tower(w, x, "vision_model.", v.num_hidden_layers, v.num_attention_heads)
    x = layer_norm(x, (d,), w["vision_model.post_layernorm.weight"], w["vision_model.post_layernorm.bias"], 1e-6)
    head = "vision_model.head."
    joint, joint_bias = w[f"{head}attention.in_proj_weight"], w[f"{head}attention.in_proj_bias"]
    probe = w[f"{head}probe"].expand(len(x), 1, d)
    q, k, value = (
        linear(y, joint[i * d : (i + 1) * d], joint_bias[i * d : (i + 1) * d]) for i, y in enumerate((probe, x, x))
    )
    pooled = _attention(q, k, value, v.num_attention_heads)
    pooled = linear(pooled, w[f"{head}attention.out_proj.weight"], w[f"{head}attention.out_proj.bias"])
    normed = layer_norm(pooled, (d,), w[f"{head}layernorm.weight"], w[f"{head}layernorm.bias"], 1e-6)
    inner = _tanh_gelu(linear(normed, w[f"{head}mlp.fc1.weight"], w[f"{head}mlp.fc1.bias"]))
    return (pooled + linear(inner, w[f"{head}mlp.fc2.weight"], w[f"{head}mlp.fc2.bias"]))[:, 0]


def slow_text(w: dict[str, Tensor], tokens: Tensor, model: SigLIP) -> Tensor:
    """SigLIP's text embedding (n, D) of tokens (n, T), from the published tensors."""
    t = model.text_config
    x = w["text_model.embeddings.token_embedding.weight"][tokens] + w["text_model.embeddings.position_embedding.weight"]
    x = _tower(w, x, "text_model.", t.num_hidden_layers, t.num_attention_heads)
    weight, bias = w["text_model.final_layer_norm.weight"], w["text_model.final_layer_norm.bias"]
    last = layer_norm(x, (t.hidden_size,), weight, bias, 1e-6)[:, -1]
    return linear(last, w["text_model.head.weight"], w["text_model.head.bias"])
