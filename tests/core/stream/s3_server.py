"""A real S3 server (SeaweedFS) on loopback, which can be killed and started again."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

KEY, SECRET = "test-key", "test-secret"
START_S = 300  # on a machine that is busy


def weed_binary() -> str | None:
    """The server's program: of the environment that runs the tests, or of the system."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.is_file() else shutil.which("weed")


def free_ports(n: int) -> list[int]:
    """Ports that nothing listens on; below 50000, because the server may add 10000 to them."""
    sockets, ports = [], []
    while len(ports) < n:
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        sockets.append(probe)
        if probe.getsockname()[1] < 50000:
            ports.append(probe.getsockname()[1])
    for probe in sockets:
        probe.close()
    return ports


class S3Server:
    """One `weed server` process with everyone allowed to read, and one account to write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "data").mkdir(parents=True)
        accounts = {
            "identities": [
                {
                    "name": "writer",
                    "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
                    "actions": ["Admin", "Read", "Write", "List"],
                },
                {"name": "anonymous", "actions": ["Read:public", "List:public"]},
            ]
        }
        (folder / "accounts.json").write_text(json.dumps(accounts))
        names = ("master", "volume", "filer", "s3")
        ports = iter(free_ports(8))
        self._ports = {name: (next(ports), next(ports)) for name in names}
        self.port = self._ports["s3"][0]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, url: str | None = None):
        return boto3.client(
            "s3",
            endpoint_url=url or self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20),
        )

    def start(self) -> None:
        program = weed_binary()
        assert program is not None
        command = [program, "server", f"-dir={self._folder / 'data'}", "-ip=127.0.0.1", "-s3"]
        command += ["-ip.bind=127.0.0.1", "-s3.iam=false", "-volume.max=20"]
        # Listeners at fixed ports, which a second server could not have.
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        # The default lets a restarted server wait 10 s for other masters, of which there are none.
        command += ["-master.electionTimeout=300ms", "-master.heartbeatInterval=50ms"]
        command += [f"-s3.config={self._folder / 'accounts.json'}", "-master.volumeSizeLimitMB=64"]
        for name, (http, grpc) in self._ports.items():
            command += [f"-{name}.port={http}", f"-{name}.port.grpc={grpc}"]
        with (self._folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        self._wait()

    def _wait(self) -> None:
        """Until an object can be written and read: the parts of the server start one by one."""
        client, end = self.client(), time.monotonic() + START_S
        while True:
            try:
                if "public" not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
                    client.create_bucket(Bucket="public")
                client.put_object(Bucket="public", Key="ready", Body=b"yes")
                client.get_object(Bucket="public", Key="ready")["Body"].read()
            except (BotoCoreError, ClientError) as error:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > end:
                    log = (self._folder / "log.txt").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"The S3 server does not start: {error}\n{log}") from error
                time.sleep(0.2)
            else:
                return

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
