from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from buffycoat.core.errors import InputError
from buffycoat.data.labels import labelled
from buffycoat.data.tables.index import BOX, IMAGES, LABELS, PIXELS
from buffycoat.index.boxes import cell_keys, names_left_out, on_field
from buffycoat.index.contact_sheet import write_sheet
from buffycoat.index.listed import listed_inside
from buffycoat.index.lists import kind_of, lists_of
from buffycoat.index.make_index import make_index
from buffycoat.index.make_labels import make_labels
from buffycoat.index.overview import describe, look_at
from buffycoat.index.settings import Columns, Index, MakeIndex, MakeLabels
from tests.index import fields
from tests.index.fields import CELLS, WHITE, Cell

CSV = {"image": "filename", "label": "class"}


def rows(data: Path, out: Path, columns: dict[str, str] | None = None, **labels: object) -> pd.DataFrame:
    """Run both steps as the workflow does, with the names that it leaves out."""
    settings = Index.model_validate({"columns": columns or {}, "make_labels": labels})
    told = listed_inside(str(data), settings)
    named = {"others": list(told.others) if told else []}
    make_index(
        data=data, images=out / "images.parquet", pixels=out / "pixels.parquet", columns=settings.columns,
        settings=MakeIndex(), **named,
    )  # fmt: skip
    make_labels(
        data=data, images=out / "images.parquet", pixels=out / "pixels.parquet", labels=out / "labels.parquet",
        classes=out / "classes.parquet", test_labels=out / "test_labels.parquet",
        summary=out / "summary.json", columns=settings.columns,
        settings=settings.make_labels,
    )  # fmt: skip
    return labelled(IMAGES.read(out / "images.parquet"), LABELS.read(out / "labels.parquet"))


FORMS: dict[str, Callable[[Path], Path]] = {
    "voc": fields.voc,
    "yolo": fields.yolo,
    "yolo with classes.txt": lambda folder: fields.yolo(folder, "classes.txt"),
    "coco": fields.coco,
    "table": fields.table,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_box_of_a_white_cell_is_a_row(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "set").mkdir()
    data = FORMS[form](tmp_path / "set")
    columns = CSV if form == "table" else {}
    assert kind_of(str(data)) == ("table" if form == "table" else "boxes")
    caplog.set_level(logging.INFO)
    frame = rows(data, tmp_path / "out", columns, group_pattern="^[^_]+")
    assert len(frame) == WHITE and set(frame["status"]) == {"ok"}
    assert "RBC 2, Platelets 1" in caplog.text
    suffix = {"yolo": "", "yolo with classes.txt": ""}.get(form, ".png")
    assert frame["image_id"].tolist() == [f"a_1{suffix}#1", f"a_1{suffix}#3", f"a_2{suffix}#2", f"b_1{suffix}#1"]
    assert frame["label"].tolist() == ["SNE", "LY", "MO", "LY"], "plain names become codes"
    assert frame["group"].tolist() == ["a", "a", "a", "b"]
    wanted = [cell[1:] for cells in CELLS.values() for cell in cells if cell.label not in ("RBC", "Platelets")]
    assert np.allclose(frame[list(BOX)].to_numpy(), np.array(wanted), atol=1e-6)
    assert [Path(path).stem for path in frame["path"]] == ["a_1", "a_1", "a_2", "b_1"]
    assert frame["sha256"].nunique() == 3 and set(frame["width"]) == {fields.WIDTH}
    lines = describe(look_at(str(data), Index.model_validate({"columns": columns})), MakeLabels(), 280, 128)
    assert f"cells: {WHITE}" in lines and any("left out by name: RBC 2, Platelets 1" in line for line in lines)


def test_a_json_or_yaml_file_names_the_boxes_too(tmp_path: Path) -> None:
    for form in ("coco", "yolo"):
        (tmp_path / form).mkdir()
        FORMS[form](tmp_path / form)
    for file in ("coco/annotations/instances_default.json", "yolo/data.yaml"):
        assert kind_of(str(tmp_path / file)) == "boxes" and lists_of(str(tmp_path / file)) == [str(tmp_path / file)]
        assert len(rows(tmp_path / file, tmp_path / "out")) == WHITE


def test_without_a_slide_the_cells_of_one_field_stay_together(tmp_path: Path) -> None:
    frame = rows(fields.voc(tmp_path), tmp_path / "out")
    assert frame["group"].tolist() == ["a_1.png", "a_1.png", "a_2.png", "b_1.png"]
    with pytest.raises(InputError, match="finds nothing in the names of the fields, for instance a_1.png"):
        rows(tmp_path, tmp_path / "out", group_pattern="^slide(.)")
    with pytest.raises(ValueError, match="not a regular expression"):
        MakeLabels(group_pattern="(")


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Train", "Val", "Testing")])
def test_parts_by_folders(tmp_path: Path, names: tuple[str, str, str]) -> None:
    """As Roboflow exports YOLO and COCO, and as VOC is often divided."""
    for form in ("yolo", "coco", "voc"):
        root = tmp_path / form
        for seed, (part, (name, cells)) in enumerate(zip(names, list(CELLS.items())[:3], strict=True)):
            inner = root / part
            if form == "yolo":
                fields.image(inner / "images" / f"{name}.jpg", seed)
                (inner / "labels").mkdir()
                (inner / "labels" / f"{name}.txt").write_text("0 .5 .5 .3 .3\n1 .2 .2 .2 .2\n")
            else:
                fields.image(inner / f"{name}.png", seed)
            if form == "coco":
                content = fields.coco_content({name: cells})
                (inner / "_annotations.coco.json").write_text(json.dumps(content))
            if form == "voc":
                (inner / f"{name}.xml").write_text(fields.xml(name, cells))
        if form == "yolo":
            places = {"train": names[0], "val": names[1], "test": names[2]}
            text = "".join(f"{key}: ../{name}/images\n" for key, name in places.items())
            (root / "data.yaml").write_text(text + "names: {0: LY, 1: MO}\n")
        assert kind_of(str(root)) == "boxes"
        frame = rows(root, tmp_path / f"out_{form}")
        tested = frame[frame["role"] == "test"]
        assert len(tested) and all(name.startswith(names[2]) for name in tested["image_id"])
        assert len(tested) < len(frame) and frame["split"].notna().all()


def test_a_test_folder_that_is_also_taught_is_no_test(tmp_path: Path) -> None:
    fields.yolo(tmp_path)
    path = tmp_path / "data.yaml"
    path.write_text(path.read_text() + "test: images\n")
    assert set(rows(tmp_path, tmp_path / "out")["role"]) == {"train"}


def test_lists_of_a_voc_folder_divide_it(tmp_path: Path) -> None:
    fields.voc(tmp_path)
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "trainval.txt").write_text("a_1\na_2\n")
    (main / "test.txt").write_text("b_1\nb_2\n")
    assert rows(tmp_path, tmp_path / "out")["role"].tolist() == ["train", "train", "train", "test"]


def test_boxes_that_show_no_cell_are_rows_with_a_status(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = [Cell("LY", -10, 20, 20, 50), Cell("MO", 50, 20, 50, 60), Cell("LY", 200, 10, 230, 40),
             Cell("MO", 60, 30, 40, 50), Cell("MO", 93, 10, 120, 40), Cell("MO", 30, 10, 60, 40)]  # fmt: skip
    fields.image(tmp_path / "f.png", 1)
    (tmp_path / "f.xml").write_text(fields.xml("f", cells))
    (tmp_path / "gone.xml").write_text(fields.xml("gone", cells[:1]))
    fields.image(tmp_path / "other.png", 2)
    (tmp_path / "other.xml").write_text(fields.xml("other", cells[-1:], size=(640, 480)))
    caplog.set_level(logging.INFO)
    frame = rows(tmp_path, tmp_path / "out").set_index("image_id")
    assert frame["status"].to_dict() == {
        "f.png#1": "ok", "f.png#2": "bad_box", "f.png#3": "bad_box", "f.png#4": "bad_box", "f.png#5": "bad_box",
        "f.png#6": "ok", "gone.png#1": "missing", "other.png#1": "bad_box",
    }  # fmt: skip
    assert "1 boxes reach beyond" in caplog.text and frame.loc["f.png#1", "left"] == 0
    assert (
        "no area" in frame.loc["f.png#2", "reason"] and "outside the image of 96x64" in frame.loc["f.png#3", "reason"]
    )
    assert "640x480 pixels, the file has 96x64" in frame.loc["other.png#1", "reason"]
    assert frame.loc["f.png#3", "left"] == 200, "the sides that the annotation has are kept"
    assert (frame["label_status"] == frame["status"]).all()


def test_one_name_for_all_white_cells_ends_before_anything_runs(tmp_path: Path) -> None:
    data = fields.voc(tmp_path)
    for path in (data / "Annotations").iterdir():
        text = path.read_text()
        for name in ("Neutrophil", "Lymphocyte", "Monocyte"):
            text = text.replace(f">{name}<", ">WBC<")
        path.write_text(text)
    with pytest.raises(InputError, match=r"the 4 boxes of white cells to learn from are all called 'WBC'.*two classes"):
        listed_inside(str(data), Index())
    assert "all called 'WBC'" in look_at(str(data), Index()).fault


def test_which_names_are_white_cells() -> None:
    names = ["RBC", "rbcs", "Platelets", "Infected red blood cell", "WBC", "LY", "Lymphocyte", "smudge", "odd"]
    assert names_left_out(names, MakeLabels()) == ["Infected red blood cell", "Platelets", "RBC", "rbcs"]
    listed = MakeLabels(classes=("LY", "RBC"))
    assert names_left_out(names, listed) == ["Infected red blood cell", "Platelets", "odd", "rbcs", "smudge"]
    mapped = MakeLabels(classes=("LY", "other"), label_aliases={"odd": "other"})
    assert "odd" not in names_left_out(names, mapped)


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("image,label,x_min,y_min,x_max,y_max", "10,12,40,42"),
        ("image,label,XMIN,XMAX,YMIN,YMAX", "10,40,12,42"),
        ("image,label,left,top,right,bottom", "10,12,40,42"),
        ("image,label,x1,y1,x2,y2", "10,12,40,42"),
        ("image,label,bbox_x1,bbox_y1,bbox_x2,bbox_y2", "10,12,40,42"),
        ("image,label,x_center,y_center,width,height", "25,27,30,30"),
        ("image,label,cx,cy,w,h", f"{25 / 96},{27 / 64},{30 / 96},{30 / 64}"),
        ("image,label,xmin,ymin,xmax,ymax", f"{10 / 96},{12 / 64},{40 / 96},{42 / 64}"),
        ("image,label,left,top,width,height", "10,12,30,30"),
    ],
)
def test_usual_spellings_of_a_tables_boxes(tmp_path: Path, header: str, values: str) -> None:
    fields.image(tmp_path / "a.png", 1)
    fields.image(tmp_path / "b.png", 2)
    (tmp_path / "boxes.csv").write_text(f"{header}\na.png,LY,{values}\nb.png,MO,{values}\nb.png,platelet,{values}\n")
    frame = rows(tmp_path / "boxes.csv", tmp_path / "out")
    assert frame["image_id"].tolist() == ["a.png#1", "b.png#1"]
    assert np.allclose(frame[list(BOX)].to_numpy(), [10, 12, 40, 42])


def test_sizes_alone_are_no_boxes(tmp_path: Path) -> None:
    fields.image(tmp_path / "a.png", 1)
    fields.image(tmp_path / "b.png", 2)
    (tmp_path / "t.csv").write_text("image,label,width,height\na.png,LY,96,64\nb.png,MO,96,64\n")
    frame = rows(tmp_path / "t.csv", tmp_path / "out")
    assert frame["image_id"].tolist() == ["a.png", "b.png"] and frame["left"].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: (root / "Annotations" / "a_1.xml").write_text("<annotation><object>"),
            r"a_1\.xml: not a readable",
        ),
        (
            lambda root: (root / "Annotations" / "a_2.xml").write_text(
                "<annotation><object><name>LY</name></object></annotation>"
            ),
            r"a_2\.xml: object 1: no bndbox",
        ),
        (
            lambda root: (root / "Annotations" / "a_2.xml").write_text(
                fields.xml("a_2", [Cell("LY", float("nan"), 1, 2, 3)])
            ),
            r"a_2\.xml: object 1: .*finite",
        ),
    ],
)
def test_a_broken_voc_annotation_is_one_line(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    change(fields.voc(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        listed_inside(str(tmp_path), Index())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("9 .5 .5 .2 .2", r"a_1\.txt: line 1: class 9, but .*data\.yaml names"),
        ("0 .5 .5 .2", r"a_1\.txt: line 1: 4 numbers"),
        ("LY .5 .5 .2 .2", r"a_1\.txt: line 1: not all of LY"),
    ],
)
def test_a_broken_yolo_label_is_one_line(tmp_path: Path, line: str, message: str) -> None:
    fields.yolo(tmp_path)
    (tmp_path / "labels" / "a_1.txt").write_text(line + "\n")
    with pytest.raises(InputError, match=message):
        listed_inside(str(tmp_path), Index())


def test_yolo_without_names_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no names of the classes; put data\.yaml"):
        listed_inside(str(fields.yolo(tmp_path, "")), Index())


def test_outlines_and_confidences_of_yolo_are_boxes(tmp_path: Path) -> None:
    fields.yolo(tmp_path)
    (tmp_path / "labels" / "a_1.txt").write_text("1 .1 .2 .5 .2 .5 .7 .1 .7\n0 .5 .5 .2 .2 .93\n")
    frame = rows(tmp_path, tmp_path / "out")
    assert np.allclose(frame.loc[0, list(BOX)].to_numpy(float), [9.6, 12.8, 48, 44.8])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": None}, "no list 'categories'"),
        (
            {"annotations": [{"id": 7, "image_id": 99, "category_id": 5, "bbox": [1, 1, 2, 2]}]},
            "annotation 7: its image_id",
        ),
        (
            {"annotations": [{"id": 7, "image_id": 0, "category_id": 5, "bbox": [1, 1]}]},
            "annotation 7: no bbox of four",
        ),
        ({"images": [{"id": 0}]}, "an entry of 'images' has no id or no file_name"),
    ],
)
def test_a_broken_coco_file_is_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    fields.coco(tmp_path)
    path = tmp_path / "annotations" / "instances_default.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        listed_inside(str(path), Index())


@pytest.mark.parametrize("values", ["10,12,,42", "10,x,40,42"])
def test_a_broken_box_of_a_table_names_its_line(tmp_path: Path, values: str) -> None:
    fields.image(tmp_path / "a.png", 1)
    (tmp_path / "t.csv").write_text(f"image,label,xmin,ymin,xmax,ymax\na.png,LY,1,2,30,40\na.png,MO,{values}\n")
    with pytest.raises(InputError, match=r"t\.csv: line 3: not all of"):
        listed_inside(str(tmp_path / "t.csv"), Index())


def test_a_cell_boxed_twice_or_on_a_copied_field_teaches_once(tmp_path: Path) -> None:
    fields.voc(tmp_path)
    shutil.copy(tmp_path / "JPEGImages" / "b_1.png", tmp_path / "JPEGImages" / "z.png")
    (tmp_path / "Annotations" / "z.xml").write_text(fields.xml("z", [Cell("Lymphocyte", 11, 10, 41, 40)]))
    again = [*CELLS["a_2"], Cell("Lymphocyte", 31, 20, 61, 50)]
    (tmp_path / "Annotations" / "a_2.xml").write_text(fields.xml("a_2", again))
    frame = rows(tmp_path, tmp_path / "out").set_index("image_id")["label_status"]
    assert frame.to_dict() == {
        "a_1.png#1": "ok", "a_1.png#3": "ok", "a_2.png#2": "conflicting_duplicate",
        "a_2.png#3": "conflicting_duplicate", "b_1.png#1": "ok", "z.png#1": "duplicate",
    }  # fmt: skip


def test_whole_files_keep_their_own_keys() -> None:
    frame = pd.DataFrame({"sha256": ["x", "x", None], **dict.fromkeys(BOX, [np.nan] * 3)})
    assert cell_keys(frame).tolist()[:2] == ["x", "x"] and cell_keys(frame).isna().tolist() == [False, False, True]


def test_a_corrected_label_indexes_nothing_anew(tmp_path: Path) -> None:
    data = fields.voc(tmp_path)
    before = listed_inside(str(data), Index())
    assert before is not None
    path = data / "Annotations" / "a_2.xml"
    path.write_text(path.read_text().replace("Monocyte", "Neutrophil"))
    after = listed_inside(str(data), Index())
    assert after is not None
    assert after.rows == before.rows and after.said != before.said and after.others == ("Platelets", "RBC")
    path.write_text(path.read_text().replace("<xmin>30", "<xmin>31"))
    moved = listed_inside(str(data), Index())
    assert moved is not None and moved.rows != before.rows


def test_class_folders_with_annotations_beside_some_images_stay_class_folders(tmp_path: Path) -> None:
    for k, label in enumerate(("LY", "MO")):
        for name in ("a", "b", "c"):
            fields.image(tmp_path / label / f"{name}.png", k)
        (tmp_path / label / "a.xml").write_text(fields.xml("a", [Cell("LY", 1, 2, 30, 40)]))
        (tmp_path / label / "a.txt").write_text("0 .5 .5 .2 .2\n")
    assert kind_of(str(tmp_path)) == "class folders"


def test_fields_may_be_elsewhere(tmp_path: Path) -> None:
    fields.voc(tmp_path / "set")
    (tmp_path / "set" / "JPEGImages").rename(tmp_path / "pictures")
    annotations = tmp_path / "set" / "Annotations"
    root = MakeIndex(root=str(tmp_path / "pictures"))
    make_index(
        data=annotations, images=tmp_path / "i.parquet", pixels=tmp_path / "p.parquet", others=["RBC", "Platelets"],
        columns=Columns(), settings=root,
    )  # fmt: skip
    assert set(IMAGES.read(tmp_path / "i.parquet")["status"]) == {"ok"}


def test_a_box_inside_its_field_is_left_as_it_is() -> None:
    box = np.array([1.5, 2.0, 30.25, 40.0])
    inside, why = on_field(box, None, 96, 64)
    assert inside is not None and inside.tolist() == box.tolist() and why == ""


def painted(path: Path, seed: int, left: int = 0, width: int = 96) -> Path:
    """A field with coarse structure, cut from a wider one: two that overlap share cells."""
    wide = np.random.default_rng(seed).integers(0, 256, (8, 24, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(wide).resize((240, 64), Image.Resampling.BICUBIC))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, left : left + width]).save(path)
    return path


def test_cells_and_not_fields_are_compared_for_copies(tmp_path: Path) -> None:
    """Cells of one field are no copies of each other; a cell that two fields show is, and the page shows the cells."""
    painted(tmp_path / "a.png", 1)
    painted(tmp_path / "b.png", 1, left=24)
    Image.open(tmp_path / "a.png").save(tmp_path / "c.bmp")
    boxes = [("a.png", "LY", 40, 16, 72, 48), ("a.png", "MO", 4, 4, 34, 34), ("b.png", "LY", 16, 16, 48, 48),
             ("b.png", "MO", 60, 30, 90, 60), ("c.bmp", "LY", 40, 16, 72, 48)]  # fmt: skip
    lines = ["image,label,xmin,ymin,xmax,ymax", *(",".join(map(str, box)) for box in boxes)]
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    frame = rows(tmp_path / "boxes.csv", tmp_path / "out").set_index("image_id")
    assert frame["label_status"].tolist() == ["ok", "ok", "ok", "ok", "duplicate"]
    assert frame.loc["c.bmp#1", "label_reason"] == "the same pixels, in another file, as a.png#1"
    copies = PIXELS.read(tmp_path / "out" / "pixels.parquet").set_index("image_id")["near_copy_of"].dropna()
    assert copies.to_dict() == {"b.png#1": "a.png#1"}
    write_sheet(str(tmp_path / "boxes.csv"), Index(), ["a line"], tmp_path / "sheet.html")
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image/jpeg") == 5 and "a.png#2" in page and "LY, lymphocyte: 3 images" in page


def test_fields_of_one_cell_each_need_the_pattern_of_their_slides(tmp_path: Path) -> None:
    for k in range(6):
        painted(tmp_path / f"s{k % 2}_{k}.png", k)
    boxes = [f"s{k % 2}_{k}.png,{'LY' if k % 3 else 'MO'},9,9,40,40" for k in range(6)]
    lines = ["image,label,xmin,ymin,xmax,ymax", *boxes]
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    doubts = look_at(str(tmp_path / "boxes.csv"), Index()).doubts
    assert len(doubts) == 1 and "every group holds one image" in doubts[0] and "group_pattern" in doubts[0]
    slides = Index.model_validate({"make_labels": {"group_pattern": "^[^_]+"}})
    assert look_at(str(tmp_path / "boxes.csv"), slides).doubts == []
