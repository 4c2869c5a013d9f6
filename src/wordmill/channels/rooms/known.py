"""A sender's account: one that is linked, a guest's, or none.

A chat account is known by the service and its full id there, never by a name: two people whose
names are alike on two servers are two people.
"""

from typing import Final

from wordmill.accounts import Accounts, Person
from wordmill.accounts.identities import guest_address, is_guest
from wordmill.channels.rooms.admission import Policy
from wordmill.errors import Conflict, Forbidden, WordmillError

CODE_MINUTES: Final = 10
MOST_GUESTS: Final = 200
"""New ones of one service in a day: each has a quota of its own, and costs money."""


class Known:
    """The accounts of those who talk at one service. Safe from any thread."""

    def __init__(self, accounts: Accounts, kind: str, policy: Policy) -> None:
        self._accounts, self._kind, self._policy = accounts, kind, policy

    def person(self, sender: str, name: str) -> Person:
        """Whoever talks. Raises Forbidden, with what to do, for nobody that may."""
        found = self._accounts.identities.find(self._kind, sender)
        if found is not None:
            if is_guest(found):
                if not self._policy.guests:
                    raise Forbidden(STRANGER)
                self._bound(found)
            return found
        if not self._policy.guests:
            raise Forbidden(STRANGER)
        return self._guest(sender, name)

    def linked(self, sender: str) -> bool:
        """Whether the sender has an account, and is no guest."""
        found = self._accounts.identities.find(self._kind, sender)
        return found is not None and not is_guest(found)

    def redeem(self, code: str, sender: str) -> str:
        """Link the sender by a code of the page Settings; what to say. Raises as `Identities`."""
        person = self._accounts.identities.redeem(code, self._kind, sender)
        return f"Linked: here you are {person.name} now, with your conversations and settings."

    def offer(self, sender: str) -> str:
        """A code by which the sender can be linked on the web; what to say. Raises TooMany."""
        code = self._accounts.identities.offer(self._kind, sender)
        return (
            f"Enter this code on the page Settings of the web, under *Chat accounts*: `{code}`\n\n"
            f"It is good once, for {CODE_MINUTES} minutes. Give it to nobody."
        )

    def _bound(self, guest: Person) -> None:
        """A guest has the quota that holds now, also one who came when it was another."""
        ledger, local = self._accounts.ledger, self._accounts.people.local()
        wanted = self._policy.guest_requests
        kept = [one.requests for one in ledger.quotas(local, guest.id) if one.own]
        if kept != [wanted]:
            ledger.set_quota(local, guest.id, "day", requests=wanted)

    def _guest(self, sender: str, name: str) -> Person:
        """The guest's account, made at the first message."""
        people, address = self._accounts.people, guest_address(self._kind, sender)
        if self._accounts.identities.new_guests(self._kind) >= MOST_GUESTS:
            raise Forbidden(
                f"{MOST_GUESTS} new guests have come within a day, and no more are let in now. "
                "Link an account, or ask an admin."
            )
        shown = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:150]
        try:
            try:
                person = people.create(None, address, f"{shown or sender} (guest)")
                # Before the account is linked: nobody talks without the quota.
                self._bound(person)
            except Conflict:  # another message made it at this moment, or its guest was unlinked
                person = people.by_email(address)
            self._accounts.identities.join(person, self._kind, sender)
        except Conflict:
            found = self._accounts.identities.find(self._kind, sender)
            if found is None:
                raise Forbidden("Your account is disabled. Ask an admin to let you in.") from None
            return found
        except WordmillError as error:
            raise Forbidden(f"No guest can be let in: {error}") from error
        if person.disabled:
            raise Forbidden(STRANGER)
        return person


STRANGER: Final = (
    "I do not know you yet. Make a code on the page Settings of the web and send me "
    "`--link CODE`, or send me `--link` in a direct room and enter there what I answer."
)
