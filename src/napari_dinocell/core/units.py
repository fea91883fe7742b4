"""Units of length as microscope files write them."""

_UM = {
    "pm": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "micron": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}
_WORDS = {"pico": "pm", "nano": "nm", "micro": "um", "milli": "mm", "centi": "cm", "": "m"}
_UM |= {f"{prefix}met{end}": _UM[unit] for prefix, unit in _WORDS.items() for end in ("er", "re")}


def um_per_unit(unit: str | None) -> float | None:
    """How many µm a unit is: `nm`, `µm`, `micron`, `micrometer`, ...; None if it is no length."""
    if not unit:
        return None
    # ImageJ escapes the micro sign; there are two of them, and two angstrom signs, in Unicode.
    word = unit.strip().replace("\\u00B5", "u").replace("\u00b5", "u").replace("\u03bc", "u")
    word = word.lower()
    return _UM.get(word, _UM.get(word.removesuffix("s")))
