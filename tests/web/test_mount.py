"""What is set up when the workbench is put under an application."""

import subprocess
import sys

from streamlit import config

from wordmill.channels.web import mount

STARTED = """
import gc
from fastapi.testclient import TestClient
from wordmill.channels.api.app import make_app
from wordmill.channels.house import open_house
from wordmill.channels.web.mount import mount
from wordmill.settings import load

with open_house(load()) as house:
    app = make_app(house)
    mount(app, house)
    before = gc.get_freeze_count()
    with TestClient(app, base_url="http://localhost") as browser:
        assert browser.get("/login", follow_redirects=False).status_code == 303
        print(before, gc.get_freeze_count())
"""


def test_what_is_loaded_at_the_start_is_not_looked_at_again_by_the_garbage_collector() -> None:
    # In a process of its own: it freezes everything that there is.
    done = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert before < 1000  # what the interpreter itself freezes
    assert after > 100_000


def test_the_locks_of_the_framework_are_on() -> None:
    assert config.get_option("server.enableXsrfProtection") is True
    assert config.get_option("server.enableCORS") is True
    options = mount.options()
    assert options["client.showErrorDetails"] == "none"
    assert options["browser.gatherUsageStats"] is False
    assert all(name in config.get_config_options() for name in options)
