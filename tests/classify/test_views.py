from __future__ import annotations

import pytest
import torch

from buffycoat.classify.predict_fold import view_of


def test_the_eight_views_are_distinct_and_a_group() -> None:
    image = torch.arange(2 * 3 * 5 * 5.0).view(2, 3, 5, 5)
    views = [view_of(image, view) for view in range(8)]
    assert torch.equal(views[0], image)
    assert all(not torch.equal(a, b) for i, a in enumerate(views) for b in views[:i])
    for a in range(8):
        for b in range(8):
            assert sum(torch.equal(view_of(view_of(image, a), b), view) for view in views) == 1
    with pytest.raises(ValueError, match="D4"):
        view_of(image, 8)
