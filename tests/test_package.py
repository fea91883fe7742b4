"""The package as a whole: what importing it costs, what the wheel holds, how long its files are."""

import ast
import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import napari_dinocell

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "napari_dinocell"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VIEWER = ("qtpy", "napari", "magicgui", "superqt", "PyQt6", "PySide6", "PyQt5", "PySide2")


def fresh_python(code: str) -> str:
    """What `code` prints in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_takes_less_than_50_ms() -> None:
    code = (
        "import time; start = time.perf_counter(); import napari_dinocell; "
        "print(1000 * (time.perf_counter() - start))"
    )
    # The best of several: other programs on the machine only ever add time.
    assert min(float(fresh_python(code)) for _ in range(5)) < 50


def test_importing_the_package_loads_neither_torch_nor_qt_nor_numpy() -> None:
    loaded = set(fresh_python("import sys, napari_dinocell; print(*sys.modules)").split())
    assert "napari_dinocell" in loaded
    assert not loaded & {"torch", "numpy", "skimage", "numba", *VIEWER}


def test_every_core_module_imports_where_napari_and_qt_are_absent() -> None:
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in sorted((PACKAGE / "core").rglob("*.py"))
        if path.stem not in ("__init__", "__main__")
    ]
    code = f"""
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {VIEWER!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
for name in {modules!r}:
    importlib.import_module(name)
print(len({modules!r}))
"""
    assert int(fresh_python(code)) == len(modules) > 10


@pytest.mark.parametrize(
    "module",
    ["axes", "cli", "distance", "instances", "intensity", "metrics", "segment", "worklist"],
)
def test_modules_that_know_only_arrays_do_not_load_torch(module: str) -> None:
    code = f"import sys, napari_dinocell.core.{module}; print('torch' in sys.modules)"
    assert fresh_python(code) == "False"


@pytest.mark.parametrize("module", ["training.loop", "segmenter", "adapt"])
def test_training_and_segmenting_start_without_the_packages_of_other_parts(module: str) -> None:
    code = f"import sys, napari_dinocell.core.{module}; print(*sys.modules)"
    loaded = set(fresh_python(code).split())
    assert not {"zarr", "boto3", "wandb", "napari", "qtpy"} & loaded


def test_lazy_names_are_listed_and_lead_to_the_class() -> None:
    assert set(napari_dinocell.__all__) == set(dir(napari_dinocell))
    for name in napari_dinocell.__all__:
        assert getattr(napari_dinocell, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = napari_dinocell.absent


def test_no_source_file_is_longer_than_300_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == napari_dinocell.__version__ == citation["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_base_install_needs_no_viewer_and_no_exact_versions() -> None:
    for requirement in PROJECT["dependencies"]:
        assert not requirement.startswith(VIEWER)
        assert "==" not in requirement
        assert "<" not in requirement


def test_the_manifest_at_the_top_is_the_one_in_the_package() -> None:
    assert (ROOT / "napari.yaml").resolve() == PACKAGE / "napari.yaml"
    manifest = yaml.safe_load((PACKAGE / "napari.yaml").read_text())
    assert manifest["name"] == PROJECT["name"]
    assert 3 <= len(manifest["display_name"]) <= 90


def test_npe2_accepts_the_manifest() -> None:
    npe2 = pytest.importorskip("npe2", reason="npe2 comes with the extra [napari]")
    manifest = npe2.PluginManifest.from_file(PACKAGE / "napari.yaml")
    assert manifest.name == "napari-dinocell"


def test_the_continuous_integration_runs_what_the_readme_says() -> None:
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert any(line.endswith("make test") for line in lines)
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed; it comes with the extra [dev]")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps"]
    command += ["--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source
    assert {"napari_dinocell/napari.yaml", "napari_dinocell/py.typed"} <= packed
    assert "napari_dinocell/resources/samples/phase_contrast.png" in packed
    assert "napari_dinocell/resources/samples/LICENSE-usiigaci" in packed


def test_the_wheel_announces_the_plugin_and_one_command(wheel: zipfile.ZipFile) -> None:
    folder = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    entry_points = wheel.read(folder).decode()
    assert "[napari.manifest]\nnapari-dinocell = napari_dinocell:napari.yaml" in entry_points
    assert "[console_scripts]\nnapari-dinocell = napari_dinocell.core.cli:main" in entry_points
    metadata = HeaderParser().parsestr(
        wheel.read(folder.replace("entry_points.txt", "METADATA")).decode()
    )
    assert "Framework :: napari" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "BSD-3-Clause"


def test_the_wheel_declares_what_its_modules_import(wheel: zipfile.ZipFile) -> None:
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = HeaderParser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist", [])
    declared: dict[str, set[str]] = {"base": set(), "napari": set(), "any": set()}
    for requirement in map(Requirement, lines):
        marker, name = str(requirement.marker), canonicalize_name(requirement.name)
        if 'extra == "dev"' in marker:
            continue
        declared["any"].add(name)
        if "extra" not in marker:
            declared["base"].add(name)
        elif 'extra == "napari"' in marker:
            declared["napari"].add(name)
    base, viewer = declared["base"], declared["napari"]
    homes = packages_distributions()
    used, undeclared = set(), []
    for file in wheel.namelist():
        if not file.endswith(".py"):
            continue
        at_once, later = third_party(ast.parse(wheel.read(file)))
        is_widget = file.startswith("napari_dinocell/widgets/")
        allowed_at_once = base | viewer if is_widget else base
        for module in at_once | later:
            allowed = allowed_at_once if module in at_once else declared["any"]
            names = {canonicalize_name(name) for name in homes.get(module, [module])}
            used |= names
            if not names & allowed:
                undeclared.append(f"{file}: {module}")
    assert undeclared == []
    assert base - used == set()
    assert viewer - used == set()


def third_party(module: ast.Module) -> tuple[set[str], set[str]]:
    """Packages of others that a module imports when it is imported, and in its functions."""
    at_once: set[str] = set()
    later: set[str] = set()

    def look(nodes: Iterable[ast.AST], found: set[str]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                if not node.level:
                    found.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                look(node.orelse, found)
            else:
                is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                look(ast.iter_child_nodes(node), later if is_function else found)

    look(module.body, at_once)
    ours = {*sys.stdlib_module_names, "napari_dinocell"}
    return at_once - ours, later - ours


def test_imports_are_told_apart_by_when_they_run() -> None:
    code = """
import os, numpy.linalg
from . import sibling
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import pandas
try:
    from scipy import ndimage
except ImportError:
    pass
class A:
    import skimage
    def method(self):
        import torch
"""
    assert third_party(ast.parse(code)) == ({"numpy", "scipy", "skimage"}, {"torch"})


def test_the_workflow_runs_on_every_system_and_python_that_is_promised() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]
    matrix = jobs["plugin"]["strategy"]["matrix"]
    stem = "Programming Language :: Python :: "
    promised = [c.removeprefix(stem) for c in PROJECT["classifiers"] if c.startswith(f"{stem}3.")]
    assert matrix["python"] == promised
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert {matrix["qt"][0], *(row["qt"] for row in matrix["include"])} == {"PySide6", "PyQt6"}
    assert any(step.get("run") == ".ci/run" for step in jobs["everything"]["steps"])
    assert any("--pre" in step.get("run", "") for step in jobs["next-napari"]["steps"])
