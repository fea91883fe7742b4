"""The built wheel, installed in a folder of its own, holds all that napari asks a plugin for."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHECK = """
import importlib, importlib.metadata, importlib.resources, pathlib, sys
import napari_dinocell
home = pathlib.Path(sys.argv[1])
assert home in pathlib.Path(napari_dinocell.__file__).parents, napari_dinocell.__file__
import npe2
manifest = npe2.PluginManifest.from_distribution("napari-dinocell")
commands = manifest.contributions.commands
for command in commands:
    module, _, name = command.python_name.partition(":")
    found = getattr(importlib.import_module(module), name)
    assert callable(found), command
    assert home in pathlib.Path(sys.modules[module].__file__).parents, module
package, _, icon = manifest.icon.partition(":")
assert importlib.resources.files(package).joinpath(icon).is_file()
for sample in manifest.contributions.sample_data:
    command = next(c for c in commands if c.id == sample.command)
    module, _, name = command.python_name.partition(":")
    (layer,) = getattr(importlib.import_module(module), name)()
    assert layer[0].size and layer[2] == "image"
from napari_dinocell.core.model.files import bundled_models
assert bundled_models()
print(len(commands), "commands")
"""


def run(command, **options):
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_of_the_manifest_can_be_imported_from_the_wheel(tmp_path, why_not):
    if why_not:
        pytest.skip(why_not)
    for name in ("hatchling", "pip"):
        if not any(importlib.metadata.distributions(name=name)):
            pytest.skip(f"{name} is not installed: make test installs it.")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ["wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--quiet"]
    run([*pip, *build, "--wheel-dir", str(tmp_path)])
    (wheel,) = tmp_path.glob("*.whl")
    home = tmp_path / "site"
    run([*pip, "install", "--no-deps", "--no-index", "--quiet", "--target", str(home), str(wheel)])
    # From another folder and before the checkout, of which nothing is to be found.
    environment = os.environ | {"PYTHONPATH": str(home)}
    said = run([sys.executable, "-c", CHECK, str(home)], cwd=tmp_path, env=environment)
    assert int(said.split()[0]) > 5
