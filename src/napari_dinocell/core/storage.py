"""Files, folders and S3 prefixes behind one small interface: list, exists, open, read a range."""

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from napari_dinocell.core.errors import ImageFileError


class LocalFile:
    """A path on this machine."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def __str__(self) -> str:
        return str(self._path)

    @property
    def suffix(self) -> str:
        """Ending with its dot, as written."""
        return self._path.suffix

    def exists(self) -> bool:
        """Whether there is a file or folder."""
        return self._path.exists()

    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self._path.is_dir()

    def child(self, name: str) -> "LocalFile":
        """File or folder below this folder."""
        return LocalFile(self._path / name)

    def names(self) -> list[str]:
        """Names directly inside this folder, in natural order."""
        return sorted(os.listdir(self._path), key=natural_key)

    def open(self) -> BinaryIO:
        """Open for reading bytes."""
        return self._path.open("rb")

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """Up to `length` bytes from `start` on; all by default."""
        with self._path.open("rb") as stream:
            stream.seek(start)
            return stream.read(-1 if length is None else length)

    def local_path(self) -> Path:
        """Path for libraries that want one."""
        return self._path


class S3File:
    """An object or prefix in S3 or a compatible store; signed if there are credentials.

    Parameters
    ----------
    url : str
        `s3://bucket/key`.
    client : boto3 S3 client, optional
        Made from the environment by default.
    """

    def __init__(self, url: str, client: Any = None) -> None:
        match = re.fullmatch(r"s3://([^/]+)/?(.*?)/?", url)
        if match is None:
            raise ValueError(f"{url!r} is not an S3 address; write s3://bucket/key.")
        self._url = url
        self._bucket, self._key = match.groups()
        self._client = client or _s3_client()

    def __str__(self) -> str:
        return self._url

    @property
    def suffix(self) -> str:
        """Ending with its dot, as written."""
        return Path(self._key).suffix

    def exists(self) -> bool:
        """Whether there is an object or a prefix of that name."""
        return self._is_object() or self.is_folder()

    def _is_object(self) -> bool:
        try:
            self._client.head_object(Bucket=self._bucket, Key=self._key)
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                return False
            raise ImageFileError(f"{self} cannot be read: {error}") from error
        return True

    def is_folder(self) -> bool:
        """Whether objects lie below it."""
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix(), MaxKeys=1)
        return bool(found.get("KeyCount"))

    def _prefix(self) -> str:
        return f"{self._key}/" if self._key else ""

    def child(self, name: str) -> "S3File":
        """Object or prefix below this prefix."""
        return S3File(f"s3://{self._bucket}/{self._prefix()}{name}", self._client)

    def names(self) -> list[str]:
        """Names directly below this prefix, in natural order."""
        prefix = self._prefix()
        names = []
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        )
        for page in pages:
            names += [item["Key"][len(prefix) :] for item in page.get("Contents", ())]
            names += [item["Prefix"][len(prefix) : -1] for item in page.get("CommonPrefixes", ())]
        return sorted(filter(None, names), key=natural_key)

    def open(self) -> BinaryIO:
        """Fetch the object and open it for reading bytes."""
        return io.BytesIO(self.read())

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """Up to `length` bytes from `start` on; all by default."""
        wanted = {}
        if start or length is not None:
            wanted["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415  optional extra

        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key, **wanted)
            # Not `with`: that hands out the stream below, which checks neither length nor checksum.
            body = answer["Body"]
            try:
                data: bytes = body.read()
            finally:
                body.close()
        except BotoCoreError as error:
            raise ImageFileError(f"{self} cannot be read: {error}") from error
        except self._client.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "NoSuchKey":
                raise FileNotFoundError(f"{self} does not exist.") from error
            if code == "InvalidRange":
                return b""
            raise ImageFileError(f"{self} cannot be read: {error}") from error
        return data

    def local_path(self) -> Path:
        """Refuse: there is none."""
        raise ImageFileError(f"{self} is not on this machine; copy it here first.")


File = LocalFile | S3File


def open_file(path: str | Path) -> File:
    """File or folder at a path or `s3://` address.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    """
    text = str(path)
    file: File = S3File(text) if text.startswith("s3://") else LocalFile(path)
    if not file.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    return file


def is_remote(file: File) -> bool:
    """Whether reading the file goes over the network."""
    return isinstance(file, S3File)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which `img2` comes before `img10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple((0, int(p), p) if p[0] in "0123456789" else (1, 0, p.lower()) for p in parts)


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sort paths folder by folder, numbers by their value."""
    return sorted(paths, key=lambda path: [natural_key(part) for part in path.parts])


def _s3_client() -> Any:
    try:
        import boto3  # noqa: PLC0415  optional extra
        from botocore import UNSIGNED  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415
    except ImportError as error:
        raise ImageFileError(
            'Addresses that start with s3:// need boto3: pip install "napari-dinocell[s3]".'
        ) from error
    session = boto3.session.Session()
    signed = session.get_credentials() is not None
    return session.client("s3", config=None if signed else Config(signature_version=UNSIGNED))
