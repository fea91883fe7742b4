"""Bundled sample images: one real image per kind of microscopy, readable without a network."""

from dataclasses import dataclass
from pathlib import Path

SAMPLES_FOLDER = Path(__file__).resolve().parent.parent / "resources" / "samples"


@dataclass(frozen=True)
class Sample:
    """One bundled image.

    Attributes
    ----------
    key : str
        Name without extension; what `sample_path` takes.
    title : str
        What a menu shows.
    """

    key: str
    title: str

    @property
    def path(self) -> Path:
        """Where the image file lies."""
        return SAMPLES_FOLDER / f"{self.key}.png"


SAMPLES = (
    Sample("fluorescence", "Nuclei, fluorescence"),
    Sample("phase_contrast", "Cells, phase contrast"),
    Sample("stained", "Nuclei, purple stain (color)"),
)


def sample_path(key: str) -> Path:
    """Path of the bundled image called `key`.

    Raises
    ------
    ValueError
        If no sample has this name.
    """
    for sample in SAMPLES:
        if sample.key == key:
            return sample.path
    names = ", ".join(sample.key for sample in SAMPLES)
    raise ValueError(f"There is no sample image {key!r}; the bundled ones are: {names}.")
