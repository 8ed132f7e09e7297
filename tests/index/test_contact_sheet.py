from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from buffycoat.cli import app
from buffycoat.index.contact_sheet import SHOWN
from tests.index.cases import picture


def table(folder: Path) -> Path:
    """A table of two classes, one label of none, one image without a label, one that is none, and two for testing."""
    rows = [*((f"{k}.png", "sne" if k < 20 else "LY", "train") for k in range(22)), ("22.png", "", "train")]
    rows += [("23.png", "SNE", "test"), ("24.png", "", "test"), ("<b>.png", "<i>own", "train")]
    for k, (name, _, _) in enumerate(rows):
        picture(folder / name, k, 40)
    (folder / "21.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    (folder / "cells.csv").write_text("image,label,split\n" + "".join(f"{','.join(row)}\n" for row in rows))
    return folder / "cells.csv"


def test_init_writes_a_page_with_images_of_each_class(tmp_path: Path) -> None:
    data = table(tmp_path)
    words = ["init", str(data), "--out", str(tmp_path / "my.yaml"), "--preset", "laptop", "--sheet"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0 and f"written: {tmp_path / 'my.html'}" in shown.output, shown.output
    page = (tmp_path / "my.html").read_text(encoding="utf-8")
    heads = re.findall("<h2>(.*?)</h2>", page)
    assert heads == ["LY, lymphocyte: 2 images", "SNE, segmented neutrophil: 20 images", "&lt;i&gt;own: 1 image",
                     "without a label: 1 image", "for testing: 2 images"]  # fmt: skip
    assert page.count("data:image/jpeg") == 1 + 1 + SHOWN + 1 + 2 and "a Git LFS pointer" in page
    assert "<b>.png" not in page and "split: 24 training, 2 test" in page
    again = CliRunner().invoke(app, words)
    assert again.exit_code != 0, "nothing is overwritten"
    (tmp_path / "my.yaml").unlink()
    assert CliRunner().invoke(app, words).exit_code != 0
    assert CliRunner().invoke(app, [*words, "--force"]).exit_code == 0


def test_without_being_asked_init_writes_no_page(tmp_path: Path) -> None:
    data = table(tmp_path)
    shown = CliRunner().invoke(app, ["init", str(data), "--out", str(tmp_path / "my.yaml"), "--preset", "laptop"])
    assert shown.exit_code == 0 and not (tmp_path / "my.html").exists()
