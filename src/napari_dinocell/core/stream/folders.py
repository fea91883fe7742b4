"""Build the manifest of fields that lie in folders of this machine.

python -m napari_dinocell.core.stream.folders my.parquet plates/ --axes CYX
python -m napari_dinocell.core.stream.folders my.parquet plates/ --pattern phenix --name 1=DNA

Without a pattern each file is a field: multi-channel TIFF or OME-TIFF, PNG, JPEG, or the images of
OME-Zarr plates. With a pattern each file is one channel, and its name tells which.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from napari_dinocell.core.console import run

from .containers import records_from_images
from .manifest import Manifest
from .patterns import PRESETS, compile_pattern, records_from_names


def folders(
    out: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    folder: Annotated[Path, typer.Argument(help="Folder with the images, at any depth.")],
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Where a file's path names its field: {plate}/{well}_s{site}_{channel}.tif, "
            f"or {', '.join(PRESETS)}."
        ),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="CHANNEL=NAME, as 1=DNA; repeat it.")
    ] = None,
    axes: Annotated[
        str | None, typer.Option(help="Of files that do not name their axes, as CYX.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Names of a file's channels, with commas between.")
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="\u00b5m per pixel, where files do not say.")
    ] = None,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Build a manifest of the fields in a folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    folder = folder.resolve()
    if pattern is None:
        if name:
            raise ValueError("--name is for --pattern; name the channels of files by --channels.")
        names = tuple(channels.split(",")) if channels else ()
        records = records_from_images(folder, axes=axes, channels=names, pixel_size_um=pixel_size)
    else:
        if axes or channels:
            raise ValueError("--axes and --channels are for files of several channels; use --name.")
        records = records_from_names(
            folder, compile_pattern(pattern), names=_named(name or []), pixel_size_um=pixel_size
        )
    result = Manifest(records)
    result.write(out)
    counts = Counter("|".join(record.channels) for record in result)
    report = {
        "manifest": str(out),
        "fields": len(result),
        "plates": len({record.plate_id for record in result}),
        "channels": dict(counts.most_common()),
        "sha256": result.sha256,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


def _named(texts: Sequence[str]) -> dict[str, str]:
    names = {}
    for text in texts:
        channel, equals, name = text.partition("=")
        if not (channel and equals and name):
            raise ValueError(f"--name {text} is not CHANNEL=NAME.")
        names[channel] = name
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run(folders, argv, "python -m napari_dinocell.core.stream.folders")


if __name__ == "__main__":
    sys.exit(main())
