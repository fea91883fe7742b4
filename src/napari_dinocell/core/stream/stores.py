"""Where objects come from: a bucket or this machine; one request each, no retries.

Retries belong to `fetch`, because most failures happen while the body is read, where boto3's own
retries no longer help.
"""

import hashlib
import os
import re
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

_CHUNK = 1 << 20
BUSY, DENIED = "slow down", "access denied"  # kinds of FetchError that mean the store
_SHORT = "cut short"
_PERMANENT = {
    "NoSuchKey": "not found",
    "NoSuchBucket": "not found",
    "404": "not found",
    "AccessDenied": DENIED,
    "403": DENIED,
    "InvalidAccessKeyId": DENIED,
    "SignatureDoesNotMatch": DENIED,
}
_BUSY_CODES = ("SlowDown", "RequestLimitExceeded", "Throttling", "TooManyRequests", "503", "429")


class FetchError(Exception):
    """An object could not be fetched.

    Attributes
    ----------
    kind : str
        Counted under this name.
    is_permanent : bool
        Whether asking again is useless.
    """

    def __init__(self, kind: str, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.kind, self.is_permanent = kind, is_permanent


@dataclass(frozen=True)
class Fetched:
    """An object's bytes, and whether a checksum of the store vouches for them."""

    data: bytes
    is_verified: bool


class Store(Protocol):
    """Something that answers one request for one object."""

    def get(self, address: str) -> Fetched:
        """The object at an address; raises FetchError."""


class LocalStore:
    """Files of this machine."""

    def get(self, address: str) -> Fetched:
        """The file's bytes; the disk vouches for them."""
        try:
            return Fetched(Path(address).read_bytes(), is_verified=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FetchError("not found", f"{address} does not exist", is_permanent=True) from error
        except PermissionError as error:
            raise FetchError(DENIED, str(error), is_permanent=True) from error
        except OSError as error:
            raise FetchError("disk", str(error)) from error


@dataclass(frozen=True)
class S3Settings:
    """How a bucket is reached.

    Attributes
    ----------
    endpoint_url : str or None
        Of a store other than AWS.
    region : str
        Where the bucket lies.
    is_signed : bool
        False reads a public bucket anonymously; True takes credentials from the environment.
    is_etag_md5 : bool
        Whether an ETag of 32 digits is the MD5 of the bytes, as S3 has it for objects that were
        uploaded in one part and not encrypted with a customer's key.
    connect_timeout_s, read_timeout_s : float
        For a connection, and between two parts of an answer.
    deadline_s : float
        For one whole object: a body that drips is given up.
    n_connections : int
        Kept open at most.
    """

    endpoint_url: str | None = None
    region: str = "us-east-1"
    is_signed: bool = False
    is_etag_md5: bool = True
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0
    deadline_s: float = 60.0
    n_connections: int = 32


class S3Store:
    """Objects of S3 or a compatible store, each checked by length, stored checksum and MD5."""

    def __init__(self, settings: S3Settings | None = None) -> None:
        self.settings = settings or S3Settings()
        self._lock = Lock()
        self._client: Any = None
        self._process = 0
        _require_boto3()

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"])  # type: ignore[misc]

    def get(self, address: str) -> Fetched:
        """Fetch and check one object."""
        bucket, key = split_address(address)
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  optional extra
        from botocore.httpchecksum import StreamingChecksumBody  # noqa: PLC0415
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        try:
            answer = self._connected().get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            # Not `with`: that hands out the stream below, which checks neither length nor checksum.
            body = answer["Body"]
            try:
                data = self._read(body)
            finally:
                body.close()
        except (ClientError, BotoCoreError, ResponseParserError, OSError) as error:
            raise refusal(error, address) from error
        if len(data) != answer.get("ContentLength", len(data)):
            raise FetchError(_SHORT, f"{address} has {len(data)} bytes, fewer than told")
        # Such a body has compared the bytes with the checksum that is stored with the object.
        is_verified = isinstance(body, StreamingChecksumBody)
        return Fetched(data, is_verified or self._is_md5_right(address, data, answer))

    def _read(self, body: Any) -> bytes:
        end = time.monotonic() + self.settings.deadline_s
        parts = []
        while part := body.read(_CHUNK):
            parts.append(part)
            if time.monotonic() > end:
                raise FetchError(
                    "timeout", f"An object took more than {self.settings.deadline_s:g} s"
                )
        return b"".join(parts)

    def _is_md5_right(self, address: str, data: bytes, answer: dict[str, Any]) -> bool:
        """Whether the ETag is an MD5, which then vouches for the bytes; a wrong one is an error."""
        etag = answer.get("ETag", "").strip('"').lower()
        is_foreign = "aws:kms" in answer.get("ServerSideEncryption", "") or (
            "SSECustomerAlgorithm" in answer
        )
        if not self.settings.is_etag_md5 or is_foreign or not re.fullmatch("[0-9a-f]{32}", etag):
            return False
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != etag:
            raise FetchError(
                "checksum",
                f"{address} does not have the MD5 of its ETag (if no object of this store has, set "
                "data.etag_md5=false, or --no-etag-md5 where a manifest is built)",
            )
        return True

    def _connected(self) -> Any:
        """The client of this process: connections must not be shared across a fork."""
        with self._lock:
            if self._client is None or self._process != os.getpid():
                self._client, self._process = s3_client(self.settings), os.getpid()
            return self._client


class Stores:
    """The store that each address belongs to."""

    def __init__(self, s3: S3Settings | None = None) -> None:
        self._local, self._settings = LocalStore(), s3
        self._s3: S3Store | None = None
        self._lock = Lock()

    def get(self, address: str) -> Fetched:
        """The object at a path or an `s3://` address."""
        if not address.startswith("s3://"):
            return self._local.get(address)
        with self._lock:
            self._s3 = self._s3 or S3Store(self._settings)
        return self._s3.get(address)


def split_address(address: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not address.startswith("s3://") or not bucket or not key:
        raise ValueError(f"{address!r} is not an object in S3; write s3://bucket/key.")
    return bucket, key


def refusal(error: Exception, address: str) -> FetchError:
    """What a failed request is called, and whether to try again."""
    from botocore import exceptions  # noqa: PLC0415  optional extra
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    message = f"{address}: {error}"
    if isinstance(error, exceptions.ClientError):
        return _answered(error, message)
    if isinstance(error, exceptions.FlexibleChecksumError):
        return FetchError("checksum", message)
    if isinstance(error, (exceptions.IncompleteReadError, exceptions.ResponseStreamingError)):
        return FetchError(_SHORT, message)
    if isinstance(error, (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError)):
        return FetchError("timeout", message)
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return FetchError(DENIED, str(error), is_permanent=True)
    if isinstance(error, ResponseParserError):  # an answer that is not S3's, such as a proxy's page
        return FetchError("server", message)
    return FetchError("connection", message)


def _answered(error: Any, message: str) -> FetchError:
    """An error that the store itself names."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _PERMANENT:
        return FetchError(_PERMANENT[code], message, is_permanent=True)
    if code in _BUSY_CODES or status in (429, 503):
        return FetchError(BUSY, message)
    return FetchError("server" if status >= 500 else "refused", message)


def _require_boto3() -> None:
    if find_spec("boto3") is None:
        raise ImportError(
            'Streaming from s3:// needs boto3: pip install "napari-dinocell[s3]".', name="boto3"
        )


def s3_client(settings: S3Settings) -> Any:
    """A boto3 client that makes one request per call: who calls it retries."""
    import boto3  # noqa: PLC0415  optional extra
    from botocore import UNSIGNED  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        signature_version=None if settings.is_signed else UNSIGNED,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=settings.n_connections,
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        tcp_keepalive=True,
    )
    session = boto3.session.Session()
    return session.client(
        "s3", region_name=settings.region, endpoint_url=settings.endpoint_url, config=config
    )
