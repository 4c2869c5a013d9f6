"""Several accounts in one process keep their keys apart."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nio.crypto import OlmAccount

from wordmill.channels.matrix.store import Store

ACCOUNTS = 4
TIMES = 60


@pytest.mark.once
def test_what_several_accounts_keep_at_once_does_not_mix(tmp_path: Path) -> None:
    begin = threading.Barrier(ACCOUNTS)

    def work(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        begin.wait(30)
        store = Store(f"@mill{number}:example.org", "DEVICE", str(folder), "a key")
        account = OlmAccount()
        store.save_account(account)
        for time in range(TIMES):
            store.save_sync_token(f"{number} {time}")
            assert store.load_account().identity_keys == account.identity_keys
            assert store.load_sync_token() == f"{number} {time}"

    with ThreadPoolExecutor(ACCOUNTS) as threads:
        for one in [threads.submit(work, number) for number in range(ACCOUNTS)]:
            one.result()
