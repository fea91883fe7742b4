import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models.v05 import HCS

from napari_dinocell.core.stream.fetch import BrokenObjectError, Fetcher
from napari_dinocell.core.stream.fields import FieldReader
from napari_dinocell.core.stream.folders import main
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.stores import Stores

from .plates import plane

STACK = np.stack([plane(0, c) for c in range(3)])


@pytest.fixture
def reader():
    reader = FieldReader(Fetcher(Stores()), n_threads=2)
    yield reader
    reader.close()


def build(tmp_path: Path, folder: Path, *options: object) -> Manifest:
    out = tmp_path / "m.parquet"
    assert main([str(out), str(folder), *map(str, options)]) == 0
    return Manifest.read(out)


def test_ome_tiff_tells_channels_and_pixel_size(tmp_path, reader, capsys):
    for plate in ("P1", "P2"):
        folder = tmp_path / "data" / plate
        folder.mkdir(parents=True)
        metadata = {
            "axes": "CYX",
            "Channel": {"Name": ["DAPI", "GFP", "Phase"]},
            "PhysicalSizeX": 0.65,
            "PhysicalSizeY": 0.65,
        }
        tifffile.imwrite(folder / "A01.ome.tif", STACK, metadata=metadata)
    manifest = build(tmp_path, tmp_path / "data")
    assert [r.id for r in manifest] == ["//P1//A01", "//P2//A01"]
    assert manifest[0].channels == ("DAPI", "GFP", "Phase")
    assert manifest[0].kinds[2] == "brightfield"
    assert manifest[0].pixel_size_um == pytest.approx(0.65)
    np.testing.assert_array_equal(reader.read(manifest[0]).channels, STACK)
    report = json.loads(capsys.readouterr().out)
    assert (report["fields"], report["plates"]) == (2, 2)
    assert report["channels"] == {"DAPI|GFP|Phase": 2}


def test_plain_tiff_needs_its_axes_once_and_may_be_named(tmp_path, reader, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    for n in (2, 10):
        tifffile.imwrite(folder / f"field {n}.tif", STACK, photometric="minisblack")
    assert main([str(tmp_path / "m.parquet"), str(folder)]) == 2
    assert "CYX" in capsys.readouterr().err
    options = ("--axes", "CYX", "--channels", "DNA,Actin,Tubulin", "--pixel-size", 0.5)
    manifest = build(tmp_path, folder, *options)
    assert [r.site for r in manifest] == ["field 2", "field 10"]
    assert manifest[0].channels == ("DNA", "Actin", "Tubulin")
    assert manifest[0].pixel_size_um == 0.5
    np.testing.assert_array_equal(reader.read(manifest[1]).channels, STACK)


def test_gray_and_color_images_are_fields_of_one_and_three_channels(tmp_path, reader):
    folder = tmp_path / "data"
    folder.mkdir()
    color = np.moveaxis((STACK // 64).astype(np.uint8), 0, -1).copy()
    tifffile.imwrite(folder / "gray.tif", STACK[0])
    tifffile.imwrite(folder / "rgb.tif", color, photometric="rgb")
    gray, rgb = build(tmp_path, folder)
    assert (gray.channels, rgb.channels) == (("1",), ("Red", "Green", "Blue"))
    np.testing.assert_array_equal(reader.read(rgb).channels, np.moveaxis(color, -1, 0))
    np.testing.assert_array_equal(reader.read(gray).channels, STACK[:1])


def test_separate_files_per_channel_are_joined_by_their_names(tmp_path, reader):
    images = tmp_path / "data" / "BR1" / "Images"
    images.mkdir(parents=True)
    for channel in range(3):
        name = f"r01c02f03p01-ch{channel + 1}sk1fk1fl1.tiff"
        tifffile.imwrite(images / name, STACK[channel])
    names = [f"--name={n}={name}" for n, name in ((1, "Mito"), (2, "DNA"), (3, "Brightfield"))]
    (field,) = build(tmp_path, tmp_path / "data", "--pattern", "phenix", *names)
    assert field.id == "//BR1/A02/03"
    assert field.channels == ("DNA", "Mito", "Brightfield")
    np.testing.assert_array_equal(reader.read(field).channels, STACK[[1, 0, 2]])


def write_plate(path: Path, version: str) -> None:
    """OME-Zarr plate of two wells with two images each, of three channels."""
    root = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)

    def tell(group: zarr.Group, metadata: dict) -> None:
        if version == "0.5":
            group.attrs["ome"] = {"version": "0.5", **metadata}
        else:
            group.attrs.update(metadata)

    tell(
        root,
        {
            "plate": {
                "rows": [{"name": "A"}],
                "columns": [{"name": "1"}, {"name": "2"}],
                "wells": [
                    {"path": f"A/{c + 1}", "rowIndex": 0, "columnIndex": c} for c in range(2)
                ],
                "field_count": 2,
                "name": "test",
                "version": version,
            }
        },
    )
    axes = [
        {"name": n, "type": t}
        for n, t in zip("tczyx", ("time", "channel", *["space"] * 3), strict=True)
    ]
    for axis in axes[3:]:
        axis["unit"] = "micrometer"
    for well in ("A/1", "A/2"):
        tell(
            root.create_group(well),
            {"well": {"images": [{"path": "0"}, {"path": "1"}], "version": version}},
        )
        for site in "01":
            group = root.create_group(f"{well}/{site}")
            scale = [{"type": "scale", "scale": [1, 1, 1, 0.4, 0.4]}]
            dataset = {"path": "0", "coordinateTransformations": scale}
            colors = [
                {
                    "label": name,
                    "color": "FFFFFF",
                    "window": {"start": 0, "end": 1, "min": 0, "max": 1},
                }
                for name in ("DNA", "RNA", "Phase")
            ]
            multiscale = {"axes": axes, "datasets": [dataset], "version": version}
            tell(group, {"multiscales": [multiscale], "omero": {"channels": colors}})
            shift = int(site) + 2 * (well == "A/2")
            options = {"dimension_names": list("tczyx")} if version == "0.5" else {}
            shape, chunks = (1, 3, 1, 64, 64), (1, 1, 1, 32, 32)
            array = group.create_array("0", shape=shape, chunks=chunks, dtype="uint16", **options)
            array[...] = (STACK + shift)[None, :, None]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_images_of_an_ome_zarr_plate_are_fields(tmp_path, reader, version):
    write_plate(tmp_path / "data" / "screen.ome.zarr", version)
    if version == "0.5":
        HCS.from_zarr(zarr.open_group(tmp_path / "data" / "screen.ome.zarr", mode="r"))
    for folder in (tmp_path / "data", tmp_path / "data" / "screen.ome.zarr"):
        manifest = build(tmp_path, folder)
        places = [(r.plate, r.well, r.site) for r in manifest]
        assert places == [("screen", w, s) for w in ("A1", "A2") for s in "01"]
    for shift, record in enumerate(manifest):
        assert record.channels == ("DNA", "RNA", "Phase")
        assert record.pixel_size_um == pytest.approx(0.4)
        np.testing.assert_array_equal(reader.read(record).channels, STACK + shift)


def test_a_missing_chunk_of_a_zarr_image_is_damage_and_not_black_cells(tmp_path, reader):
    write_plate(tmp_path / "p.zarr", "0.5")
    manifest = build(tmp_path, tmp_path / "p.zarr")
    shutil.rmtree(tmp_path / "p.zarr/A/1/0/0/c/0/1")
    with pytest.raises(BrokenObjectError) as caught:
        reader.read(manifest[0])
    assert caught.value.kind in ("constant", "zeros")
    shutil.rmtree(tmp_path / "p.zarr/A/1/1")
    with pytest.raises(BrokenObjectError) as caught:
        reader.read(manifest[1])
    assert caught.value.kind == "not found"


@pytest.mark.parametrize("axes", ["ZYX", "TCYX"])
def test_stacks_in_depth_or_time_are_refused_with_what_to_do(tmp_path, capsys, axes):
    folder = tmp_path / "data"
    folder.mkdir()
    stack = np.broadcast_to(STACK, (2,) * (len(axes) - 3) + STACK.shape)
    tifffile.imwrite(folder / "x.ome.tif", stack, ome=True, metadata={"axes": axes})
    assert main([str(tmp_path / "m.parquet"), str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"axes {axes}" in error
    assert "a file of its own" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--name", "1=DNA"), "--name is for --pattern"),
        (("--pattern", "phenix", "--axes", "CYX"), "are for files of several channels"),
        (("--pattern", "phenix", "--name", "DNA"), "is not CHANNEL=NAME"),
        (("--axes", "CYX", "--channels", "DNA"), "3 channels, but 1 names"),
    ],
)
def test_wrong_usage_is_a_sentence_and_no_file(tmp_path, capsys, options, sentence):
    folder = tmp_path / "data"
    folder.mkdir()
    tifffile.imwrite(folder / "x.tif", STACK, photometric="minisblack")
    assert main([str(tmp_path / "m.parquet"), str(folder), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "m.parquet").exists()


def test_a_folder_that_is_missing_or_empty_is_told(tmp_path, capsys):
    assert main([str(tmp_path / "m.parquet"), str(tmp_path / "none")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "m.parquet"), str(tmp_path / "empty")]) == 2
    assert "There is no TIFF" in capsys.readouterr().err


@pytest.mark.shared
def test_a_folder_of_real_fields_of_all_sources_is_read(tmp_path, reader):
    root = os.environ.get("DINOCELL_DATA")
    if root is None:
        pytest.skip("needs the data folder named by DINOCELL_DATA")
    manifest = build(tmp_path, Path(root) / "multichannel", "--axes", "CYX")
    assert len(manifest) == 57
    assert len({record.plate for record in manifest}) == 16
    assert {len(record.channels) for record in manifest} == {2, 3, 5, 6}
    for record in list(manifest)[::8]:
        field = reader.read(record)
        np.testing.assert_array_equal(field.channels, tifffile.imread(record.addresses[0]))
