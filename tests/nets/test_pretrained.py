from __future__ import annotations

import numpy as np
import skimage.data
import torch
from torch.nn.functional import interpolate

from buffycoat.nets.pretrained import MEAN, STD, efficientnet_lite0, imagenet_weights


def photograph() -> torch.Tensor:
    """A cat, 224 px, normalised."""
    pixels = torch.from_numpy(np.ascontiguousarray(skimage.data.cat())).permute(2, 0, 1)[None].float() / 255
    small = interpolate(pixels[..., :, 75:375], size=(224, 224), mode="bilinear", antialias=True)
    return (small - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def test_the_weights_know_a_cat() -> None:
    model = efficientnet_lite0(1000).eval()
    with torch.inference_mode():
        best = model(photograph()).softmax(1).topk(3).indices[0].tolist()
    # ImageNet: 281 tabby, 282 tiger cat, 285 Egyptian cat.
    assert set(best) & {281, 282, 285}, best


def test_features_are_pooled_and_a_new_classifier_is_fresh() -> None:
    features = efficientnet_lite0(0).eval()
    with torch.inference_mode():
        assert features(photograph()).shape == (1, 1280)
    torch.manual_seed(0)
    assert efficientnet_lite0(7)(photograph()).shape == (1, 7)


def test_every_tensor_is_the_packages() -> None:
    packaged = list(imagenet_weights().values())
    loaded = list(efficientnet_lite0(1000).state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(packaged, loaded, strict=True))
