from __future__ import annotations

from pathlib import Path

import pytest

from buffycoat.core.environment import cached_folder, whole_folder
from buffycoat.core.errors import InputError

FILES = ("a.json", "b.safetensors")


def test_a_folder_is_whole_or_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match=r"^embed\.x: .*: no b\.safetensors; a folder in timm's hub layout holds a"):
        whole_folder(tmp_path, FILES, "embed.x", "timm's")
    (tmp_path / "b.safetensors").write_bytes(b"")
    assert whole_folder(tmp_path, FILES, "embed.x", "timm's") == tmp_path


def test_a_hub_id_comes_from_the_cache_or_says_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match=r"`hf download o/n a\.json b\.safetensors --revision v2`.*set encoder: X:F"
    ) as caught:
        cached_folder("o/n@v2", FILES, "embed.x", "encoder: X:F")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="embed.x: hf-hub:o/n/m"):
        cached_folder("o/n/m", FILES, "embed.x", "encoder: X:F")
    snapshot = tmp_path / "models--o--n" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--o--n" / "refs").mkdir()
    (tmp_path / "models--o--n" / "refs" / "main").write_text("abc")
    for file in FILES:
        (snapshot / file).write_text("x")
    assert cached_folder("o/n", FILES, "embed.x", "encoder: X:F") == snapshot
