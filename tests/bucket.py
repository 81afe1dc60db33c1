"""A bucket of its own for tests: moto's S3 server, started in another process, and how to reach it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from results import storage

ROOT = Path(__file__).parents[1]
SEED = 20261125


class Server:
    """An S3 server with a bucket; `share` of what it is asked goes wrong."""

    def __init__(self, share: float) -> None:
        self.share = share
        command = [sys.executable, str(ROOT / "tests" / "s3_server.py"), "0", str(share), str(SEED)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline().split()[-1])
        self.faults: list[str] = []
        threading.Thread(target=lambda: self.faults.extend(self.process.stdout or []), daemon=True).start()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self) -> None:
        from pyarrow import fs

        options = {"access_key": "test", "secret_key": "test", "region": "us-east-1", "scheme": "http"}
        files = fs.S3FileSystem(endpoint_override=f"127.0.0.1:{self.port}", allow_bucket_creation=True, **options)
        deadline = time.monotonic() + 30
        while True:
            try:
                files.create_dir("bucket")
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def served(share: float = 0.0) -> Iterator[Server]:
    """A server with a bucket, which this process and those that it starts reach; the test is skipped without moto."""
    pytest.importorskip("moto", reason="moto's S3 server is needed: pip install 'moto[s3]' flask flask-cors")
    server = Server(share)
    server.make_bucket()
    before = dict(os.environ)
    os.environ.update(server.environment)
    storage._file_system.cache_clear()
    yield server
    os.environ.clear()
    os.environ.update(before)
    storage._file_system.cache_clear()
    server.stop()
