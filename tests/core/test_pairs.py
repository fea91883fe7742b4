from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.pairs import pair_folders, read_label_images, score_folders


def blocks(shift: int = 0) -> np.ndarray:
    """Sixteen squares of 7 x 8 px."""
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((8, 8), int)).astype(np.uint16)
    labels[::8] = 0
    return np.roll(labels, shift, axis=1)


def write(path: Path, labels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, labels)
    elif path.suffix == ".npy":
        np.save(path, labels)
    else:
        iio.imwrite(path, labels)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "true", tmp_path / "pred"


@pytest.mark.parametrize(
    ("true_name", "pred_name"),
    [
        ("a.png", "a.png"),
        ("a.png", "a_labels.tif"),
        ("a_masks.tif", "a_labels.tif"),
        ("a_cp_masks.png", "a.tif"),
        ("a.ome.tif", "a_labels.tif"),
        ("man_seg007.tif", "mask007.tif"),
        ("Zelle ü.png", "Zelle ü_labels.tif"),
        ("plate/a.png", "plate/a_labels.tif"),
        ("a.npy", "a.tif"),
    ],
)
def test_names_that_belong_together_are_paired(folders, true_name, pred_name):
    true, pred = folders
    expected = write(true / true_name, blocks()), write(pred / pred_name, blocks())
    (pair,) = pair_folders(true, pred)
    assert (pair.true, pair.pred) == expected


def test_predictions_without_reference_and_pictures_beside_them_are_left_out(folders):
    true, pred = folders
    write(true / "a.png", blocks())
    for name in ("a_labels.tif", "b_labels.tif", "a_overlay.png"):
        write(pred / name, blocks())
    assert [pair.name for pair in pair_folders(true, pred)] == ["a"]


def test_of_an_image_beside_its_labels_the_labels_are_taken(folders):
    true, pred = folders
    write(true / "a.tif", blocks() * 7)
    write(true / "a_masks.png", blocks())
    write(pred / "a.tif", blocks())
    (pair,) = pair_folders(true, pred)
    assert pair.true.name == "a_masks.png"


def test_two_files_form_a_pair_whatever_their_names(folders):
    true, pred = write(folders[0] / "x.png", blocks()), write(folders[1] / "y.tif", blocks())
    (pair,) = pair_folders(true, pred)
    assert (pair.true, pair.pred) == (true, pred)


def test_one_reference_file_finds_its_prediction_in_a_folder(folders):
    true = write(folders[0] / "b.png", blocks())
    for name in "abc":
        write(folders[1] / f"{name}_labels.tif", blocks())
    (pair,) = pair_folders(true, folders[1])
    assert pair.pred.name == "b_labels.tif"


def test_missing_predictions_are_counted_and_named(folders):
    true, pred = folders
    for name in "abcdef":
        write(true / f"{name}.png", blocks())
    write(pred / "c.png", blocks())
    with pytest.raises(FileNotFoundError, match=r"5 of 6 reference .*: a, b, d and 2 more"):
        pair_folders(true, pred)


def test_folders_that_are_absent_empty_or_the_same_are_named(folders):
    true, pred = folders
    with pytest.raises(FileNotFoundError, match="true; give the folder of the reference"):
        pair_folders(true, pred)
    write(true / "a.png", blocks())
    with pytest.raises(FileNotFoundError, match="pred; give the folder of the predicted"):
        pair_folders(true, pred)
    pred.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no image in .*pred"):
        pair_folders(true, pred)
    with pytest.raises(ValueError, match=r"both .*true"):
        pair_folders(true, true)


def test_two_files_of_one_name_are_refused(folders):
    true, pred = folders
    write(true / "a.png", blocks())
    write(true / "a.tif", blocks())
    write(pred / "a.tif", blocks())
    with pytest.raises(ValueError, match=r"a\.png, a\.tif in .* are all named a"):
        pair_folders(true, pred)


def test_time_points_count_as_images_and_depth_does_not(folders):
    true, _ = folders
    stack = np.stack([blocks(), blocks(1), blocks(2)])
    time = write(true / "t.npy", stack)
    assert [labels.shape for labels in read_label_images(time, "TYX")] == [(32, 32)] * 3
    assert [labels.shape for labels in read_label_images(time, "ZYX")] == [(3, 32, 32)]
    (volume,) = read_label_images(time, "YZX")
    assert np.array_equal(volume, stack.transpose(1, 0, 2))


def test_pictures_and_floats_are_no_labels(folders):
    true, _ = folders
    picture = write(true / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ImageFileError, match="one integer per pixel"):
        read_label_images(picture)
    with pytest.raises(ImageFileError, match="type float"):
        read_label_images(write(true / "f.tif", np.zeros((8, 8), np.float32)))


def test_scores_are_pooled_per_folder_and_over_all(folders):
    true, pred = folders
    for name, shift in (("x/a", 0), ("x/b", 4), ("y/a", 0)):
        write(true / f"{name}.png", blocks())
        write(pred / f"{name}_labels.tif", blocks(shift))
    scores = score_folders(true, pred)
    assert {name: result.score.n_images for name, result in scores.sets.items()} == {"x": 2, "y": 1}
    # Shifted by half a cell: covered by exactly one half, no match.
    assert scores.sets["x"].score.seg == pytest.approx(0.5)
    assert scores.sets["y"].score.seg == 1.0
    assert scores.pooled.score.seg == pytest.approx(2 / 3)
    assert [image.name for image in scores.images] == ["x/a", "x/b", "y/a"]


def test_a_flat_folder_is_one_set_named_after_the_references(folders):
    write(folders[0] / "a.png", blocks())
    write(folders[1] / "a.png", blocks())
    assert list(score_folders(*folders).sets) == ["true"]


def test_frames_are_named_by_their_number(folders):
    stack = np.stack([blocks(), blocks()])
    write(folders[0] / "a.npy", stack)
    write(folders[1] / "a.npy", stack)
    assert [i.name for i in score_folders(*folders, axes="TYX").images] == ["a[0]", "a[1]"]


def test_shapes_and_frames_that_differ_are_named_with_their_image(folders):
    true, pred = folders
    write(true / "well.png", blocks())
    write(pred / "well.png", blocks()[:16])
    with pytest.raises(ValueError, match=r"well: True labels have the shape \(32, 32\)"):
        score_folders(true, pred)
    write(true / "well.png", blocks()).unlink()
    write(true / "well.npy", np.stack([blocks()] * 3))
    write(pred / "well.png", blocks()).unlink()
    write(pred / "well.npy", np.stack([blocks()] * 2))
    with pytest.raises(ValueError, match=r"well: the reference has 3 time points, the pred"):
        score_folders(true, pred, axes="TYX")
