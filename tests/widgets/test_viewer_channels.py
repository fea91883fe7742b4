"""18: channels that are layers of their own are segmented alone or together."""

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image
from synthetic import discs, n_discs

from napari_dinocell.widgets.combine import goes_with
from napari_dinocell.widgets.layers import layer_part

pytestmark = pytest.mark.qt

PLANE = discs()
LEFT, RIGHT = PLANE.copy(), PLANE.astype(float) / 7 + 3
LEFT[:, 80:] = 100
RIGHT[:, :80] = RIGHT.min()
PLACE = {"scale": (2, 3), "rotate": 20, "units": ("um", "um"), "axis_labels": ("y", "x")}


def count(labels):
    return len(np.unique(labels)) - 1


@pytest.fixture
def run(make_panel, wait):
    """The panel on some layers, with the others that are wanted; gives the layer of cells."""

    def segment(panel, image, together):
        panel.form.image.value = str(image.unique_id)
        panel.form.combine.box.value = " ".join(str(one.unique_id) for one in together)
        wait(panel.button.isEnabled)
        panel.button.click()
        wait(lambda: panel.job is None)
        return panel.preview

    return segment


def test_18_layers_are_segmented_alone_or_together_and_measured_alone(make_panel, run):
    viewer, panel = make_panel()
    left = viewer.add_image(LEFT, name="left", **PLACE)
    right = viewer.add_image(da.from_array(RIGHT, chunks=64), name="right", **PLACE)
    viewer.add_image(PLANE, name="elsewhere", translate=(5, 5), **PLACE)
    assert count(run(panel, left, []).layer.data) == 8
    preview = run(panel, left, [right])
    assert count(preview.layer.data) == n_discs()
    assert preview.layer.name.startswith("left cells")
    assert preview.layer.metadata["napari_dinocell"]["together_with"] == ["right"]
    np.testing.assert_array_equal(preview.layer.rotate, left.rotate)
    # Settings of a folder know of one channel only.
    assert not panel.results.further.folder.isEnabled()
    # Intensities are those of the image, not of the mean of normalized ones.
    measured = preview.result.part.measured_image().array
    np.testing.assert_array_equal(np.asarray(measured[...]), LEFT)


def test_18_only_layers_of_the_same_size_and_place_are_offered(make_panel, wait):
    viewer, panel = make_panel()
    first = viewer.add_image(PLANE, name="first", **PLACE)
    box = panel.form.combine.box
    assert not panel.form.combine.is_open
    others = {
        "moved": Image(PLANE, **PLACE, translate=(1, 0)),
        "nanometers": Image(PLANE, **PLACE | {"units": ("nm", "nm")}),
        "smaller": Image(PLANE[:, 1:], **PLACE),
        "color": Image(np.stack([PLANE.astype(np.uint8)] * 3, -1), rgb=True, **PLACE),
        "pyramid": Image([PLANE, PLANE[::2, ::2]], multiscale=True, **PLACE),
    }
    assert [name for name, one in others.items() if goes_with(first, one)] == []
    second = viewer.add_image(PLANE, name="second", **PLACE)
    third = viewer.add_image(PLANE, name="third", **PLACE)
    panel.form.image.value = str(first.unique_id)
    assert [text for text, _ in box.options] == [
        "no other layer",
        "second",
        "third",
        "all 2 others",
    ]
    box.value = f"{second.unique_id} {third.unique_id}"
    assert panel.form.part().other_names == ("second", "third")
    second.translate = (4, 4)
    with pytest.raises(ValueError, match="another size or place"):
        panel.form.part()
    viewer.layers.remove(third)
    assert box.value == ""
    assert panel.form.part().other_names == ()


@pytest.mark.parametrize("axes", ["ZYX", "XZY"])
def test_18_each_plane_of_each_layer_is_normalized_by_itself(axes):
    stack = np.stack([np.stack([LEFT, RIGHT * 9]), np.stack([RIGHT, LEFT * 2.0])])
    one, other = (np.moveaxis(s, (0, 1, 2), [axes.index(a) for a in "ZYX"]) for s in stack)
    layers = [Image(pixels, axis_labels=tuple(axes.lower())) for pixels in (one, other)]
    part = layer_part(layers[0], axes, others=layers[1:])
    whole = np.moveaxis(part.image().array[:], [axes.index(a) for a in "ZYX"], (0, 1, 2))
    # The same two images in both planes, whatever their gray values, and a window is a window.
    np.testing.assert_allclose(whole[0], whole[1], atol=1e-6)
    # Cells of one image only have half of the contrast.
    assert 0.45 < np.percentile(whole[0], 99.8) < 0.6
    window = layer_part(layers[0], axes, others=layers[1:], region=(slice(9, 40), slice(70, 99)))
    found = np.moveaxis(window.image().array[:], [axes.index(a) for a in "ZYX"], (0, 1, 2))
    np.testing.assert_array_equal(found, whole[:, 9:40, 70:99])
