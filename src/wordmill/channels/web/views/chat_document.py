"""A conversation as a document: which part of it, how it looks, as which file, or in a Drive."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts
from wordmill.chat.documents import Form, Wish
from wordmill.chat.types import Conversation
from wordmill.commands.words import file_name
from wordmill.documents.making import KINDS

Texts = Callable[[str], str]


def draw(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    """The part of the drawer."""
    name, forms = conversation.id, house.documents.maker.forms
    kept = house.documents.kept(who).choices
    with st.form(f"titled {name}", border=False):
        row = st.container(horizontal=True, vertical_alignment="bottom")
        now = conversation.document_title or ""
        title = row.text_input(_("Title of the document"), now, placeholder=conversation.title)
        if row.form_submit_button(_("Save")):
            with parts.said():
                house.conversations.change(who, name, document_title=title.strip() or None)
                st.rerun(scope="fragment")
    scopes = {"last": _("the last answer"), "whole": _("the whole conversation")}
    scope = st.segmented_control(
        _("What goes into it"), list(scopes), default="whole", format_func=scopes.__getitem__,
        key=f"part {name}", required=True,
    )  # fmt: skip
    whole = scope != "last"
    row = st.container(horizontal=True)
    over = {
        "title_page": row.checkbox(
            _("A page with the title"), kept.title_page, key=f"title page {name}"
        ),
        "speakers": row.checkbox(
            _("Who said what"), kept.speakers or whole, key=f"speakers {name}"
        ),
        "sources": row.checkbox(
            _("Links and files at the end"), kept.sources, key=f"sources {name}"
        ),
    }
    row = st.container(horizontal=True)
    every: tuple[Form, ...] = (*forms, "markdown")
    for form in every:
        _download(house, who, conversation, Wish(form, whole=whole, over=over), row, _)
    if not conversation.temporary and house.accounts.drives.reached(who):
        _to_drive(house, who, conversation, Wish("docx", whole=whole, over=over), row, _)


def _download(
    house: House, who: Person, conversation: Conversation, wish: Wish, where: Any, _: Texts
) -> None:
    form: Form = wish.form
    label = "Markdown" if form == "markdown" else KINDS[form].label
    title = conversation.document_title or conversation.title
    where.download_button(
        _("Download as {format}").format(format=label),
        lambda: house.documents.make(who, conversation.id, wish).data,
        file_name=f"{file_name(title)}.{'md' if form == 'markdown' else form}",
        key=f"document {form} {conversation.id}",
        icon=":material/download:",
    )


def _to_drive(
    house: House, who: Person, conversation: Conversation, wish: Wish, where: Any, _: Texts
) -> None:
    wanted = where.button(
        _("Save to Google Drive"), icon=":material/add_to_drive:", key=f"drive {conversation.id}"
    )
    if wanted:
        with parts.said(), st.spinner(_("On the way to Google Drive")):
            made = house.documents.make(who, conversation.id, wish)
            sent = house.documents.deliver(who, conversation.id, made)
            st.success(_("It is in Google Drive."))
            st.link_button(_("Open it"), sent.link, icon=":material/open_in_new:")
