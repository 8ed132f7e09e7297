"""Pages about drawn cells say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from buffycoat.data.drawn import NOTE, SMEARS, note_on


@pytest.mark.parametrize("data", [SMEARS, f"./{SMEARS}/", Path(SMEARS)])
def test_the_drawn_data_set_is_known_by_its_place(data: str | Path) -> None:
    assert note_on(data) == NOTE


@pytest.mark.parametrize("data", ["smears", f"/elsewhere/{SMEARS}", "", None])
def test_nothing_else_is_drawn(data: str | None) -> None:
    assert note_on(data) == ""
