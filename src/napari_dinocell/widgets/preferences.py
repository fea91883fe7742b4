"""What a user prefers on this computer: from napari's settings, or from a file of our own.

napari 0.9 shows the preferences that the manifest names in File > Preferences and stores them. An
older napari does not know them: then they are read from `preferences.json` in the user's folder of
settings, with the same names.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs
from napari import settings
from napari.utils.notifications import show_warning

__all__ = ["PLUGIN", "SECTION", "Preferences", "fallback_file", "preferences", "read_preferences"]

PLUGIN = "napari-dinocell"
SECTION = "segmentation"


@dataclass(frozen=True)
class Preferences:
    """Preferences, each with what holds where nothing was chosen.

    Attributes
    ----------
    device : str
        Where models run: auto, cpu, cuda, cuda:1, mps.
    cache_folder : str
        Where large distance maps are kept while a result is open; the system's folder for
        temporary files where it is empty.
    preview_delay_ms : int
        How long the hand must rest before everything that a slider changes is brought up to date,
        50 to 5000.
    """

    device: str = "auto"
    cache_folder: str = ""
    preview_delay_ms: int = 300

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value).__name__ != field.type:
                raise ValueError(f"Preference {field.name} is {value!r}; expected {field.type}.")
        if not 50 <= self.preview_delay_ms <= 5000:
            raise ValueError(
                f"Preference preview_delay_ms is {self.preview_delay_ms}; give 50 to 5000."
            )
        if self.cache_folder and not Path(self.cache_folder).is_dir():
            raise ValueError(
                f"Preference cache_folder is {self.cache_folder!r}, where there is no folder; "
                "make it, choose another one, or leave it empty."
            )

    @property
    def maps_folder(self) -> Path | None:
        """The cache folder; None where it is that for temporary files."""
        return Path(self.cache_folder) if self.cache_folder else None


def read_preferences() -> Preferences:
    """What the user prefers.

    Raises
    ------
    ValueError
        One sentence about a preference that cannot be used, or a file that cannot be read.
    """
    stored = _napari_section()
    if stored is not None:
        return Preferences(**{f.name: getattr(stored, f.name) for f in fields(Preferences)})
    path = fallback_file()
    if not path.exists():
        return Preferences()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); correct or remove it.") from error
    known = asdict(Preferences())
    unknown = sorted(set(content) - set(known)) if isinstance(content, dict) else ["no object"]
    if unknown:
        raise ValueError(f"{path} holds {', '.join(unknown)}; known are {', '.join(known)}.")
    return Preferences(**content)


def preferences() -> Preferences:
    """What the user prefers; the defaults, and a warning in the window, where that is no use.

    Only for the thread of the window: napari's messages from another one can end the program.
    """
    try:
        return read_preferences()
    except ValueError as error:
        show_warning(f"{error} Until then the defaults are used.")
        return Preferences()


def fallback_file() -> Path:
    """Where preferences are for a napari that does not keep those of plugins."""
    return platformdirs.user_config_path(PLUGIN) / "preferences.json"


def _napari_section() -> Any:
    """The section of this plugin in napari's settings; None where napari keeps none."""
    get = getattr(settings, "get_plugin_settings", None)
    if get is None:
        return None
    # A plugin that was not found by npe2, such as one under test, has no settings.
    return getattr(get().get(PLUGIN), SECTION, None)
