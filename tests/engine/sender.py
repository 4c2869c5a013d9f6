"""A process that sends as much as its limit lets it: `python -m tests.engine.sender CONFIG`.

CONFIG is the engine's, as JSON. It sends until a line comes on its standard input, and then says
what it counted.
"""

import json
import sys
import threading

from wordmill._engine import Engine

AHEAD = 200
"""Requests that are offered before the answers to those before them have come."""


def main() -> None:
    """Send until told to stop."""
    config = json.loads(sys.argv[1])
    engine = Engine(json.dumps(config))
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "max_tokens": 10}).encode()
    offered = answered = 0
    while not ended.is_set():
        while offered - answered < AHEAD:
            offered += 1
            # Each with a salt of its own: no two are the same.
            ids, lane = [offered], config["lanes"][0]["name"]
            assert engine.submit_bodies(lane, "/chat/completions", ids, [body], ids, 5.0) == 1
        answered += len(engine.poll(1000, 0.1))
    print(engine.metrics(), flush=True)
    engine.close()


if __name__ == "__main__":
    main()
