"""A SigLIP checkpoint's tensors under open_clip's names: from the naming of `transformers`, key for key.

open_clip holds the image tower as timm's vision transformer (queries, keys and values in one matrix) and the text tower
as its own transformer; the numbers are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from buffycoat.errors import InputError

IMAGE, TEXT = "vision_model.", "text_model."
"""What the names of the two towers begin with in a published checkpoint."""
COMPUTED = ("embeddings.position_ids",)
"""Tensors of older checkpoints that hold 0, 1, 2, ... and are no weights."""

Tensors = dict[str, Tensor]


def _renamed(weights: Tensors, pairs: dict[str, str], theirs: str, ours: str) -> Tensors:
    """Take weight and bias of each pair out of `weights`; return them under our names."""
    return {
        f"{ours}{name}.{kind}": weights.pop(f"{theirs}{published}.{kind}")
        for published, name in pairs.items()
        for kind in ("weight", "bias")
    }


def _joint(weights: Tensors, theirs: str) -> tuple[Tensor, Tensor]:
    """Take queries, keys and values out of `weights`; return the weight (3D, D) and bias (3D,) of all three."""
    parts = [[weights.pop(f"{theirs}self_attn.{name}_proj.{kind}") for name in "qkv"] for kind in ("weight", "bias")]
    return torch.cat(parts[0]), torch.cat(parts[1])


def _image_layer(weights: Tensors, number: int) -> Tensors:
    theirs, ours = f"encoder.layers.{number}.", f"visual.trunk.blocks.{number}."
    weight, bias = _joint(weights, theirs)
    pairs = {
        "self_attn.out_proj": "attn.proj", "layer_norm1": "norm1", "layer_norm2": "norm2", "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }  # fmt: skip
    return {f"{ours}attn.qkv.weight": weight, f"{ours}attn.qkv.bias": bias, **_renamed(weights, pairs, theirs, ours)}


def _pool(weights: Tensors) -> Tensors:
    ours = "visual.trunk.attn_pool."
    renamed = {f"{ours}latent": weights.pop("head.probe")}
    for kind in ("weight", "bias"):
        joint = weights.pop(f"head.attention.in_proj_{kind}")
        width = joint.shape[0] // 3
        renamed[f"{ours}q.{kind}"], renamed[f"{ours}kv.{kind}"] = joint[:width], joint[width:]
    pairs = {"attention.out_proj": "proj", "layernorm": "norm", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    return renamed | _renamed(weights, pairs, "head.", ours)


def _image_tower(weights: Tensors, depth: int) -> Tensors:
    embeddings = {"embeddings.patch_embedding": "patch_embed.proj", "post_layernorm": "norm"}
    renamed = _renamed(weights, embeddings, "", "visual.trunk.")
    renamed["visual.trunk.pos_embed"] = weights.pop("embeddings.position_embedding.weight")[None]
    for number in range(depth):
        renamed |= _image_layer(weights, number)
    return renamed | _pool(weights)


def _text_layer(weights: Tensors, number: int) -> Tensors:
    theirs, ours = f"encoder.layers.{number}.", f"text.transformer.resblocks.{number}."
    weight, bias = _joint(weights, theirs)
    pairs = {
        "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }  # fmt: skip
    joint = {f"{ours}attn.in_proj_weight": weight, f"{ours}attn.in_proj_bias": bias}
    return joint | _renamed(weights, pairs, theirs, ours)


def _text_tower(weights: Tensors, depth: int) -> Tensors:
    renamed = {
        "text.token_embedding.weight": weights.pop("embeddings.token_embedding.weight"),
        "text.positional_embedding": weights.pop("embeddings.position_embedding.weight"),
        **_renamed(weights, {"final_layer_norm": "ln_final", "head": "text_projection"}, "", "text."),
    }
    for number in range(depth):
        renamed |= _text_layer(weights, number)
    return renamed


def convert(published: Tensors, image_depth: int, text_depth: int) -> Tensors:
    """Return the published tensors under open_clip's names, float32 or wider.

    `image_depth` and `text_depth` count the layers of the towers. Raises InputError where a tensor is missing or left
    over: nothing of the checkpoint is ignored.
    """
    rest = {name: tensor if tensor.dtype == torch.float64 else tensor.float() for name, tensor in published.items()}
    image = {name.removeprefix(IMAGE): rest.pop(name) for name in list(rest) if name.startswith(IMAGE)}
    text = {name.removeprefix(TEXT): rest.pop(name) for name in list(rest) if name.startswith(TEXT)}
    for tower in (image, text):
        for name in COMPUTED:
            tower.pop(name, None)
    try:
        # Published with one element each, held by open_clip as bare numbers.
        renamed = {name: rest.pop(name).reshape(()) for name in ("logit_scale", "logit_bias")}
        renamed |= _image_tower(image, image_depth)
        renamed |= _text_tower(text, text_depth)
    except KeyError as missing:
        raise InputError(f"SigLIP checkpoint: the tensor {missing} is missing: it is not all of a SigLIP") from None
    except RuntimeError as problem:
        raise InputError(f"SigLIP checkpoint: a tensor has an unexpected shape: {problem}") from None
    left = sorted([*rest, *(f"{IMAGE}{name}" for name in image), *(f"{TEXT}{name}" for name in text)])
    if left:
        raise InputError(f"SigLIP checkpoint: unknown tensors {left[:5]} ({len(left)} in all)")
    return renamed
