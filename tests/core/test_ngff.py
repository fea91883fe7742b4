import numpy as np
import pytest
import zarr
from ome_zarr_models import v05

from napari_dinocell.core import ngff
from napari_dinocell.core.axes import planes
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import read_image

RNG = np.random.default_rng(0)
ARRAY = RNG.integers(0, 65535, (2, 40, 50)).astype(np.uint16)


def multiscale(axes, scales, name="cells", **extra):
    units = {"t": {"type": "time"}, "c": {"type": "channel"}}
    space = {"type": "space", "unit": "micrometer"}
    return {
        "name": name,
        "axes": [{"name": a, **units.get(a, space)} for a in axes],
        "datasets": [
            {
                "path": str(i),
                "coordinateTransformations": [{"type": "scale", "scale": list(scale)}],
            }
            for i, scale in enumerate(scales)
        ],
        **extra,
    }


def write_image(path, version, array=ARRAY, axes="cyx", entry=None):
    """A group as other programs write it, with zarr alone."""
    group = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    levels = [array, array[..., ::2, ::2]]
    for i, level in enumerate(levels):
        group.create_array(str(i), data=level, chunks=(1,) * (array.ndim - 2) + (16, 16))
    ones = (1.0,) * (array.ndim - 2)
    entry = entry or multiscale(axes, [(*ones, 0.5, 0.25), (*ones, 1.0, 0.5)])
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    if version == "0.4":
        group.attrs.put({"multiscales": [{"version": "0.4", **entry}], "omero": omero})
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [entry], "omero": omero}
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_of_both_formats_are_read_at_full_resolution(tmp_path, version):
    image = read_image(write_image(tmp_path / "a.ome.zarr", version))
    assert (image.axes, image.shape, image.is_lazy) == ("CYX", (2, 40, 50), True)
    assert image.pixel_size_um == (0.5, 0.25)
    assert image.channel_names == ("DAPI", "GFP")
    _, plane = next(planes(image, "GFP"))
    np.testing.assert_array_equal(plane[7:33, 5:49], ARRAY[1, 7:33, 5:49])


def test_scales_multiply_and_units_are_converted(tmp_path):
    entry = multiscale("cyx", [(1, 50, 25)])
    entry["coordinateTransformations"] = [{"type": "scale", "scale": [1, 2, 4]}]
    for axis in entry["axes"][1:]:
        axis["unit"] = "nanometer"
    image = read_image(write_image(tmp_path / "a.zarr", "0.5", entry=entry))
    assert image.pixel_size_um == pytest.approx((0.1, 0.1))


def test_the_step_between_planes_is_read(tmp_path):
    entry = multiscale("zyx", [(3, 0.5, 0.25)])
    image = read_image(write_image(tmp_path / "a.zarr", "0.5", axes="zyx", entry=entry))
    assert (image.pixel_size_um, image.z_step_um) == ((0.5, 0.25), 3)


def test_a_scale_without_a_unit_is_no_pixel_size(tmp_path):
    entry = multiscale("cyx", [(1, 0.5, 0.5)])
    for axis in entry["axes"]:
        axis.pop("unit", None)
    assert read_image(write_image(tmp_path / "a.zarr", "0.4", entry=entry)).pixel_size_um is None


def test_the_first_formats_have_five_axes(tmp_path):
    entry = {"datasets": [{"path": "0"}]}
    path = write_image(tmp_path / "a.zarr", "0.4", ARRAY[np.newaxis, :, np.newaxis], entry=entry)
    image = read_image(path)
    assert image.axes == "TCZYX"
    assert image.shape == (1, 2, 1, 40, 50)


def test_axes_with_names_of_their_own_are_asked_for(tmp_path):
    entry = multiscale("cyx", [(1, 1, 1)])
    entry["axes"][0] = {"name": "angle"}
    path = write_image(tmp_path / "a.zarr", "0.5", entry=entry)
    with pytest.raises(ImageFileError, match="--axes CYX or --axes ZYX"):
        read_image(path)
    assert read_image(path, axes="TYX").axes == "TYX"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_bare_arrays_are_read_and_ask_for_their_axes(tmp_path, zarr_format):
    zarr.create_array(str(tmp_path / "a.zarr"), data=ARRAY, zarr_format=zarr_format)
    with pytest.raises(ImageFileError, match="--axes CYX"):
        read_image(tmp_path / "a.zarr")
    image = read_image(tmp_path / "a.zarr", axes="CYX")
    np.testing.assert_array_equal(image.array[...], ARRAY)


def test_bare_arrays_may_name_their_axes(tmp_path):
    names = ("c", "y", "x")
    zarr.create_array(str(tmp_path / "a.zarr"), data=ARRAY, dimension_names=names)
    assert read_image(tmp_path / "a.zarr").axes == "CYX"


def test_one_of_several_images_is_chosen(tmp_path):
    root = zarr.create_group(str(tmp_path / "a.zarr"))
    root.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    write_image(tmp_path / "a.zarr" / "0", "0.5")
    write_image(tmp_path / "a.zarr" / "1", "0.5", ARRAY + 1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").array[...], ARRAY)
    second = read_image(tmp_path / "a.zarr", series=1)
    np.testing.assert_array_equal(second.array[...], ARRAY + 1)
    with pytest.raises(ImageFileError, match="has no series 2"):
        read_image(tmp_path / "a.zarr", series=2)


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [({"plate": {}}, "A/1/0"), ({"well": {}}, "is a well"), ({}, "arrays: 0")],
)
def test_groups_that_are_no_image_say_what_to_do(tmp_path, attributes, complaint):
    group = zarr.create_group(str(tmp_path / "a.zarr"))
    group.create_array("0", data=ARRAY)
    group.attrs["ome"] = attributes
    with pytest.raises(ImageFileError, match=complaint):
        read_image(tmp_path / "a.zarr")


def test_metadata_that_lie_are_refused(tmp_path):
    path = write_image(tmp_path / "a.zarr", "0.5", entry=multiscale("yx", [(1, 1)]))
    with pytest.raises(ImageFileError, match="name 2 axes, the array has 3"):
        read_image(path)


def test_damaged_metadata_are_one_sentence(tmp_path):
    write_image(tmp_path / "a.zarr", "0.5")
    (tmp_path / "a.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node')
    with pytest.raises(ImageFileError, match=r"a\.zarr"):
        read_image(tmp_path / "a.zarr")


def test_a_damaged_chunk_is_named_when_it_is_read(tmp_path):
    image = read_image(write_image(tmp_path / "a.zarr", "0.5"))
    (tmp_path / "a.zarr" / "0" / "c" / "1" / "0" / "0").write_bytes(b"no chunk")
    np.testing.assert_array_equal(image.array[0], ARRAY[0])
    with pytest.raises(ImageFileError, match=r"a.zarr, at \(1, 0, 0\)"):
        image.array[1]


def blocks(*shape):
    outer = RNG.integers(0, 70000, (*shape[:-2], shape[-2] // 50, shape[-1] // 50))
    return np.kron(outer, np.ones((50, 50), np.int64))


@pytest.mark.parametrize(("axes", "shape"), [("YX", (1200, 900)), ("TZYX", (2, 3, 100, 50))])
def test_labels_written_are_valid_and_come_back(tmp_path, axes, shape):
    labels = blocks(*shape)
    ngff.write_labels(tmp_path / "cells.zarr", labels, axes, (0.5, 0.25), source="../../")
    image = read_image(tmp_path / "cells.zarr")
    assert (image.axes, image.dtype, image.pixel_size_um) == (axes, np.uint32, (0.5, 0.25))
    np.testing.assert_array_equal(image.array[...], labels)
    model = v05.ImageLabel.from_zarr(zarr.open_group(str(tmp_path / "cells.zarr"), mode="r"))
    assert model.ome_attributes.image_label.source.image == "../../"


def test_the_pyramid_holds_only_ids_that_are_there(tmp_path):
    labels = blocks(1250, 600)
    ngff.write_labels(tmp_path / "a.zarr", labels, "YX", (0.5, 0.5))
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    shapes = [group[dataset["path"]].shape for dataset in datasets]
    assert shapes == [(1250, 600), (625, 300), (313, 150)]
    for i, dataset in enumerate(datasets):
        step = 2**i
        np.testing.assert_array_equal(group[dataset["path"]][...], labels[::step, ::step])
        assert dataset["coordinateTransformations"][0]["scale"] == [0.5 * step, 0.5 * step]


def test_unusual_orders_of_axes_are_stored_in_that_of_the_format(tmp_path):
    labels = RNG.integers(0, 9, (6, 7, 2))
    ngff.write_labels(tmp_path / "a.zarr", labels, "XYZ")
    image = read_image(tmp_path / "a.zarr")
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.array[...], labels.transpose(2, 1, 0))


def test_labels_below_an_image_are_listed_there(tmp_path):
    path = write_image(tmp_path / "a.zarr", "0.5")
    for name in ("nuclei", "cells"):
        ngff.write_labels(path / "labels" / name, ARRAY[0], "YX", source="../../")
    labels = v05.Labels.from_zarr(zarr.open_group(str(path / "labels"), mode="r"))
    assert list(labels.ome_attributes.labels) == ["cells", "nuclei"]
    np.testing.assert_array_equal(read_image(path / "labels" / "cells").array[...], ARRAY[0])
    np.testing.assert_array_equal(read_image(path).array[...], ARRAY)


def test_labels_are_not_mixed_into_an_image_of_an_older_format(tmp_path):
    path = write_image(tmp_path / "a.zarr", "0.4")
    with pytest.raises(ValueError, match="write the labels beside it"):
        ngff.write_labels(path / "labels" / "cells", ARRAY[0], "YX")
    assert not (path / "labels").exists()


def test_what_is_no_label_image_is_refused(tmp_path):
    with pytest.raises(TypeError, match="float64"):
        ngff.write_labels(tmp_path / "a.zarr", np.zeros((3, 3)), "YX")
    assert list(tmp_path.iterdir()) == []
