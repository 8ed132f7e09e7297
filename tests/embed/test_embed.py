from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from buffycoat.embed import train_head as module
from buffycoat.embed.embed_cells import embed_cells, prepare, unit
from buffycoat.embed.encoders import Encoder, load_encoder
from buffycoat.embed.head import Head, focal, head_loss, supervised_contrast
from buffycoat.embed.settings import EmbedCells, TrainHead
from buffycoat.embed.siglip import convert, load_published, vision_network
from buffycoat.embed.train_head import chances, train_head
from buffycoat.errors import InputError
from buffycoat.images import CYTOPLASM, ShardWriter
from buffycoat.tables.cells import CELLS
from buffycoat.tables.classes import CLASSES
from buffycoat.tables.embeddings import EMBEDDINGS
from buffycoat.tables.folds import FOLDS
from buffycoat.tables.head_history import HEAD_HISTORY
from buffycoat.tables.images import IMAGES
from buffycoat.tables.probabilities import PROBABILITIES
from buffycoat.training import Checkpoint
from buffycoat.weights import read_weights, write_weights

SMALL = TrainHead(hidden=(16,), projection=8, epochs=6, batch=16, learning_rate=5e-3)


# --- losses -----------------------------------------------------------------------------------------------------------


def slow_contrast(z: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        if not positives:
            continue
        below = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in others)
        losses.append(-sum(float(z[i] @ z[p]) / temperature - math.log(below) for p in positives) / len(positives))
    return sum(losses) / len(losses)


def test_the_contrastive_loss_is_its_definition() -> None:
    torch.manual_seed(0)
    z = unit(torch.randn(12, 5))
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 0, 1, 1, 0, 1, 3])
    assert supervised_contrast(z, labels, 0.5).item() == pytest.approx(slow_contrast(z, labels, 0.5), rel=1e-5)


def test_a_batch_without_positives_costs_nothing_but_keeps_its_gradient() -> None:
    z = unit(torch.randn(3, 4)).requires_grad_()
    loss = supervised_contrast(z, torch.tensor([0, 1, 2]), 0.07)
    assert loss.item() == 0
    loss.backward()  # type: ignore[no-untyped-call]


def test_tight_classes_cost_less_than_mixed_ones() -> None:
    tight = unit(torch.tensor([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0], [0.05, 1.0]]))
    labels = torch.tensor([0, 0, 1, 1])
    assert supervised_contrast(tight, labels, 0.07) < supervised_contrast(tight, torch.tensor([0, 1, 0, 1]), 0.07)


def test_focal_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])
    assert focal(logits, torch.tensor([0]), 2.0).item() == pytest.approx(-(0.25**2) * math.log(0.75))


def test_the_head_mixes_both_losses() -> None:
    torch.manual_seed(0)
    head = Head(6, 3, SMALL).eval()
    z, logits = head(torch.randn(8, 6))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    assert torch.allclose(z.norm(dim=1), torch.ones(8))
    expected = 0.3 * supervised_contrast(z, labels, 0.07) + 0.7 * focal(logits, labels, 2.0)
    assert torch.allclose(head_loss(z, logits, labels, SMALL), expected)


def test_draws_follow_the_sampler_and_the_multipliers() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    for sampler, share in (("none", 0.1), ("sqrt", 0.25), ("balanced", 0.5)):
        p = chances(labels, ["SNE", "PC"], TrainHead(sampler=sampler))  # type: ignore[arg-type]
        assert p[labels == 1].sum() == pytest.approx(share) and p.sum() == pytest.approx(1)
    p = chances(labels, ["SNE", "PC"], TrainHead(sampler="none", multipliers={"PC": 9.0}))
    assert p[labels == 1].sum() == pytest.approx(0.5)


# --- encoders ---------------------------------------------------------------------------------------------------------


def test_the_embedded_encoder_needs_nothing() -> None:
    encoder = load_encoder(EmbedCells(encoder="efficientnet_lite0", size_px=64))
    with torch.inference_mode():
        assert encoder.network(torch.rand(2, 3, 64, 64)).shape == (2, 1280)
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "resnet"}, "'resnet' is unknown"),
        ({"encoder": "timm"}, "'timm' is unknown"),
        ({"encoder": "efficientnet_lite0:x"}, "is unknown"),
        ({"encoder": "medsiglip"}, "weights: not set.*google/medsiglip-448"),
        ({"encoder": "medsiglip", "weights": "nowhere"}, "nowhere/model.safetensors: no such file.*gated"),
        ({"encoder": "timm:vit_tiny_patch16_224"}, "needs a local safetensors file"),
        ({"encoder": "open_clip:ViT-B-32"}, "needs local weights"),
    ],
)
def test_an_encoder_that_is_not_there_is_one_clear_line(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(EmbedCells.model_validate(settings))
    assert "\n" not in str(caught.value)


def test_a_timm_encoder_from_a_local_file(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    donor = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32)
    write_weights(donor.state_dict(), {}, tmp_path / "w.safetensors")
    settings = EmbedCells(encoder="timm:vit_tiny_patch16_224", weights=str(tmp_path / "w.safetensors"), size_px=32)
    encoder = load_encoder(settings)
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(encoder.network(x), donor.eval().forward_head(donor.forward_features(x), pre_logits=True))


def test_an_open_clip_encoder_from_a_local_folder(tmp_path: Path) -> None:
    import open_clip

    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    small: dict[str, object] = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    open_clip.add_model_config(_config(tmp_path / "configs", small))
    donor = open_clip.create_model("tiny-test").eval()
    folder = tmp_path / "local"
    folder.mkdir()
    content = {"model_cfg": small, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    write_weights(donor.state_dict(), {}, folder / "open_clip_model.safetensors")
    encoder = load_encoder(EmbedCells(encoder=f"open_clip:{folder}", size_px=32))
    assert encoder.mean == (0.4, 0.5, 0.6) and encoder.std == (0.2, 0.2, 0.3)
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(encoder.network(x), donor.encode_image(x), atol=1e-6)


def _config(folder: Path, content: dict[str, object]) -> Path:
    folder.mkdir()
    (folder / "tiny-test.json").write_text(json.dumps(content))
    return folder


def published_siglip(width: int, mlp: int, depth: int, tokens: int, patch: int) -> dict[str, torch.Tensor]:
    """A SigLIP checkpoint with the published names and random values."""
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (width, 3, patch, patch), "embeddings.patch_embedding.bias": (width,),
        "embeddings.position_embedding.weight": (tokens, width), "post_layernorm.weight": (width,),
        "post_layernorm.bias": (width,), "head.probe": (1, 1, width),
        "head.attention.in_proj_weight": (3 * width, width),
        "head.attention.in_proj_bias": (3 * width,), "head.attention.out_proj.weight": (width, width),
        "head.attention.out_proj.bias": (width,), "head.layernorm.weight": (width,), "head.layernorm.bias": (width,),
        "head.mlp.fc1.weight": (mlp, width), "head.mlp.fc1.bias": (mlp,), "head.mlp.fc2.weight": (width, mlp),
        "head.mlp.fc2.bias": (width,),
    }  # fmt: skip
    for k in range(depth):
        layer = f"encoder.layers.{k}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= {f"{layer}self_attn.{name}.weight": (width, width), f"{layer}self_attn.{name}.bias": (width,)}
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}{name}.weight": (width,), f"{layer}{name}.bias": (width,)}
        shapes |= {f"{layer}mlp.fc1.weight": (mlp, width), f"{layer}mlp.fc1.bias": (mlp,)}
        shapes |= {f"{layer}mlp.fc2.weight": (width, mlp), f"{layer}mlp.fc2.bias": (width,)}
    return {f"vision_model.{name}": torch.randn(shape) * 0.1 for name, shape in shapes.items()}


def test_every_published_siglip_tensor_has_its_place() -> None:
    network = vision_network(56, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2.0)
    published = {**published_siglip(32, 64, 2, 16, 14), "text_model.x": torch.zeros(1), "logit_scale": torch.zeros(1)}
    load_published(network, published)
    assert torch.equal(network.attn_pool.latent, published["vision_model.head.probe"])  # type: ignore[union-attr]
    with torch.inference_mode():
        assert network.eval()(torch.rand(1, 3, 56, 56)).shape == (1, 32)


def test_a_siglip_checkpoint_must_fit_key_for_key() -> None:
    whole = published_siglip(32, 64, 2, 16, 14)
    short = dict(whole)
    short.pop("vision_model.encoder.layers.1.mlp.fc2.bias")
    with pytest.raises(InputError, match=r"encoder\.layers\.1\.mlp\.fc2\.bias.*missing"):
        convert(short, 2)
    with pytest.raises(InputError, match="unknown tensors"):
        convert({**whole, "vision_model.stray": torch.zeros(1)}, 2)
    with pytest.raises(InputError, match="does not fit the network"):
        load_published(vision_network(70, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2.0), whole)


@pytest.mark.parametrize("size", [56, 70])
def test_siglip_embeds_as_the_published_code_does(size: int) -> None:
    transformers = pytest.importorskip("transformers", reason="parity needs transformers, which is not a dependency")
    config = transformers.SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=172,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=size,
        patch_size=14,
    )
    torch.manual_seed(0)
    theirs = transformers.SiglipVisionModel(config).double().eval()
    ours = vision_network(size, embed_dim=64, depth=3, num_heads=4, mlp_ratio=172 / 64).double().eval()
    load_published(ours, theirs.state_dict())
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.inference_mode():
        assert (theirs(x).pooler_output - ours(x)).abs().max() < 1e-10


# --- the steps --------------------------------------------------------------------------------------------------------


def test_preparation_squashes_and_normalises() -> None:
    encoder = Encoder(torch.nn.Identity(), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), antialias=False)
    white = np.full((1, 10, 10, 3), 255, np.uint8)
    assert torch.allclose(prepare(white, encoder, 16), torch.ones(1, 3, 16, 16))
    ramp = np.repeat(np.arange(0, 250, 25, dtype=np.uint8)[None, None, :, None], 3, axis=3).repeat(10, axis=1)
    back = (prepare(ramp, encoder, 10) * 0.5 + 0.5) * 255
    assert torch.allclose(back[0, 0, 0], torch.arange(0, 250, 25).float(), atol=1e-4)


@pytest.fixture()
def dataset(tmp_path: Path) -> Path:
    """40 embeddings of three classes, 36 of them training rows in three folds."""
    rng = np.random.default_rng(0)
    labels = (["BA"] * 18 + ["LY"] * 17 + ["PC"]) + [None] * 4
    centres = {"BA": [1, 0, 0, 0], "LY": [0, 1, 0, 0], "PC": [0, 0, 1, 0], None: [1, 0, 0, 0]}
    vectors = np.array([centres[label] for label in labels]) + rng.normal(0, 0.2, (40, 4))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"{k}" for k in range(40)]
    images = pd.DataFrame({"image_id": ids, "label": labels, "role": ["train"] * 36 + ["test"] * 4})
    images = images.assign(path="x", split=None, group=None, width=8, height=8, sha256=None, status="ok", reason="")
    IMAGES.write(images, tmp_path / "images.parquet")
    FOLDS.write(pd.DataFrame({"image_id": ids[:36], "fold": [k % 3 for k in range(36)]}), tmp_path / "folds.parquet")
    classes = pd.DataFrame({"code": ["BA", "LY", "PC"], "name": ["a", "b", "c"], "position": [0, 1, 2]})
    CLASSES.write(classes.assign(images=1, groups=None), tmp_path / "classes.parquet")
    EMBEDDINGS.write(pd.DataFrame({"image_id": ids, "embedding": list(vectors)}), tmp_path / "embeddings.parquet")
    return tmp_path


def run_head(folder: Path, name: str, settings: TrainHead = SMALL) -> pd.DataFrame:
    inputs = {key: folder / f"{key}.parquet" for key in ("images", "classes", "folds", "embeddings")}
    out = folder / name
    train_head(
        **inputs, heads=out / "heads.safetensors", probabilities=out / "p.parquet", history=out / "h.parquet", seed=1,
        settings=settings,
    )  # fmt: skip
    return PROBABILITIES.read(out / "p.parquet")


def test_the_heads_are_cross_fitted(dataset: Path) -> None:
    table = run_head(dataset, "a", SMALL.model_copy(update={"epochs": 60}))
    assert table["source"].tolist() == ["out_of_fold"] * 36 + ["fold_mean"] * 4
    assert np.allclose(table[["BA", "LY", "PC"]].sum(axis=1), 1)
    assert (table["BA"].iloc[:18] > table["LY"].iloc[:18]).mean() > 0.75
    assert (table["BA"].iloc[36:] > 0.5).all()
    # Another label on a held-out row moves that row's fold not at all.
    images = IMAGES.read(dataset / "images.parquet")
    images.loc[0, "label"] = "LY"
    IMAGES.write(images, dataset / "images.parquet")
    again = run_head(dataset, "b", SMALL.model_copy(update={"epochs": 60}))
    fold_0 = [k for k in range(36) if k % 3 == 0]
    assert np.array_equal(again[["BA", "LY"]].iloc[fold_0], table[["BA", "LY"]].iloc[fold_0])
    assert not np.array_equal(again["BA"].iloc[1:3], table["BA"].iloc[1:3])


def test_an_interrupted_run_ends_with_the_same_bytes(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_head(dataset, "straight")
    save = Checkpoint.save

    def save_and_die(self: Checkpoint, state: dict[str, object]) -> None:
        save(self, state)
        if len(state["heads"]) == 2:  # type: ignore[arg-type]
            raise KeyboardInterrupt

    monkeypatch.setattr(module.Checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_head(dataset, "halted")
    monkeypatch.setattr(module.Checkpoint, "save", save)
    run_head(dataset, "halted")
    files = [dataset / name / "heads.safetensors" for name in ("straight", "halted")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(HEAD_HISTORY.read(dataset / "halted" / "h.parquet")) == 3 * SMALL.epochs
    assert sorted({name.split(".")[0] for name in read_weights(files[0])[0]}) == ["fold_0", "fold_1", "fold_2"]


def test_without_cross_fitting_nothing_claims_to_be_out_of_fold(dataset: Path) -> None:
    table = run_head(dataset, "a", SMALL.model_copy(update={"cross_fit": False}))
    assert table["source"].tolist() == ["in_sample"] * 36 + ["fold_mean"] * 4


def test_embeddings_are_unit_vectors_and_rows_are_kept(tmp_path: Path) -> None:
    rows = []
    with ShardWriter(tmp_path / "shards", 40) as writer:
        for k in range(5):
            crop = np.random.default_rng(k).integers(0, 256, (40, 40, 3), np.uint8)
            shard, row, crc = writer.add(f"{k}", crop, np.full((40, 40), CYTOPLASM, np.uint8))
            rows.append({"image_id": f"{k}", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    frame = pd.DataFrame(rows).assign(
        restored=False, noise_before=1.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan, reason="clean"
    )
    CELLS.write(frame, tmp_path / "cells.parquet")
    tables = []
    for batch in (5, 2):
        settings = EmbedCells(encoder="efficientnet_lite0", size_px=64, batch=batch, views=2)
        embed_cells(cells=tmp_path / "cells.parquet", embeddings=tmp_path / "e.parquet", settings=settings)
        tables.append(np.stack(EMBEDDINGS.read(tmp_path / "e.parquet")["embedding"].to_list()))
    assert tables[0].shape == (5, 1280) and np.allclose(np.linalg.norm(tables[0], axis=1), 1, atol=1e-5)
    assert np.allclose(*tables, atol=1e-5), "a vector does not depend on its batch"
