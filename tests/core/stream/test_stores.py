from dataclasses import replace

import pytest

from napari_dinocell.core.stream.stores import (
    Fetched,
    FetchError,
    LocalStore,
    S3Settings,
    S3Store,
    Stores,
    split_address,
)

BODY = bytes(range(256)) * 1000
KEY = "batch/BR5867a3__2022-04-29T01_02_16-Measurement 1/Images/r01c01f01p01-ch3sk1fk1fl1.tiff"
ADDRESS = f"s3://public/{KEY}"


@pytest.fixture
def store(s3_server, proxy) -> S3Store:
    s3_server.client().put_object(Bucket="public", Key=KEY, Body=BODY)
    return S3Store(S3Settings(endpoint_url=proxy.url, read_timeout_s=2.0, connect_timeout_s=2.0))


def test_an_object_is_read_anonymously_also_with_a_space_in_its_key(store):
    assert store.get(ADDRESS) == Fetched(BODY, is_verified=True)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("slow down", "slow down"),
        ("unavailable", "slow down"),
        ("page", "server"),
        ("reset", "connection"),
        ("reset in body", "cut short"),
        ("truncate", "cut short"),
        ("stall", "timeout"),
        ("flip", "checksum"),
    ],
)
def test_each_fault_is_one_request_and_an_error_of_its_kind(store, proxy, fault, kind):
    proxy.break_next(KEY, [fault])
    with pytest.raises(FetchError) as caught:
        store.get(ADDRESS)
    assert caught.value.kind == kind
    assert not caught.value.is_permanent
    assert proxy.requests[KEY] == 1  # retries are the caller's
    assert store.get(ADDRESS).data == BODY


def test_a_flipped_byte_is_noticed_by_the_stored_checksum_alone(store, proxy):
    proxy.hidden = {"etag"}
    assert store.get(ADDRESS).is_verified
    proxy.break_next(KEY, ["flip"])
    with pytest.raises(FetchError) as caught:
        store.get(ADDRESS)
    assert caught.value.kind == "checksum"


def test_a_flipped_byte_is_noticed_by_the_etag_alone(store, proxy):
    proxy.hidden = {"x-amz-checksum-crc32"}
    assert store.get(ADDRESS).is_verified
    proxy.break_next(KEY, ["flip"])
    with pytest.raises(FetchError, match=r"MD5 .* data\.etag_md5=false") as caught:
        store.get(ADDRESS)
    assert caught.value.kind == "checksum"
    lenient = S3Store(replace(store.settings, is_etag_md5=False))
    assert lenient.get(ADDRESS) == Fetched(BODY, is_verified=False)
    proxy.break_next(KEY, ["flip"])
    assert not lenient.get(ADDRESS).is_verified


def test_bytes_that_nothing_vouches_for_are_not_called_verified(store, proxy):
    proxy.hidden = {"etag", "x-amz-checksum-crc32"}
    assert store.get(ADDRESS) == Fetched(BODY, is_verified=False)
    proxy.break_next(KEY, ["flip"])
    assert not store.get(ADDRESS).is_verified


def test_the_etag_of_an_upload_in_parts_is_not_taken_for_an_md5(s3_server):
    client, key = s3_server.client(), "parts"
    upload = client.create_multipart_upload(Bucket="public", Key=key)["UploadId"]
    parts = []
    for number in (1, 2):
        answer = client.upload_part(
            Bucket="public", Key=key, UploadId=upload, PartNumber=number, Body=BODY * 21
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(
        Bucket="public", Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
    )
    assert client.head_object(Bucket="public", Key=key)["ETag"].strip('"').endswith("-2")
    fetched = S3Store(S3Settings(endpoint_url=s3_server.url)).get(f"s3://public/{key}")
    assert fetched.data == BODY * 42


def test_what_does_not_exist_or_is_closed_is_permanent(s3_server):
    client = s3_server.client()
    if "private" not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="private")
    client.put_object(Bucket="private", Key="x", Body=b"x")
    store = S3Store(S3Settings(endpoint_url=s3_server.url))
    for address, kind in (
        ("s3://public/nothing here", "not found"),
        ("s3://private/x", "access denied"),
    ):
        with pytest.raises(FetchError) as caught:
            store.get(address)
        assert (caught.value.kind, caught.value.is_permanent) == (kind, True)


def test_signed_requests_take_credentials_of_the_environment(s3_server, monkeypatch):
    client = s3_server.client()
    if "private" not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="private")
    client.put_object(Bucket="private", Key="y", Body=b"secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    store = S3Store(S3Settings(endpoint_url=s3_server.url, is_signed=True))
    assert store.get("s3://private/y").data == b"secret"


def test_a_server_that_is_not_there_is_a_connection_error(s3_server, proxy):
    proxy.close()
    with pytest.raises(FetchError) as caught:
        S3Store(S3Settings(endpoint_url=proxy.url, connect_timeout_s=0.5)).get(ADDRESS)
    assert caught.value.kind == "connection"


def test_a_body_that_takes_longer_than_its_deadline_is_given_up(s3_server, proxy):
    s3_server.client().put_object(Bucket="public", Key="large", Body=BODY * 20)
    store = S3Store(S3Settings(endpoint_url=proxy.url, deadline_s=0.0))
    with pytest.raises(FetchError, match="more than 0 s") as caught:
        store.get("s3://public/large")
    assert caught.value.kind == "timeout"


def test_local_files_and_buckets_are_told_apart_by_their_address(store, tmp_path):
    stores = Stores(store.settings)
    (tmp_path / "x").write_bytes(b"here")
    assert stores.get(str(tmp_path / "x")) == Fetched(b"here", is_verified=True)
    assert stores.get(ADDRESS).data == BODY


def test_a_local_file_that_is_missing_is_permanent(tmp_path):
    with pytest.raises(FetchError) as caught:
        LocalStore().get(str(tmp_path / "none"))
    assert (caught.value.kind, caught.value.is_permanent) == ("not found", True)
    with pytest.raises(FetchError) as caught:
        LocalStore().get(str(tmp_path))
    assert caught.value.kind == "disk"


@pytest.mark.parametrize("address", ["s3://bucket", "s3://bucket/", "s3:///key", "/path"])
def test_addresses_without_bucket_or_key_are_refused(address):
    with pytest.raises(ValueError, match="s3://bucket/key"):
        split_address(address)
