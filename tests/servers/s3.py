"""An S3 server of one's own: moto's, on a port the system chose; its data is in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

KEY, SECRET, REGION = "AKIDWORDMILLTESTS", "secret-of-the-tests", "eu-central-1"


@dataclass
class Server:
    """One that listens at `endpoint`; every bucket must be made first."""

    endpoint: str

    @property
    def url(self) -> str:
        """Where it is, for AWS_ENDPOINT_URL."""
        return self.endpoint

    @property
    def variables(self) -> dict[str, str]:
        """What a client's environment holds."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip

    def client(self) -> Any:
        """A client of its own, to look at what is there."""
        from botocore.config import Config
        from botocore.session import get_session

        return get_session().create_client(
            "s3", region_name=REGION, endpoint_url=self.endpoint, aws_access_key_id=KEY,
            aws_secret_access_key=SECRET, config=Config(retries={"max_attempts": 1}),
        )  # fmt: skip

    def bucket(self, name: str) -> str:
        """Make a bucket; its `storage_url`."""
        self.client().create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        return f"s3://{name}"

    def check_keys(self, after: int = 0) -> None:
        """From the call after that many on, keys count; nobody has good ones."""
        self._told("reset-auth", str(after))

    def forget(self) -> None:
        """Everything."""
        self._told("reset", "")

    def trust(self) -> None:
        """Keys do not count any more."""
        self._told("reset-auth", "inf")

    def _told(self, what: str, content: str) -> None:
        answer = httpx.post(f"{self.endpoint}/moto-api/{what}", content=content, trust_env=False)
        answer.raise_for_status()


@contextmanager
def serving() -> Iterator[Server]:
    """Start a server, and end it."""
    from moto.server import ThreadedMotoServer  # slow to import

    threaded = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    threaded.start()
    try:
        host, port = threaded.get_host_and_port()
        yield Server(f"http://{host}:{port}")
    finally:
        threaded.stop()
