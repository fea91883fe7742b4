"""Independent implementations to compare with."""

import importlib
import sys
from importlib import metadata
from types import ModuleType

import pytest


def lightly(module: str) -> ModuleType:
    """Import one module of the package lightly without its `__init__` files, which need torchvision."""
    try:
        root = metadata.distribution("lightly").locate_file("lightly")
    except metadata.PackageNotFoundError:
        pytest.skip("lightly is not installed; `pip install --no-deps lightly` adds the oracle.")
    for package in ("lightly", "lightly.loss", "lightly.models", "lightly.models.modules"):
        if package not in sys.modules:
            empty = ModuleType(package)
            empty.__path__ = ["/".join([str(root), *package.split(".")[1:]])]
            sys.modules[package] = empty
    return importlib.import_module(f"lightly.{module}")
