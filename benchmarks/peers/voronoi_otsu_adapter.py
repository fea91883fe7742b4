# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "napari-segment-blobs-and-things-with-membranes==0.3.12", "numpy", "tifffile",
# ]
# [tool.peer]
# title = "Voronoi-Otsu (napari plugin)"
# trained-on = "nothing; default sigmas of 2 px"
# code-license = "BSD-3-Clause"
# weights-license = "none"
# ///
"""Voronoi-Otsu labeling of napari-segment-blobs-and-things-with-membranes, with its defaults.

It expects bright cells on dark ground. Planes whose median lies above the middle of their range are
inverted first, as a user would.
"""

from importlib.metadata import version

import numpy as np
from napari_segment_blobs_and_things_with_membranes import voronoi_otsu_labeling
from protocol import Labels, Peer, Pixels, Settings, gray, serve


def load(settings: Settings) -> Peer:
    """Nothing to load."""

    def segment(image: Pixels) -> Labels:
        plane = gray(image)
        low, high = float(plane.min()), float(plane.max())
        if low == high:
            return np.zeros(plane.shape, np.int32)
        if np.median(plane) > (low + high) / 2:
            plane = low + high - plane
        return np.asarray(voronoi_otsu_labeling(plane, spot_sigma=2, outline_sigma=2))

    name = "napari-segment-blobs-and-things-with-membranes"
    return Peer(segment, version(name), "defaults")


if __name__ == "__main__":
    raise SystemExit(serve(load))
