import os
import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from users import ordinary_user, shared_folder

from napari_dinocell.core import ngff
from napari_dinocell.core.errors import OutputFileError
from napari_dinocell.core.exports import write_json, write_labels, write_table
from napari_dinocell.core.regions import write_geojson, write_rois
from napari_dinocell.core.writing import whole_file

LABELS = np.random.default_rng(0).integers(0, 60000, (60, 80))

WRITERS = {
    "a.tif": lambda path: write_labels(path, LABELS, "YX"),
    "a.zarr": lambda path: ngff.write_labels(path, LABELS, "YX"),
    "a.csv": lambda path: write_table(path, {"label": LABELS.ravel()}),
    "a.json": lambda path: write_json(path, {"labels": LABELS}),
    "a.zip": lambda path: write_rois(path, LABELS[:12, :12], "YX"),
    "a.geojson": lambda path: write_geojson(path, LABELS[:12, :12], "YX"),
}
every_writer = pytest.mark.parametrize("name", WRITERS)


@contextmanager
def full_disk(n_bytes=4000):
    """No file may grow beyond this size, as on a disk that runs full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@every_writer
def test_only_the_result_is_there_afterwards(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@every_writer
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, name):
    with full_disk(), pytest.raises(OutputFileError) as error:
        WRITERS[name](tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "cannot be written: the file would be larger" in str(error.value)
    assert os.listdir(tmp_path) == []


@every_writer
def test_a_full_disk_leaves_the_former_result(tmp_path, name):
    if name == "a.zarr":
        (tmp_path / name).mkdir()
        kept = tmp_path / name / "kept"
    else:
        kept = tmp_path / name
    kept.write_text("former")
    with full_disk(), pytest.raises(OutputFileError):
        WRITERS[name](tmp_path / name)
    assert kept.read_text() == "former"
    assert os.listdir(tmp_path) == [name]


@every_writer
def test_a_folder_without_write_permission_says_so(name):
    with shared_folder() as folder:
        folder.chmod(0o555)
        with ordinary_user(), pytest.raises(OutputFileError, match="no permission"):
            WRITERS[name](folder / name)
        assert os.listdir(folder) == []


@every_writer
def test_a_folder_that_is_not_there_says_so(tmp_path, name):
    if name == "a.zarr":
        pytest.skip("Zarr makes its folders.")
    with pytest.raises(OutputFileError, match="folder does not exist"):
        WRITERS[name](tmp_path / "none" / name)


def test_any_error_leaves_the_former_file(tmp_path):
    (tmp_path / "a").write_text("former")

    def fail_half_way():
        with whole_file(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert (tmp_path / "a").read_text() == "former"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("x")
    with whole_file(tmp_path / "a") as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("y")
    assert os.listdir(tmp_path / "a") == ["new"]
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(OutputFileError, match="a folder of that name"):
        write_table(tmp_path / "a.csv", {"label": [1]})
    assert os.listdir(tmp_path) == ["a.csv"]


def test_the_longest_names_work(tmp_path):
    name = "n" * 251 + ".csv"
    write_table(tmp_path / name, {"label": [1]})
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Only Linux has a full device.")
def test_no_space_left_is_named(tmp_path):
    def fill():
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(OutputFileError, match="no space is left"), whole_file(tmp_path / "a"):
        fill()
