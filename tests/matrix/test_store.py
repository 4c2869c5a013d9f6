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


def test_the_sync_token_is_read_with_its_key_alone(tmp_path: Path) -> None:
    store = Store("@mill:example.org", "DEVICE", str(tmp_path), "a key")
    store.save_account(OlmAccount())
    assert store.load_sync_token() is None
    store.save_sync_token("s72594_4483_1934")
    for file in tmp_path.iterdir():
        assert b"s72594_4483_1934" not in file.read_bytes()
    assert Store("@mill:example.org", "DEVICE", str(tmp_path), "a key").load_sync_token() == (
        "s72594_4483_1934"
    )
    assert Store("@mill:example.org", "DEVICE", str(tmp_path), "another").load_sync_token() is None
