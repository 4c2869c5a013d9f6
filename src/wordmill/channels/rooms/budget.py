"""How often a service lets us write: a bucket of messages that fills slowly, learnt as we go.

A service says little about its limits until one of them is reached. So the budget begins with the
strictest that is common, takes what a refusal says for true, and grows when more was let through
than it believed possible. It bounds only what could as well be left out (edits of an answer that
grows): what must be said is said, and waits where the service asks for it.
"""

import time
from collections.abc import Callable
from typing import Final

RATE: Final = 0.2
BURST: Final = 10.0
"""Of Synapse, unless its admin says otherwise: messages a second, and at once."""
FASTEST: Final = 20.0


class Budget:
    """Room for messages. Used in one event loop.

    rate: messages a second, as believed now.  burst: the most at once.
    kept: room that `spare` leaves for what must be said.
    """

    def __init__(
        self,
        rate: float = RATE,
        burst: float = BURST,
        kept: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate, self.burst, self.kept = rate, burst, kept
        self._room, self._at, self._clock = burst, clock(), clock
        self._closed_until = -10.0 + clock()
        self.waiting = 0
        """Answers that still have their last words to say: room is kept for each."""

    @property
    def room(self) -> float:
        """Messages that should pass now; below 0 when more passed than was believed."""
        moment = self._clock()
        passed, self._at = max(0.0, moment - self._at), moment
        self._room = min(self.burst, self._room + passed * self.rate)
        return self._room

    @property
    def closed(self) -> float:
        """Seconds until the service takes anything again, as it said; 0 for now."""
        return max(0.0, self._closed_until - self._clock())

    @property
    def tight(self) -> bool:
        """Whether the service refused something lately: then one message follows another."""
        return self._clock() < self._closed_until + 10.0

    def spare(self) -> bool:
        """Whether something that could be left out may be sent now."""
        kept = self.kept * max(1, self.waiting)
        return self.closed == 0.0 and self.room >= 1.0 + min(kept, self.burst / 2)

    def sent(self) -> None:
        """Something was sent and passed."""
        if self.room < -1.0:  # the service takes more than was believed
            self.rate = min(FASTEST, self.rate * 2)
            self.burst = max(self.burst, self.rate * 10)
            self._room = 0.0
        self._room -= 1.0

    def refused(self, seconds: float) -> None:
        """The service refused something, and takes the next after so many seconds."""
        moment = self._clock()
        self._room, self._at = 0.0, moment
        self._closed_until = max(self._closed_until, moment + seconds)
        if seconds > 0:  # it opens when there is room for one: that is at most the rate
            self.rate = max(0.01, min(self.rate, 1.0 / seconds))
