"""Which files are segmented and where their results go."""

import os
from pathlib import Path

import pytest

from napari_dinocell.core.worklist import Source, collect, plan, stem


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_stem_takes_ome_tif_and_ome_zarr_as_one_extension() -> None:
    assert stem(Path("a.ome.tif")) == "a"
    assert stem(Path("a.OME.zarr")) == "a"
    assert stem(Path("well 1.5 µm.tiff")) == "well 1.5 µm"


def test_a_folder_gives_its_images_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.png", "a.TIF", "notes.txt", ".hidden.png", "sub/c.png"):
        touch(tmp_path / name)
    assert [source.path.name for source in collect([tmp_path])] == ["a.TIF", "b.png"]


def test_recursion_mirrors_the_tree_and_leaves_the_output_folder_out(tmp_path: Path) -> None:
    touch(tmp_path / "day1" / "x.png")
    touch(tmp_path / "day2" / "x.png")
    touch(tmp_path / "out" / "old.png")
    sources = collect([tmp_path], recursive=True, avoid=tmp_path / "out")
    jobs = plan(sources, tmp_path / "out")
    assert [job.labels.relative_to(tmp_path / "out").as_posix() for job in jobs] == [
        "day1/x_labels.tif",
        "day2/x_labels.tif",
    ]


def test_a_zarr_folder_is_one_image_and_is_not_looked_into(tmp_path: Path) -> None:
    touch(tmp_path / "a.ome.zarr" / "0" / "x.png")
    touch(tmp_path / "unnamed" / "zarr.json")
    names = [source.path.name for source in collect([tmp_path], recursive=True)]
    assert names == ["a.ome.zarr", "unnamed"]


def test_patterns_are_expanded_and_an_input_named_twice_counts_once(tmp_path: Path) -> None:
    touch(tmp_path / "a1.png")
    touch(tmp_path / "a2.png")
    touch(tmp_path / "b.png")
    sources = collect([str(tmp_path / "a*.png"), tmp_path / "a1.png"])
    assert [source.path.name for source in sources] == ["a1.png", "a2.png"]


def test_a_file_whose_name_holds_a_star_is_a_file(tmp_path: Path) -> None:
    path = touch(tmp_path / "a[1].png")
    assert [source.path for source in collect([path])] == [path]


@pytest.mark.parametrize("entry", ["absent.png", "empty", "*.png"])
def test_an_input_that_is_not_there_is_refused_by_name(tmp_path: Path, entry: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=entry.replace("*", r"\*")):
        collect([str(tmp_path / entry)])


def test_two_inputs_of_one_stem_are_refused_with_a_pattern_that_tells_them_apart(
    tmp_path: Path,
) -> None:
    first, second = touch(tmp_path / "a" / "x.png"), touch(tmp_path / "b" / "x.png")
    sources = collect([first, second])
    with pytest.raises(ValueError, match=r"\{parent\}_\{stem\}_labels"):
        plan(sources, tmp_path / "out")
    jobs = plan(sources, tmp_path / "out", "{parent}_{stem}_labels")
    assert [job.table.name for job in jobs] == ["a_x_cells.csv", "b_x_cells.csv"]


def test_two_types_of_one_stem_are_told_apart_by_extension(tmp_path: Path) -> None:
    touch(tmp_path / "x.png")
    touch(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"\{ext\}_\{stem\}_labels"):
        plan(collect([tmp_path]), tmp_path / "out")
    assert len(plan(collect([tmp_path]), tmp_path / "out", "{ext}_{stem}_labels")) == 2


@pytest.mark.parametrize("names", [("x.tif", "x.ome.tif"), ("x.png", "X.png")])
def test_no_pattern_is_offered_where_none_would_help(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    sources = [Source(tmp_path / name) for name in names]
    with pytest.raises(ValueError, match="rename one of them, or segment them into two folders"):
        plan(sources, tmp_path / "out")


def test_names_that_differ_in_capitals_alone_are_refused(tmp_path: Path) -> None:
    sources = [Source(tmp_path / "X.png"), Source(tmp_path / "b" / "x.png")]
    with pytest.raises(ValueError, match="both be written"):
        plan(sources, tmp_path / "out")


def test_a_result_never_replaces_an_input(tmp_path: Path) -> None:
    path = touch(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="would replace an input"):
        plan(collect([path]), tmp_path, "{stem}")
    assert plan(collect([path]), tmp_path)[0].labels == tmp_path / "x_labels.tif"


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="this system has no symbolic links")
def test_a_result_never_replaces_an_input_through_a_link(tmp_path: Path) -> None:
    path = touch(tmp_path / "in" / "x.tif")
    (tmp_path / "out").symlink_to(tmp_path / "in")
    with pytest.raises(ValueError, match="would replace an input"):
        plan(collect([path]), tmp_path / "out", "{stem}")


def test_results_in_the_input_folder_are_not_inputs_of_the_next_run(tmp_path: Path) -> None:
    for name in ("x.png", "x_labels.tif", "x_overlay.png"):
        touch(tmp_path / name)
    jobs = plan(collect([tmp_path]), tmp_path)
    assert [job.source.name for job in jobs] == ["x.png"]


def test_an_explicit_input_is_kept_even_if_it_looks_like_a_result(tmp_path: Path) -> None:
    path = touch(tmp_path / "x_labels.tif")
    assert [job.source for job in plan(collect([path]), tmp_path / "out")] == [path]


@pytest.mark.parametrize("name", ["labels", "{stem", "{file}", "sub/{stem}", "{}"])
def test_a_wrong_name_pattern_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="--name"):
        plan([Source(tmp_path / "x.png")], tmp_path / "out", name)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="is a file"):
        plan([Source(tmp_path / "x.png")], touch(tmp_path / "out"))


def test_a_job_is_finished_when_every_wanted_file_exists(tmp_path: Path) -> None:
    job = plan([Source(tmp_path / "x.png")], tmp_path)[0]
    touch(job.labels)
    assert job.is_finished(["labels"])
    assert not job.is_finished(["labels", "table"])
    assert job.outputs(["labels", "table"])[-1] == job.labels
