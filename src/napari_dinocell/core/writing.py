"""Write files whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_dinocell.core.errors import OutputFileError

_REASONS = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "there is no permission to write there",
    errno.EROFS: "the disk is read-only",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is not a folder",
    errno.EISDIR: "there is a folder of that name",
    errno.ENAMETOOLONG: "the name is too long",
}


def make_folder(folder: Path) -> None:
    """Make a folder for results, and those that it lies in.

    Raises
    ------
    OutputFileError
        If that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, str(error))
        raise OutputFileError(
            f"The folder {folder} cannot be made: {reason}; choose another."
        ) from error


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is there at the end takes its place at once.

    Yields
    ------
    Path
        Write a file or a folder there. After an error it is removed, and what was at `path`
        before is still there.

    Raises
    ------
    OutputFileError
        If the disk is full or the place cannot be written to.
    """
    path = Path(path)
    # Short, so that a name that fits the file system still fits with the addition.
    temporary = path.with_name(f".{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            # Without the flush, a power cut after the rename could leave an empty file.
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, str(error))
        raise OutputFileError(f"{path} cannot be written: {reason}.") from error
    finally:
        _remove(temporary)


def _replace_folder(new: Path, path: Path) -> None:
    """Put a folder in place of another; rename alone refuses a full one."""
    old = path.with_name(f".{secrets.token_hex(4)}")
    had_one = path.exists()
    if had_one:
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if had_one:
            os.replace(old, path)
        raise
    if had_one:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
