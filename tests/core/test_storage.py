import io
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import numpy as np
import pytest
import tifffile
from botocore import UNSIGNED
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import read_image
from napari_dinocell.core.storage import LocalFile, S3File, natural_key, open_file

PIXELS = np.arange(6000, dtype=np.uint16).reshape(60, 100)


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, PIXELS, compression="zlib")
        client.put_object(Bucket="bucket", Key="plate/img 10.tif", Body=buffer.getvalue())
        client.put_object(Bucket="bucket", Key="plate/img 2.txt", Body=b"0123456789")
        client.put_object(Bucket="bucket", Key="plate/sub/x", Body=b"")
        yield client


def files(tmp_path):
    folder = tmp_path / "plate"
    (folder / "sub").mkdir(parents=True)
    (folder / "img 2.txt").write_bytes(b"0123456789")
    (folder / "img 10.tif").write_bytes(b"")
    (folder / "sub" / "x").write_bytes(b"")
    return LocalFile(folder)


@pytest.mark.parametrize("place", ["local", "s3"])
def test_local_and_remote_files_answer_alike(place, bucket, tmp_path):
    folder = files(tmp_path) if place == "local" else S3File("s3://bucket/plate/")
    assert folder.exists()
    assert folder.is_folder()
    assert folder.names() == ["img 2.txt", "img 10.tif", "sub"]
    text = folder.child("img 2.txt")
    assert text.exists()
    assert not text.is_folder()
    assert text.suffix == ".txt"
    with text.open() as stream:
        assert stream.read() == text.read() == b"0123456789"
    assert text.read(3, 4) == b"3456"
    assert text.read(8, 100) == b"89"
    assert text.read(100, 5) == b""
    assert not folder.child("none").exists()
    assert str(text).endswith("plate/img 2.txt")


def test_images_on_s3_are_read(bucket):
    image = read_image("s3://bucket/plate/img 10.tif")
    np.testing.assert_array_equal(image.array, PIXELS)
    assert image.source == "s3://bucket/plate/img 10.tif"


@pytest.mark.parametrize("url", ["s3://bucket/none.tif", "s3://bucket/plat"])
def test_an_object_that_is_not_there_is_named(bucket, url):
    with pytest.raises(FileNotFoundError, match=url):
        read_image(url)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("s3://no-such-bucket/a.tif", "no-such-bucket.*NoSuchBucket"),
        ("s3://bucket/plate", "is a folder"),
        ("s3://bucket/plate/img 2.txt", "not supported"),
    ],
)
def test_problems_on_s3_are_one_sentence(bucket, url, complaint):
    with pytest.raises(ImageFileError, match=complaint):
        read_image(url)


def test_an_address_without_a_bucket_is_refused():
    with pytest.raises(ValueError, match="s3://bucket/key"):
        S3File("s3://", client=object())


def test_a_missing_boto3_names_the_extra():
    code = """
import sys
sys.modules["boto3"] = None  # as if it were not installed
from napari_dinocell.core.storage import open_file
try:
    open_file("s3://bucket/a.tif")
except ValueError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "napari-dinocell[s3]"' in run.stdout


def test_a_local_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.tif does not exist"):
        open_file(tmp_path / "none.tif")


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 10**6), min_size=2))
def test_names_that_differ_by_a_number_are_sorted_by_it(numbers):
    names = [f"img{n}.tif" for n in numbers]
    assert sorted(names, key=natural_key) == [f"img{n}.tif" for n in sorted(numbers)]


def test_names_of_any_form_have_an_order():
    ordered = ["", "1", "1a", "a", "a01", "a1", "a1b", "b", "²"]
    assert sorted(["b", "²", "a1b", "1a", "", "a1", "a01", "1", "a"], key=natural_key) == ordered


class _CutsShort(BaseHTTPRequestHandler):
    """Announces 100 bytes and hangs up after 50."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(bytes(50))

    def log_message(self, *words):
        pass


def test_an_object_whose_transfer_breaks_off_is_an_error_and_no_shorter_object():
    with HTTPServer(("127.0.0.1", 0), _CutsShort) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            region_name="us-east-1",
            config=Config(signature_version=UNSIGNED),
        )
        with pytest.raises(ImageFileError, match=r"s3://bucket/a\.tif cannot be read"):
            S3File("s3://bucket/a.tif", client).read()
        client.close()
        server.shutdown()
