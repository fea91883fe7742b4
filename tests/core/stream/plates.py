"""Small plates of generated fields, as files with one channel each."""

from pathlib import Path

import numpy as np
import tifffile

from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.records import FieldRecord

SIZE = 64
CHANNELS = ("DNA", "RNA")


def record(n: int, folder: str = "", plate: str | None = None, channels=CHANNELS) -> FieldRecord:
    """Field number n of a plate of sixteen."""
    plate = f"P{n // 16}" if plate is None else plate
    addresses = tuple(f"{folder}/{plate}/{n} {channel}.tif" for channel in channels)
    return FieldRecord("lab", "day 1", plate, f"A{n % 16 + 1:02d}", "1", channels, addresses)


def records(n: int, folder: str = "") -> list[FieldRecord]:
    return [record(i, folder) for i in range(n)]


def plane(n: int, channel: int = 0, size: int = SIZE) -> np.ndarray:
    """16-bit picture of bright squares, different in each field and channel."""
    rng = np.random.default_rng([n, channel])
    picture = rng.poisson(900, (size, size))
    for _ in range(6):
        y, x = rng.integers(0, size - 12, 2)
        picture[y : y + 12, x : x + 12] += 7000
    return picture.astype(np.uint16)


def write_plate(folder: Path, n: int, size: int = SIZE) -> Manifest:
    """Files of n fields, and the manifest that lists them."""
    manifest = Manifest(records(n, str(folder)))
    for field in manifest:
        number = int(Path(field.addresses[0]).name.split()[0])
        for channel, address in enumerate(field.addresses):
            Path(address).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(address, plane(number, channel, size), compression="zlib")
    return manifest
