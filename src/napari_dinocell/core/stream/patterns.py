"""Tell plate, well, site and channel of an image from its file's name."""

import re
from collections.abc import Iterable
from pathlib import Path

from .records import FieldRecord, channel_rank

# How the microscopes of plate screens name their files; the plate is the folder's name.
PRESETS = {
    "phenix": r"r(?P<row>\d+)c(?P<column>\d+)f(?P<site>\d+)p(?P<depth>\d+)"
    r"-ch(?P<channel>\d+)sk(?P<time>\d+)fk\d+fl\d+\.tiff?",
    "yokogawa": r".+_(?P<well>[A-Z]{1,2}\d+)_T(?P<time>\d+)F(?P<site>\d+)L\d+A\d+"
    r"Z(?P<depth>\d+)C(?P<channel>\d+)\.tiff?",
    # A thumbnail has "_thumb" after its channel, and is none of the images.
    "imagexpress": r".+_(?P<well>[A-Z]{1,2}\d+)_s(?P<site>\d+)_w(?P<channel>\d)"
    r"([0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12})?\.tiff?",
}
_PARTS = ("source", "batch", "plate", "well", "row", "column", "site", "time", "depth", "channel")
_Place = tuple[str, str, str, str, str]  # source, batch, plate, well, site
_IN_BETWEEN = ("images", "timepoint_1")  # folders between a plate's folder and its files


def compile_pattern(text: str) -> re.Pattern[str]:
    """Regular expression of a preset's name, or of a template.

    Parameters
    ----------
    text : str
        ``phenix``, ``yokogawa``, ``imagexpress``, or a path below the folder such as
        ``{plate}/{well}_s{site}_{channel}.tif``, in which ``*`` stands for anything but a slash.

    Raises
    ------
    ValueError
        For an unknown part, one that is there twice, or no channel.
    """
    if text in PRESETS:
        return re.compile(f"(.*/)?{PRESETS[text]}")
    pieces, seen = [], []
    for literal, name in re.findall(r"([^{}*]+)|(\{\w*\}|\*|[{}])", text):
        part = name.strip("{}")
        if literal:
            pieces.append(re.escape(literal))
        elif name == "*":
            pieces.append("[^/]*?")
        elif part in _PARTS and part not in seen:
            seen.append(part)
            pieces.append(f"(?P<{part}>[^/]+?)")
        else:
            raise ValueError(
                f"Pattern {text!r} has {name}; use each of these at most once: "
                f"{', '.join('{' + p + '}' for p in _PARTS)}, or a preset: {', '.join(PRESETS)}."
            )
    if "channel" not in seen:
        raise ValueError(f"Pattern {text!r} does not say where the {{channel}} stands.")
    return re.compile("".join(pieces))


def records_from_names(
    folder: Path,
    pattern: re.Pattern[str],
    *,
    names: dict[str, str] | None = None,
    pixel_size_um: float | None = None,
    paths: Iterable[Path] | None = None,
) -> list[FieldRecord]:
    """Fields whose channels are separate files.

    Parameters
    ----------
    folder : Path
    pattern : re.Pattern
        From `compile_pattern`; files that do not match are left out.
    names : dict, optional
        What to call a channel, by what the file's name says.
    pixel_size_um : float, optional
    paths : iterable of Path, optional
        The files; all below `folder` by default.

    Raises
    ------
    ValueError
        If two files are the same channel of the same field, or none matches.
    """
    names = names or {}
    fields: dict[_Place, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*")) if paths is None else paths:
        relative = path.relative_to(folder)
        match = pattern.fullmatch(relative.as_posix())
        if match is None:
            continue
        found = match.groupdict()
        channel = names.get(found["channel"], found["channel"])
        channels = fields.setdefault(_place(found, relative), {})
        if channel in channels:
            raise ValueError(
                f"{channels[channel]} and {path} are the same channel of the same field; write "
                "what tells them apart into the pattern, as {time} or {depth}."
            )
        channels[channel] = path
    if not fields:
        raise ValueError(f"No file below {folder} matches the pattern.")
    return [_field(place, channels, pixel_size_um) for place, channels in fields.items()]


def _field(place: _Place, channels: dict[str, Path], pixel_size_um: float | None) -> FieldRecord:
    names = sorted(channels, key=channel_rank)
    return FieldRecord(
        *place, tuple(names), tuple(str(channels[name]) for name in names), pixel_size_um
    )


def _place(found: dict[str, str], relative: Path) -> _Place:
    """Source, batch, plate, well and site; other times and depths are sites of their own."""
    well = found.get("well") or ""
    if not well and "row" in found and "column" in found:
        well = f"{_row_letters(found['row'])}{found['column'].zfill(2)}"
    site = found.get("site") or ""
    for name in ("time", "depth"):
        value = found.get(name, "1")
        if value.lstrip("0") != "1":
            site = f"{site} {name} {value}".strip()
    plate = found.get("plate") or _plate_folder(relative)
    return found.get("source", ""), found.get("batch", ""), plate, well, site


def _plate_folder(relative: Path) -> str:
    parents = relative.parent.parts
    return "/".join(name for name in parents if name.lower() not in _IN_BETWEEN)


def _row_letters(row: str) -> str:
    """Row 1 is A, row 27 is AA; letters stay what they are."""
    if not row.isdecimal():
        return row
    number, letters = int(row), ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
