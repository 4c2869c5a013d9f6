"""Commands that tell how things stand: the commands themselves, this place, what is used, who."""

from collections.abc import Iterable
from typing import Annotated

from wordmill.accounts.types import Amount, Used
from wordmill.commands.base import Argument, Group, Outcome, Suggestion
from wordmill.commands.context import Context
from wordmill.commands.language import why_not
from wordmill.commands.words import code, count

GROUP = Group("Help")


def _names(context: Context) -> Iterable[Suggestion]:
    from wordmill.commands import COMMANDS

    return [Suggestion(command.name, command.help) for command in COMMANDS]


@GROUP.command(
    "List the commands, or explain one.",
    permission="read",
    aliases=("help",),
    spoken=("command", "help", "befehl", "hilfe"),
)
def commands(
    context: Context,
    name: Annotated[str | None, Argument("A command, without dashes.", suggest=_names)] = None,
) -> Outcome:
    """All of them by group."""
    from wordmill.commands import COMMANDS
    from wordmill.commands.help import explanation, overview

    language = context.person.language
    if name is not None:
        command = COMMANDS.find(name.lstrip("-/"))
        return Outcome(explanation(command, context.mark, language), {"command": command.name})
    names = [command.name for command in COMMANDS]
    return Outcome(overview(COMMANDS, context.mark, language), {"commands": names})


@GROUP.command(
    "Show how things stand here: model, conversation, what is being answered.",
    permission="read",
    spoken=("status", "stand"),
)
def status(context: Context) -> Outcome:
    """Nothing of what was said."""
    model = context.model_name()
    data: dict[str, object] = {"model": model, "door": context.door}
    lines = [f"- Model: {code(model)}"]
    if context.conversation_id is None:
        lines.append("- Conversation: none yet")
    else:
        conversation, store = context.conversation(), context.house.conversations
        branch = store.branch(context.person, conversation.id)
        waiting = store.open_messages(context.person, conversation.id)
        named = f" {code(conversation.title)}" if conversation.title else ""
        kept = ", not kept" if conversation.temporary else ""
        lines.append(
            f"- Conversation:{named} {code(conversation.id)}, {count(len(branch), 'message')}{kept}"
        )
        busy = [one for one in waiting if one.role == "assistant"]
        lines.append(f"- Being answered: {len(busy)}" if busy else "- Nothing is being answered")
        data |= {
            "conversation": conversation.id,
            "messages": len(branch),
            "open": [one.id for one in busy],
        }
    reason = why_not(context)
    data["plain_language"] = reason is None
    lines.append(
        "- Commands in plain language: " + ("on" if reason is None else f"off, because {reason}")
    )
    return Outcome("\n".join(lines), data)


@GROUP.command(
    "Show what you have used, and your quotas.",
    permission="read",
    private=True,
    spoken=("usage", "used", "quota", "token", "cost", "spent", "verbrauch", "kosten"),
)
def usage(context: Context) -> Outcome:
    """Of this day and month, through all doors, and of this conversation."""
    periods = context.house.accounts.ledger.used(context.person.id)
    lines = [f"- This {period}: {_spent(used)}" for period, used in periods.items()]
    data: dict[str, object] = {
        period: {**used.amount._asdict(), "ends": used.ends.isoformat()}
        for period, used in periods.items()
    }
    if context.conversation_id is not None:
        total = context.house.conversations.usage(context.person, context.conversation_id)
        tokens = f"{total.input_tokens:,} tokens in, {total.output_tokens:,} out"
        lines.append(f"- This conversation: {tokens}{_money(total.cost)}")
        data["conversation"] = {
            "input_tokens": total.input_tokens,
            "output_tokens": total.output_tokens,
            "money": total.cost,
        }
    return Outcome("\n".join(lines), data)


@GROUP.command(
    "Show who you are here.",
    permission="read",
    private=True,
    spoken=("who", "account", "role", "wer", "konto"),
)
def whoami(context: Context) -> Outcome:
    """Name, address, role, door."""
    person = context.person
    who = f"{person.name} ({person.email})" if person.email else person.name
    data = {"id": person.id, "name": person.name, "email": person.email, "role": person.role}
    return Outcome(f"You are {who}, {person.role}, at the door {code(context.door)}.", data)


@GROUP.command("Link a chat account on Matrix or Discord to yours.", private=True)
def link(
    context: Context,
    code: Annotated[str | None, Argument("The code that the chat gave; none makes one.")] = None,
    sure: Annotated[str | None, Argument("`yes`, when you have read whose it is.")] = None,
) -> Outcome:
    """One way: type there the code that this gives. The other: type here the code from there.

    Whoever was given the code speaks as the person afterwards, so it is said first who that is.
    """
    identities = context.house.accounts.identities
    if code is None:
        made = identities.code(context.person)
        return Outcome(
            f"Write this to the bot, in a direct room: `--link {made}`\n\n"
            "It is good once, for 10 minutes. Give it to nobody.",
            {"code": made},
        )
    if sure != "yes":
        provider, subject = identities.offered(context.person, code)
        typed = context.typed(f"link {code} yes")
        return Outcome(
            f"This code was given to `{subject}` on {provider.title()}. Who writes there will be "
            f"you here, with your conversations. If that is your account, write {typed}",
            {"provider": provider, "subject": subject},
        )
    linked = identities.accept(context.person, code)
    return Outcome(
        f"Linked: `{linked.subject}` on {linked.provider.title()} is you.",
        {"provider": linked.provider, "subject": linked.subject},
    )


def _spent(used: Used) -> str:
    amount, quota = used.amount, used.quota
    parts = [f"{count(amount.requests, 'request')}", f"{count(amount.tokens, 'token')}"]
    text = ", ".join(parts) + _money(amount.money)
    if quota is None:
        return f"{text}; no quota"
    bounds = [
        f"{most:,} {name}"
        for name, most in zip(
            Amount._fields, (quota.requests, quota.tokens, quota.money), strict=True
        )
        if most is not None
    ]
    return f"{text}, of {', '.join(bounds)}; begins anew on {used.ends:%d %B, %H:%M} UTC"


def _money(amount: float) -> str:
    return f", ${amount:,.4f}".rstrip("0").rstrip(".") if amount else ""
