"""Find load_data tables below a folder or a prefix of a bucket.

Only for the few folders of tables: the images themselves are never listed.
"""

import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from .fetch import RetryPolicy
from .stores import S3Settings, refusal, s3_client

# With illumination first: where both exist, the gallery keeps these up to date.
TABLE_NAMES = tuple(
    f"load_data{kind}.{ending}"
    for kind in ("_with_illum", "")
    for ending in ("parquet", "csv.gz", "csv")
)


def tables_below(place: str, s3: S3Settings, policy: RetryPolicy | None = None) -> list[str]:
    """One load_data table for each folder below `place`, the best of those that it has.

    Parameters
    ----------
    place : str
        Folder, or ``s3://bucket/prefix/``.

    Raises
    ------
    FetchError
        If the bucket cannot be listed.
    FileNotFoundError
        If there is no table.
    """
    if place.startswith("s3://"):
        found = _in_bucket(place, s3, policy or RetryPolicy())
    else:
        found = [path.as_posix() for path in Path(place).rglob("load_data*") if path.is_file()]
    best = _best_of_each_folder(found)
    if not best:
        raise FileNotFoundError(f"There is no load_data table below {place}.")
    return best


def _best_of_each_folder(addresses: Iterable[str]) -> list[str]:
    best: dict[str, tuple[int, str]] = {}
    for address in addresses:
        folder, _, name = address.rpartition("/")
        if name in TABLE_NAMES:
            rank = TABLE_NAMES.index(name), address
            best[folder] = min(rank, best.get(folder, rank))
    return [address for _, (_, address) in sorted(best.items())]


def _in_bucket(place: str, s3: S3Settings, policy: RetryPolicy) -> list[str]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  optional extra

    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    client, attempt = s3_client(s3), 0
    found: list[str] = []
    more: dict[str, str] = {}
    while True:
        try:
            page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **more)
        except (BotoCoreError, ClientError) as error:
            refused = refusal(error, place)
            attempt += 1
            if refused.is_permanent or attempt >= policy.n_tries:
                raise refused from error
            time.sleep(policy.pause_s(attempt))
            continue
        keys = [str(item["Key"]) for item in page.get("Contents", ())]
        found += [f"s3://{bucket}/{k}" for k in keys if PurePosixPath(k).name in TABLE_NAMES]
        if not page.get("IsTruncated"):
            return found
        more, attempt = {"ContinuationToken": page["NextContinuationToken"]}, 0
