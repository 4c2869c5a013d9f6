"""Settings on documents: how they look, whose template they have, the Google Drive they go to."""

from collections.abc import Callable

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts
from wordmill.channels.web.connecting import PATH
from wordmill.chat.documents import Kept
from wordmill.errors import WordmillError

Texts = Callable[[str], str]


def show(house: House, who: Person, _: Texts) -> None:
    """Draw the tab."""
    kept = house.documents.kept(who)
    _look(house, who, kept, _)
    st.subheader(_("Template"), anchor=False)
    _template(house, who, kept, _)
    st.subheader("Google Drive", anchor=False)
    _drive(house, who, kept, _)


def _look(house: House, who: Person, kept: Kept, _: Texts) -> None:
    st.caption(_("What `/make-docx` and the buttons of a conversation make."))
    with st.form("documents", border=False):
        now = kept.choices
        title_page = st.checkbox(_("A page with the title"), now.title_page)
        speakers = st.checkbox(_("Who said what, and the questions too"), now.speakers)
        sources = st.checkbox(_("Links and files at the end"), now.sources)
        google_doc = st.checkbox(
            _("In Google Drive as a document of Google's, not as a Word file"), now.google_doc
        )
        if st.form_submit_button(_("Save")):
            with parts.said():
                house.documents.choose(
                    who, title_page=title_page, speakers=speakers, sources=sources,
                    google_doc=google_doc,
                )  # fmt: skip
                st.toast(_("Saved."))


def _template(house: House, who: Person, kept: Kept, _: Texts) -> None:
    words = _("A Word file (.docx) whose styles and pages your documents take, without its text.")
    st.caption(words)
    if kept.template:
        row = st.container(horizontal=True, vertical_alignment="center")
        row.badge(_("Your template is used."), icon=":material/check:", color="green")
        if row.button(_("Remove the template"), icon=":material/delete:"):
            with parts.said():
                house.documents.remove_template(who)
                st.rerun()
    with st.form("template", border=False, clear_on_submit=True):
        file = st.file_uploader(_("Template"), type=["docx"], label_visibility="collapsed")
        if st.form_submit_button(_("Use this template")) and file is not None:
            with parts.said():
                house.documents.set_template(who, file.getvalue())
                st.rerun()


def _drive(house: House, who: Person, kept: Kept, _: Texts) -> None:
    drives = house.accounts.drives
    found = drives.status(who)
    if found is None and not drives.offered and not drives.shared:
        st.info(_("An admin has not connected this server to Google Drive."))
        return
    if found is not None and found.ended is None:
        row = st.container(horizontal=True, vertical_alignment="center")
        row.badge(_("Connected"), icon=":material/check:", color="green")
        row.text(found.account, width="content")
        if row.button(_("Disconnect"), icon=":material/link_off:"):
            with parts.said():
                drives.disconnect(who)
                st.rerun()
    elif drives.offered:
        if found is not None:
            st.warning(_("Google ended the connection. Connect it again."))
        st.link_button(_("Connect my Google Drive"), PATH, icon=":material/add_to_drive:")
    if drives.shared and found is None:
        with parts.said():
            st.caption(
                _("Documents go into a folder of the shared drive, put there by {account}.").format(
                    account=parts.plain(drives.service_account)
                )
            )
    _folder(house, who, kept, _)


def _folder(house: House, who: Person, kept: Kept, _: Texts) -> None:
    now = kept.folder
    if now is not None:
        row = st.container(horizontal=True, vertical_alignment="center")
        row.text(_("Documents go to the folder {name}.").format(name=now.name), width="content")
        if row.button(_("Take it back"), key="no folder"):
            with parts.said():
                house.documents.set_folder(who, None)
                st.rerun()
    with st.form("drive folder", border=False, clear_on_submit=True):
        link = st.text_input(
            _("Link to a folder"), placeholder="https://drive.google.com/drive/folders/...",
            help=_("Wordmill sees folders that it made itself; others, if an admin lets it."),
        )  # fmt: skip
        if st.form_submit_button(_("Use this folder")) and link.strip():
            try:
                house.documents.set_folder(who, link)
            except WordmillError as error:
                st.error(parts.plain(str(error)))
            else:
                st.rerun()
