"""How folders of classes are laid out in the wild: what is taken, noted and refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from eyeshot import data
from eyeshot.data.folder import check_folder
from eyeshot.data.tree import (
    PICTURE_SUFFIXES,
    find_files,
    find_judged,
    find_pictures,
    part_of,
    pick_fold,
)
from eyeshot.errors import BadFile, BadValue
from eyeshot.images.whole import FORMATS
from tests.data.test_data_folder import fill, picture


def draw(folder: Path, count: int, start: int = 0) -> None:
    fill(folder, (picture(start + number) for number in range(count)))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("training_set", "train"),
        ("seg_train", "train"),
        ("TEST", "test"),
        ("Testing", "test"),
        ("valid", "val"),
        ("validation", "val"),
        ("trains", None),
        ("bullet_train", None),
        ("testis", None),
    ],
)
def test_names_of_parts(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_pictures_in_sub_folders_belong_to_their_class_and_are_noted(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "a" / "deep", 3)
    draw(tmp_path / "cat", 1, 10)
    draw(tmp_path / "dog", 4, 20)
    tree = find_files(tmp_path, 0)
    assert len(tree.train) + len(tree.test) == 8
    assert any(note.startswith("3 pictures in sub-folders are of the class") for note in tree.notes)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "ppm", "pgm", "pnm", "avif", "jp2", "tga"])
def test_what_pillow_reads_is_read(tmp_path: Path, suffix: str) -> None:
    kind = {"jfif": "JPEG", "jpe": "JPEG", "avif": "AVIF", "jp2": "JPEG2000", "tga": "TGA"}
    for label, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for number in range(2):
            made = Image.fromarray(picture(10 * label + number, 16, 16))
            path = tmp_path / name / f"{number}.{suffix.upper()}"
            made.save(path, format=kind.get(suffix, "PPM"))
    assert len(data.load(tmp_path).train) == 2


def test_every_kind_that_is_looked_for_is_one_that_is_read() -> None:
    Image.init()
    kinds = {Image.EXTENSION.get(suffix, "") for suffix in PICTURE_SUFFIXES}
    assert kinds - {"TIFF"} <= set(FORMATS)


def test_leftovers_of_other_systems_are_passed_over_in_one_note(tmp_path: Path) -> None:
    for name in ("cat", "dog", "__MACOSX"):
        draw(tmp_path / name, 3, ord(name[0]))
        (tmp_path / name / "Thumbs.db").write_bytes(b"x")
        (tmp_path / name / "._000.png").write_bytes(b"x")
    found = data.load(tmp_path)
    assert found.classes == ("cat", "dog")
    (note,) = [note for note in found.notes if "passed over" in note]
    assert note == f"passed over in {tmp_path}: 2 that are no pictures, first Thumbs.db"


def test_a_folder_in_a_folder_of_the_same_name_is_opened(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            draw(tmp_path / "pets" / "pets" / part / name, 2, len(part + name))
    tree = find_files(tmp_path, 0)
    assert tree.classes == ("cat", "dog")
    assert tree.notes[0] == f"{tmp_path} contains only one folder: {tmp_path / 'pets'} was opened"


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    for name in ("bus", "train", "test"):
        draw(tmp_path / name, 5, ord(name[0]))
    assert find_files(tmp_path, 0).classes == ("bus", "test", "train")


def test_a_class_called_train_within_parts(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("bus", "train"):
            draw(tmp_path / part / name, 2, len(part + name))
    assert find_files(tmp_path, 0).classes == ("bus", "train")


def test_parts_without_classes_are_no_classes(tmp_path: Path) -> None:
    for part in ("train", "test1"):
        draw(tmp_path / part, 4)
    (tmp_path / "test1").rename(tmp_path / "test")
    with pytest.raises(BadFile, match="test, train hold pictures and no folders of classes"):
        find_files(tmp_path, 0)


@pytest.mark.parametrize("kind", ["", "cat"])
def test_a_generator_does_not_learn_from_the_test_part(kind: str, tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        draw(tmp_path / part / kind, count, len(part) * 10)
    tree = find_pictures(tmp_path, 0)
    assert {path.relative_to(tmp_path).parts[0] for path, _ in tree.train} == {"train"}
    assert {path.relative_to(tmp_path).parts[0] for path, _ in tree.test} == {"test"}
    assert "the pictures in train are learned from, those in test are set aside" in tree.notes
    draw(tmp_path / "more", 4)
    tree = find_pictures(tmp_path, 0)
    assert (len(tree.train), len(tree.test)) == (12, 3)


def test_an_unlabeled_test_part_is_left_out(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / "train" / name, 5, ord(name[0]))
    draw(tmp_path / "test", 3, 100)
    tree = find_files(tmp_path, 0)
    assert (len(tree.train), len(tree.test)) == (8, 2)
    assert any("holds pictures without folders of classes" in note for note in tree.notes)


def test_parts_within_each_class_are_parts(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / name / "train", 3, ord(name[0]))
        draw(tmp_path / name / "test", 2, 50 + ord(name[0]))
    tree = find_files(tmp_path, 0)
    assert (len(tree.train), len(tree.test)) == (6, 4)
    assert {path.parent.name for path, _ in tree.test} == {"test"}


def test_composed_and_decomposed_names_are_one_class(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "Äpfel")
    decomposed = unicodedata.normalize("NFD", "Äpfel")
    for part, name in (("train", composed), ("test", decomposed)):
        draw(tmp_path / part / name, 2, len(part))
        draw(tmp_path / part / "Birnen", 2, 10 + len(part))
    assert find_files(tmp_path, 0).classes == ("Birnen", composed)


def test_a_table_beside_loose_pictures_is_named(tmp_path: Path) -> None:
    draw(tmp_path, 3)
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(BadFile, match=r"3 pictures but no folders of classes; .*labels.csv"):
        find_files(tmp_path, 0)


def test_a_table_beside_one_folder_of_pictures_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "images", 3)
    (tmp_path / "train.csv").write_text("id,label\n")
    with pytest.raises(BadFile, match=r"one class only, 'images'; .*with train\.csv"):
        find_files(tmp_path, 0)


def test_a_folder_without_readable_pictures_names_what_it_holds(tmp_path: Path) -> None:
    draw(tmp_path / "cat", 2)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1.heic").write_bytes(b"x")
    with pytest.raises(BadFile, match=r"dog: holds no pictures; .*it holds \.heic"):
        find_files(tmp_path, 0)


def test_a_link_to_a_folder_above_is_followed_once(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / name, 2, ord(name[0]))
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat", target_is_directory=True)
    tree = find_files(tmp_path, 0)
    assert len(tree.train) + len(tree.test) == 4


def test_all_pictures_are_judged_and_absent_classes_noted(tmp_path: Path) -> None:
    draw(tmp_path / "dog", 7)
    tree = find_judged(tmp_path, ("cat", "dog"), None)
    assert [label for _, label in tree.test] == [1] * 7
    assert tree.notes == ("no picture of cat is among them: it is not evaluated",)


def test_the_part_that_is_judged_is_said_and_chosen(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 3), ("test", 1)):
        for name in ("cat", "dog"):
            draw(tmp_path / part / name, count, len(part + name))
    counts = {
        part: len(find_judged(tmp_path, ("cat", "dog"), part).test)
        for part in (None, "train", "val", "test", "all")
    }
    assert counts == {None: 2, "train": 8, "val": 6, "test": 2, "all": 16}
    (note,) = find_judged(tmp_path, ("cat", "dog"), None).notes
    assert note == f"judged by the test part of {tmp_path} (train or val or all can be chosen)"
    with pytest.raises(BadValue, match=r"part is 'dev'; .* has test, train, val, or choose all"):
        find_judged(tmp_path, ("cat", "dog"), "dev")
    with pytest.raises(BadValue, match="has no parts; leave it out"):
        find_judged(tmp_path / "val", ("cat", "dog"), "train")


def test_what_the_network_does_not_know_is_refused(tmp_path: Path) -> None:
    for name in ("cat", "emu"):
        draw(tmp_path / name, 1, ord(name[0]))
    with pytest.raises(BadFile, match="cat, emu, and the network knows cat, dog; take out 'emu'"):
        find_judged(tmp_path, ("cat", "dog"), None)


def test_all_damaged_files_are_named_at_once_and_can_be_left_out(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / name, 10, 20 * len(name + name[0]) + ord(name[0]))
    broken = [tmp_path / "cat" / "001.png", tmp_path / "dog" / "004.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadFile) as caught:
        data.load(tmp_path)
    line = str(caught.value)
    assert all(str(path) in line for path in broken)
    assert "(2 problems); copy them again, or leave them out with --skip-damaged" in line
    found = data.load(tmp_path, skip_damaged=True)
    assert len(found.train) + len(found.test) == 18
    (note,) = [note for note in found.notes if "left out" in note]
    assert note == f"2 of 20 cannot be read and were left out: {broken[0]}, {broken[1]}"
    listed = check_folder(tmp_path, size=None, seed=0, progress=lambda *_: None)
    assert [problem.path for problem in listed.problems] == broken


def test_a_folder_of_which_most_is_damaged_is_refused(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / name, 3, ord(name[0]))
    for path in sorted(tmp_path.rglob("*.png"))[1:5]:
        path.write_bytes(b"no picture at all")
    with pytest.raises(BadFile, match=r"4 of 6 files cannot be read, first .*too many"):
        data.load(tmp_path, skip_damaged=True)


def test_one_picture_in_two_classes_is_noted(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / name, 4, 10 * ord(name[0]))
    fill(tmp_path / "cat" / "more", [picture(10 * ord("d"))])
    note = next(note for note in data.load(tmp_path).notes if "in two classes" in note)
    assert note.startswith("1 picture is there twice, in two classes, first ")
    assert "cat/more/000.png" in note
    assert "dog/000.png" in note


def test_classes_of_very_different_size_are_noted_with_what_helps(tmp_path: Path) -> None:
    fill(tmp_path / "many", (picture(number, 4, 4) for number in range(26)))
    fill(tmp_path / "few", (picture(100 + number, 4, 4) for number in range(3)))
    (note,) = (one for one in find_files(tmp_path, 0).notes if "--class-weights" in one)
    assert note.startswith("many has 21 training pictures and few 2:")
    next((tmp_path / "many").iterdir()).rename(tmp_path / "few" / "more.png")
    assert not any("--class-weights" in one for one in find_files(tmp_path, 0).notes)


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_an_archive_is_called_one(tmp_path: Path, task: str) -> None:
    archive = tmp_path / "photos.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(BadFile, match=r"photos\.zip: is an archive; unpack it"):
        data.load_pairs(archive) if task == "segment" else find_files(archive, 0)


@pytest.mark.parametrize("fold", [(0, 5), (6, 5), (1, 1)])
def test_a_fold_that_does_not_exist_is_refused(fold: tuple[int, int]) -> None:
    with pytest.raises(BadValue, match=f"fold {fold[0]} of {fold[1]}"):
        pick_fold(range(10), fold)
