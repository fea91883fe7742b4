"""Images without labels, made ready for a teacher: one file per plane, with its cells' diameter.

python -m napari_dinocell.core.training.unlabelled OUT IMAGE... --model vits8 --license "CC0 1.0"
"""

import csv
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tifffile
import typer

from napari_dinocell.core.axes import planes
from napari_dinocell.core.console import run
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import Image, read_image
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.writing import whole_file

COLUMNS = ("set", "split", "image", "label", "group", "diameter", "licence", "train_allowed")

Row = dict[str, str]


def gather(
    out: Path,
    image: Path,
    segmenter: Segmenter,
    *,
    set_name: str,
    license_name: str,
    axes: str | None = None,
) -> list[Row]:
    """Write the planes of one image, each channel on its own, and return their rows of the index.

    Parameters
    ----------
    out : Path
        Folder of the index; planes go to `out/images`.
    image : Path
    segmenter : Segmenter
        Estimates the diameter; planes in which it finds no cell are left out.
    set_name, license_name : str
        Columns of the index.
    axes : str, optional
        Names of the axes where the file doesn't tell them.

    Raises
    ------
    FileNotFoundError, ImageFileError, ValueError
        The image cannot be read.
    """
    rows = []
    group = group_of(image)
    for name, plane in _planes(read_image(image, axes)):
        path = Path("images") / f"{group}{name}.tif"
        diameter = segmenter.estimate(plane, "YXS" if plane.ndim == 3 else "YX").diameter
        if diameter is None:
            continue
        with whole_file(out / path) as temporary:
            tifffile.imwrite(
                temporary, plane, compression="zlib", predictor=plane.dtype.kind in "ui"
            )
        values = (
            set_name,
            "train",
            path.as_posix(),
            "",
            group,
            f"{diameter:.1f}",
            license_name,
            "yes",
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def group_of(image: Path) -> str:
    """Name of all planes of a file: plates have wells, and so files, of one name."""
    place = hashlib.sha256(str(image.resolve()).encode()).hexdigest()[:8]
    return f"{image.parent.name}_{image.stem}_{place}"


def _planes(image: Image) -> Iterator[tuple[str, np.ndarray]]:
    """Suffix and pixels of each plane."""
    n_channels = image.array.shape[image.axes.index("C")] if "C" in image.axes else 0
    for channel in range(n_channels) if n_channels else (None,):
        for index, plane in planes(image, channel):
            places = {"c": channel, **index} if channel is not None else index
            yield "".join(f"_{axis.lower()}{at}" for axis, at in places.items()), plane()


def read_rows(path: Path) -> list[Row]:
    """Rows of an index that this command wrote; none where there is no file yet."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write an index."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def unlabelled_command(
    out: Annotated[Path, typer.Argument(help="Folder of the index; more images may be added.")],
    images: Annotated[
        list[Path], typer.Argument(help="Image files; each channel becomes a plane.")
    ],
    model: Annotated[str, typer.Option(help="Model that estimates the diameter of the cells.")],
    license_name: Annotated[
        str, typer.Option("--license", help="License of the images; it goes to the model's card.")
    ],
    set_name: Annotated[str, typer.Option("--set", help="Name of the set.")] = "unlabelled",
    axes: Annotated[
        str | None, typer.Option(help="Names of the axes where the files don't tell them: CYX.")
    ] = None,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> int:
    """Gather images that nobody labelled, for `distill.teacher` to teach on.

    Images that are in the index already are skipped.
    """
    segmenter = Segmenter.from_pretrained(model)
    index = out / "index.csv"
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = read_rows(index)
    failed = 0
    for image in images:
        if any(row["group"] == group_of(image) for row in rows):
            continue
        try:
            new = gather(
                out, image, segmenter, set_name=set_name, license_name=license_name, axes=axes
            )
        except (OSError, ImageFileError, ValueError) as error:
            typer.echo(f"{image}: {error}", err=True)
            failed += 1
            continue
        rows += new
        write_rows(index, rows)
        typer.echo(f"{image}: {len(new)} planes", err=True)
    typer.echo(f"{index}: {len(rows)} planes of {len({row['group'] for row in rows})} images")
    return int(failed > 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run(unlabelled_command, argv, "python -m napari_dinocell.core.training.unlabelled")


if __name__ == "__main__":
    sys.exit(main())
