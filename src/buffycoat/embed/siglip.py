"""MedSigLIP through open_clip: its configuration, and its published checkpoint loaded key for key.

SigLIP (doi 10.1109/ICCV51070.2023.01100), SO400M: 448 px, patch 14, 27 layers, attention pool. No configuration of
open_clip has it. The activation is the tanh form of GELU: with timm's own default the embeddings are off by 3e-4.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

from buffycoat.core.errors import InputError
from buffycoat.nets.weights import read_weights

Tensors = dict[str, Tensor]

IMAGE, TEXT = "vision_model.", "text_model."
"""What the names of the two towers begin with in a published checkpoint."""
COMPUTED = ("embeddings.position_ids",)
"""Tensors of older checkpoints that hold 0, 1, 2, ... and are no weights."""
TRUNK = "vit_so400m_patch14_siglip_384"
"""timm's image tower with an attention pool; every size of it is set anew."""
WHERE = (
    "MedSigLIP is gated: log in at huggingface.co/google/medsiglip-448, accept the Health AI Developer Foundations"
    " terms, fetch it by `hf download google/medsiglip-448 --local-dir weights/medsiglip-448` and set"
    " embed.embed_cells.weights: weights/medsiglip-448; or set embed.embed_cells.encoder: efficientnet_lite0"
)
"""What to do where the weights are missing."""
_SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}


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


class Tower(BaseModel):
    """What both towers of a published `config.json` say; left out there is what `transformers` takes by default."""

    hidden_size: int = Field(default=768, ge=1)
    intermediate_size: int = Field(default=3072, ge=1)
    num_hidden_layers: int = Field(default=12, ge=1)
    num_attention_heads: int = Field(default=12, ge=1)
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6

    @property
    def mlp_ratio(self) -> float:
        """Hidden width of the two-layer networks, as timm and open_clip ask for it: they cut the product off."""
        return (self.intermediate_size + 0.5) / self.hidden_size


class ImageTower(Tower):
    """The image tower."""

    image_size: int = Field(default=224, ge=1)
    patch_size: int = Field(default=16, ge=1)


class TextTower(Tower):
    """The text tower."""

    vocab_size: int = Field(default=32000, ge=1)
    max_position_embeddings: int = Field(default=64, ge=1)
    projection_size: int | None = None


class SigLIP(BaseModel):
    """A published `config.json`, of which the rest does not matter here."""

    model_type: str = "siglip"
    vision_config: ImageTower = ImageTower()
    text_config: TextTower = TextTower()

    def checked(self) -> SigLIP:
        """Return itself; raises InputError on what this module does not build."""
        image, text = self.vision_config, self.text_config
        acts = {image.hidden_act, text.hidden_act}
        if self.model_type != "siglip" or acts != {"gelu_pytorch_tanh"}:
            raise InputError(f"SigLIP checkpoint: config.json is of a {self.model_type} with activation {sorted(acts)}")
        if {image.layer_norm_eps, text.layer_norm_eps} != {1e-6}:
            raise InputError("SigLIP checkpoint: config.json: layer_norm_eps is not 1e-6")
        if (text.projection_size or text.hidden_size) != image.hidden_size:
            raise InputError("SigLIP checkpoint: config.json: the two towers end in different widths")
        return self


MEDSIGLIP = SigLIP(
    vision_config=ImageTower(**_SO400M, image_size=448, patch_size=14),
    text_config=TextTower(**_SO400M),
)
"""The sizes of google/medsiglip-448."""


def model_config(sizes: SigLIP) -> dict[str, Any]:
    """Return open_clip's `model_cfg` of a SigLIP, as its configuration files hold it (without `custom_text`)."""
    image, text = sizes.vision_config, sizes.text_config
    return {
        "embed_dim": image.hidden_size,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": image.image_size, "timm_model_name": TRUNK, "timm_model_pretrained": False,
            "timm_pool": "map", "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings, "vocab_size": text.vocab_size, "width": text.hidden_size,
            "heads": text.num_attention_heads, "layers": text.num_hidden_layers, "mlp_ratio": text.mlp_ratio,
            "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    }  # fmt: skip


def untrained(sizes: SigLIP) -> nn.Module:
    """Return open_clip's model of these sizes without storage (on PyTorch's meta device), to be given its tensors."""
    import timm
    from open_clip import CustomTextCLIP

    image = sizes.vision_config
    with torch.device("meta"):
        model: nn.Module = CustomTextCLIP(**model_config(sizes))
        # open_clip tells timm neither the image size nor the activation, so it is asked for the tower itself.
        model.visual.trunk = timm.create_model(  # type: ignore[union-attr]
            TRUNK, pretrained=False, num_classes=0, global_pool="map", act_layer="gelu_tanh", img_size=image.image_size,
            patch_size=image.patch_size, embed_dim=image.hidden_size, depth=image.num_hidden_layers,
            num_heads=image.num_attention_heads, mlp_ratio=image.mlp_ratio,
        )  # fmt: skip
    return model.eval()


def load_published(sizes: SigLIP, published: Tensors) -> nn.Module:
    """Return open_clip's model with the tensors of a published checkpoint.

    Raises InputError on every name and shape that does not fit.
    """
    model = untrained(sizes)
    converted = convert(published, sizes.vision_config.num_hidden_layers, sizes.text_config.num_hidden_layers)
    own = model.state_dict()
    wrong = sorted(set(own) ^ set(converted)) or [
        f"{name} {tuple(converted[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if own[name].shape != converted[name].shape
    ]
    if wrong:
        raise InputError(f"SigLIP checkpoint: does not fit its config.json at {wrong[:5]} ({len(wrong)} tensors)")
    model.load_state_dict(converted, strict=True, assign=True)
    return model


def _tensors(folder: Path) -> Tensors:
    """Return the tensors of model.safetensors, or of the parts that model.safetensors.index.json names."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return read_weights(folder / "model.safetensors")[0]
    try:
        places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        parts = sorted(set(places.values()))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{index}: damaged, fetch it again") from None
    if stray := [part for part in parts if Path(part).name != part]:
        raise InputError(f"{index}: names {stray[0]!r}, which is not a file of its own folder")
    tensors: Tensors = {}
    for part in parts:
        tensors |= read_weights(folder / part)[0]
    if set(places) != set(tensors):
        odd = sorted(set(places) ^ set(tensors))
        raise InputError(f"{index}: does not list what its files hold: {odd[:5]} ({len(odd)} tensors)")
    return tensors


def medsiglip(folder: Path | None, size_px: int) -> tuple[nn.Module, SigLIP]:
    """Return open_clip's model, and its sizes, from the folder of the published checkpoint.

    Raises InputError that says what to fetch where the folder is not set or not whole, and where `size_px` is not the
    size that the checkpoint is for.
    """
    if folder is None:
        raise InputError(f"embed.embed_cells.weights: not set, but the encoder is medsiglip; {WHERE}")
    whole = [folder / "model.safetensors", folder / "model.safetensors.index.json"]
    if not (folder / "config.json").is_file() or not any(file.is_file() for file in whole):
        raise InputError(f"embed.embed_cells.weights: {folder}: no config.json and model.safetensors in it; {WHERE}")
    try:
        sizes = SigLIP.model_validate_json((folder / "config.json").read_text(encoding="utf-8")).checked()
    except ValidationError as problem:
        told = problem.errors(include_url=False)[0]
        raise InputError(f"{folder / 'config.json'}: {'.'.join(map(str, told['loc']))} {told['msg']}") from None
    if size_px != sizes.vision_config.image_size:
        raise InputError(
            f"embed.embed_cells.size_px: the checkpoint {folder} is for {sizes.vision_config.image_size} pixels, not"
            f" {size_px}: set size_px: {sizes.vision_config.image_size}"
        )
    return load_published(sizes, _tensors(folder)), sizes
