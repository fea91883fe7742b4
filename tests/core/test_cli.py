"""The console script, the doctor, and what all commands share."""

import json
import re
import subprocess
import sys
from typing import Annotated

import pytest
import typer

from napari_dinocell import __version__
from napari_dinocell.core import cli, console, doctor
from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.samples import SAMPLES, sample_path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "napari_dinocell.core.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_lists_every_command_and_ends_with_0() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in cli.COMMANDS)


def test_no_command_shows_the_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "Usage" in capsys.readouterr().out


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"napari-dinocell {__version__}\n"


def test_a_misspelt_command_names_the_nearest() -> None:
    done = run("segmnt")
    assert done.returncode == 2
    assert done.stderr == "There is no command 'segmnt'; did you mean 'segment'?\n"


def test_help_and_refusals_do_not_load_torch() -> None:
    code = (
        "import sys; from napari_dinocell.core import cli; "
        "cli.main(['segment', 'absent.png', '-o', 'out']); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "False\n"
    assert "absent.png does not exist" in done.stderr


def command(
    kind: Annotated[str, typer.Argument()], debug: Annotated[bool, typer.Option()] = False
) -> int:
    """End in one of the ways in which a command can end."""
    errors: dict[str, BaseException] = {
        "value": ValueError("Peak 2 is too large;\n   choose one below 1."),
        "fault": ZeroDivisionError("division by zero"),
        "interrupt": KeyboardInterrupt(),
        "cancel": Cancelled(),
        "file": FileNotFoundError(2, "No such file or directory", "x.png"),
    }
    if kind in errors:
        raise errors[kind]
    return int(kind)


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("0", 0, ""),
        ("1", 1, ""),
        ("value", 2, "Peak 2 is too large; choose one below 1.\n"),
        ("file", 2, "No such file or directory: x.png\n"),
        ("fault", 2, "ZeroDivisionError: division by zero\n"),
        ("interrupt", 130, "Interrupted.\n"),
        ("cancel", 130, "Interrupted.\n"),
    ],
)
def test_every_end_has_its_exit_code_and_one_sentence(
    capsys: pytest.CaptureFixture[str], kind: str, code: int, text: str
) -> None:
    assert console.run(command, [kind], "test") == code
    assert capsys.readouterr().err == text


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(command, ["fault", "--debug"], "test") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(command, ["0", "--colour"], "test") == 2
    assert "--colour" in capsys.readouterr().err


def test_doctor_tells_versions_devices_folders_and_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = doctor.main(["--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["versions"]["napari-dinocell"] == __version__
    assert report["versions"]["numpy"][0].isdigit()
    assert "cpu" in report["devices"]
    # A binding may come from a distribution of another name, such as PySide6-Essentials.
    assert re.fullmatch(r"(\w+ [\d.]+(, )?)+|none .*", report["Qt"]["bindings"])
    assert 0 < report["memory"]["available"] <= report["memory"]["total"]
    assert report["folders"]["free there"] > 0
    missing = [v for part in report.values() for v in part.values() if v == doctor.MISSING]
    assert code == (1 if missing else 0)


def test_doctor_prints_every_entry_on_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    doctor.main([])
    lines = capsys.readouterr().out.splitlines()
    n_entries = sum(1 + len(part) for part in doctor.report().values())
    assert len(lines) == n_entries


def test_each_sample_image_is_there_and_has_a_licence() -> None:
    attribution = (SAMPLES[0].path.parent / "ATTRIBUTION.md").read_text()
    assert len({sample.key for sample in SAMPLES}) == len(SAMPLES) == 3
    for sample in SAMPLES:
        assert sample_path(sample.key).stat().st_size > 10_000
        assert f"`{sample.path.name}`" in attribution


def test_an_unknown_sample_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="phase_contrast"):
        sample_path("yeast")
