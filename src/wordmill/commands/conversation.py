"""Commands on the conversation: begin, stop, try again, go back, branch, name, explain itself."""

from typing import Annotated

from wordmill.chat.types import Message
from wordmill.commands.base import Argument, Group, Outcome
from wordmill.commands.context import Context
from wordmill.commands.words import code, count, quote
from wordmill.errors import Conflict

GROUP = Group("Conversation")


@GROUP.command(
    "Begin a new conversation.", spoken=("conversation", "chat", "unterhaltung", "gespräch")
)
def new(context: Context) -> Outcome:
    """The one before stays as it is; one in which nothing was said is the new one already."""
    if context.conversation_id is not None and context.conversation().head is None:
        tree = context.house.conversations.usage(context.person, context.conversation_id)
        if not tree.messages:
            return Outcome(
                "Nothing has been said in this conversation yet: it is new.",
                {"conversation": context.conversation_id},
            )
    begun = context.house.conversations.create(
        context.person, model=_model_here(context), temporary=context.temporary
    )
    kept = "; nothing of it is kept" if begun.temporary else ""
    return Outcome(f"A new conversation{kept}.", {"conversation": begun.id}, conversation=begun.id)


@GROUP.command(
    "Begin this conversation anew, on a branch of its own; what was said stays.",
    spoken=(
        "chat",
        "conversation",
        "history",
        "everything",
        "start",
        "over",
        "said",
        "unterhaltung",
        "gespräch",
        "verlauf",
        "alles",
    ),
)
def reset_chat(context: Context) -> Outcome:
    """A new branch from the root."""
    conversation = context.conversation()
    left = _branch_length(context, conversation.id)
    context.house.conversations.change(context.person, conversation.id, head=None)
    return Outcome(
        f"The conversation begins anew. {_kept(left)}",
        {"conversation": conversation.id, "left": conversation.head},
    )


@GROUP.command(
    "Show the system prompt of this conversation.",
    permission="read",
    spoken=("prompt", "instruction", "anweisung"),
)
def prompt(context: Context) -> Outcome:
    """What a model is told before anything else."""
    text = context.conversation().system if context.conversation_id else ""
    data = {"prompt": text}
    if not text:
        return Outcome(
            f"There is no system prompt. {context.typed('set-prompt TEXT')} sets one.", data
        )
    return Outcome(f"The system prompt:\n\n{quote(text)}", data)


@GROUP.command(
    "Set the system prompt, and begin anew with it on a branch of its own; what was said stays.",
    spoken=("prompt", "instruction", "anweisung"),
)
def set_prompt(
    context: Context, text: Annotated[str, Argument("What a model is told first.", rest=True)]
) -> Outcome:
    """A new branch from the root."""
    conversation = context.begun()
    left = _branch_length(context, conversation.id)
    context.house.conversations.change(context.person, conversation.id, system=text, head=None)
    return Outcome(
        f"The system prompt is set, and the conversation begins anew. {_kept(left)}".rstrip(),
        {"prompt": text, "conversation": conversation.id, "left": conversation.head},
        conversation=conversation.id,
    )


@GROUP.command(
    "Stop the answer that is being written; what there is of it stays.",
    spoken=("stop", "answer", "writing", "cancel", "antwort"),
)
def stop(context: Context) -> Outcome:
    """Answers that wait their turn are stopped too."""
    conversation = context.conversation()
    stopped = context.house.chat.stop(context.person, conversation.id)
    if not stopped:
        raise Conflict("Nothing is being answered here.")
    return Outcome("Stopped. What there was of the answer is kept.", {"stopped": stopped})


@GROUP.command(
    "Have the last message answered once more; the answer before stays beside it.",
    aliases=("regenerate",),
    spoken=("answer", "again", "retry", "regenerate", "antwort", "nochmal"),
)
def retry(context: Context) -> Outcome:
    """Another sibling of the last answer."""
    last = _last(context)
    turn = context.house.chat.regenerate(context.person, last.id)
    return Outcome("", {"answer": turn.answer}, answer=turn.answer)


@GROUP.command(
    "Have the last answer continued where it ended.", spoken=("continue", "answer", "weiter")
)
def continue_(context: Context) -> Outcome:
    """For one that was stopped, or that reached its length."""
    last = _last(context)
    if last.role != "assistant":
        raise Conflict(f"The last message has no answer yet. {context.typed('retry')} asks again.")
    turn = context.house.chat.continue_(context.person, last.id)
    return Outcome("", {"answer": turn.answer}, answer=turn.answer)


@GROUP.command(
    "Take back your last message and its answer; both stay on a branch.",
    spoken=("undo", "message", "zurück", "rückgängig"),
)
def undo(context: Context) -> Outcome:
    """The branch that is shown ends before them."""
    conversation = context.conversation()
    shown = context.house.conversations.branch(context.person, conversation.id)
    changed = context.house.conversations.undo(context.person, conversation.id)
    taken = next((one for one in reversed(shown) if one.role == "user"), None)
    said = "" if taken is None else f"\n\n{quote(taken.text[:500])}"
    return Outcome(f"Taken back:{said}", {"head": changed.head, "left": conversation.head})


@GROUP.command("Go on in a copy of this conversation.", spoken=("fork", "copy", "branch", "kopie"))
def fork(context: Context) -> Outcome:
    """With the branch that is shown."""
    copy = context.house.conversations.fork(context.person, _last(context).id)
    return Outcome(
        "This is a copy from here on; the conversation before stays as it was.",
        {"conversation": copy.id},
        conversation=copy.id,
    )


@GROUP.command(
    "Show the title of the conversation, or set it.",
    spoken=("title", "conversation", "chat", "titel"),
)
def title(
    context: Context, text: Annotated[str | None, Argument("The new title.", rest=True)] = None
) -> Outcome:
    """A title that a person gave is never replaced by a model's."""
    conversation = context.conversation()
    if text is not None:
        conversation = context.house.conversations.change(
            context.person, conversation.id, title=text
        )
    data = {"title": conversation.title, "titled_by": conversation.titled_by}
    if not conversation.title:
        return Outcome("The conversation has no title yet.", data)
    now = " now" if text is not None else ""
    return Outcome(f"The conversation is called {code(conversation.title)}{now}.", data)


def _model_here(context: Context) -> str | None:
    """A new conversation goes on with the model of the one before."""
    if context.conversation_id is None:
        return context.model
    return context.conversation().model or context.model


def _last(context: Context) -> Message:
    branch = context.house.conversations.branch(context.person, context.conversation().id, limit=1)
    if not branch:
        raise Conflict("Nothing has been said here yet.")
    return branch[0]


def _branch_length(context: Context, conversation: str) -> int:
    return len(context.house.conversations.branch(context.person, conversation))


def _kept(left: int) -> str:
    return f"The {count(left, 'message')} before stay as another branch." if left else ""
