"""What the README and the documentation say exists."""

import ast
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def command_lines() -> set[str]:
    lines = [
        line.partition("#")[0].strip()
        for page in PAGES
        for block in code_blocks(page, "sh")
        for line in block.splitlines()
    ]
    return {line for line in lines if line.startswith("napari-dinocell ")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in navigation] == []
    assert yaml.safe_load(navigation)["docs_dir"] == "docs"


def test_make_commands_in_the_documents_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|^)make ([a-z]+)\b", page.read_text(), re.MULTILINE)
    }
    assert {"demo", "test"} <= named
    assert [
        target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)
    ] == []


@pytest.mark.parametrize(
    "command", ["segment", "adapt", "evaluate", "train", "train-ssl", "info", "doctor"]
)
def test_options_in_the_documents_are_options_of_the_command(command: str) -> None:
    lines = [line for line in command_lines() if line.split()[1] == command]
    assert lines, f"no page shows napari-dinocell {command}"
    done = subprocess.run(
        [sys.executable, "-m", "napari_dinocell.core.cli", command, "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "", "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"--[a-z][a-z-]*", done.stdout))
    used = {option for line in lines for option in re.findall(r"--[a-z][a-z-]*", line)}
    assert used <= known


def test_every_option_of_segment_is_documented() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "napari_dinocell.core.segment", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={"PATH": "", "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"},
    )
    page = (ROOT / "docs" / "segment.md").read_text()
    options = set(re.findall(r"--[a-z][a-z-]*", done.stdout)) - {"--help"}
    assert len(options) > 15
    assert sorted(option for option in options if option not in page) == []


def test_names_that_the_python_examples_import_are_there() -> None:
    trees = [ast.parse(block) for page in PAGES for block in code_blocks(page, "python")]
    found = [
        (node.module, name.name)
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("napari_dinocell")
        for name in node.names
    ]
    assert len(found) > 5
    assert [
        (module, name) for module, name in found if not hasattr(import_module(module or ""), name)
    ] == []


def train_lines() -> list[str]:
    """Commands that train, of the documents and of the shipped configurations."""
    configs = (ROOT / "src" / "napari_dinocell" / "resources" / "configs").glob("*.yaml")
    texts = [re.sub(r"\\\n#?", " ", path.read_text()) for path in (*PAGES, *configs)]
    found = [
        line.strip("# \n")
        for text in texts
        for line in text.splitlines()
        if re.search(r"(napari-dinocell train|core\.train) [a-z{]", line)
    ]
    return [re.split(r"napari-dinocell train |core\.train ", line)[1] for line in found]


def test_every_training_command_names_a_configuration_and_settings_that_exist() -> None:
    from napari_dinocell.core.training.config import (  # noqa: PLC0415
        Config,
        load_config,
        shipped_configs,
    )

    lines = train_lines()
    assert len(lines) > 5
    for line in lines:
        name, *settings = shlex.split(line.strip("`"))
        if name in shipped_configs():
            config = load_config(Config, shipped_configs()[name], settings)
            assert config.out
        else:
            assert name.endswith(".yaml"), line


def test_the_pictures_of_the_documents_are_small() -> None:
    pictures = [path for path in (ROOT / "docs" / "images").iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in pictures) < 2_500_000
    pages = "".join(page.read_text() for page in PAGES) + (ROOT / "mkdocs.yml").read_text()
    assert [path.name for path in pictures if path.name not in pages] == []
