"""Under the list of conversations: the archive, the folders, what comes in and what goes out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.chat.types import Folder, Imported

_LARGEST: Final = 1024
"""MB of a file that the page takes; of a larger one the API and the command line do."""
Texts = Callable[[str], str]


def show(_: Texts) -> None:
    """Draw the row of what concerns all conversations."""
    st.toggle(_("Show the archive"), key="archived")
    for key, words, icon, inside in (
        ("folders", _("Folders"), "folder", _folders),
        ("moving", _("Import and export"), "swap_vert", _moving),
    ):
        if st.button(words, key=key, icon=f":material/{icon}:", type="tertiary"):
            st.dialog(words, on_dismiss="rerun")(inside)(_)


def _moving(_: Texts) -> None:
    """Runs apart from the page, so it asks anew who looks."""
    who, house = place.person(), place.house()
    _import(house, who, _)
    st.divider()
    st.download_button(
        _("Download all conversations"),
        lambda: b"".join(house.conversations.exported_all(who)),
        file_name="wordmill-conversations.json",
        mime="application/json",
        icon=":material/download:",
    )


def path(folder: Folder, folders: Sequence[Folder]) -> str:
    """A folder's name with those that it lies in: Work / Travel."""
    by_id: Mapping[str, Folder] = {one.id: one for one in folders}
    names, above = [folder.name], folder.parent
    while above is not None and len(names) < 20:
        names.append(by_id[above].name)
        above = by_id[above].parent
    return " / ".join(reversed(names))


def _folders(_: Texts) -> None:
    who, house = place.person(), place.house()
    store = house.conversations.folders
    folders = store.all(who)
    names = {"": _("(at the top)")} | {one.id: path(one, folders) for one in folders}
    with st.form("new folder", border=False, clear_on_submit=True):
        name = st.text_input(_("A new folder"))
        parent = st.selectbox(_("It lies in"), list(names), format_func=names.__getitem__)
        if st.form_submit_button(_("Make it")):
            with parts.said():
                store.create(who, name, parent or None)
                st.rerun()
    if not folders:
        return
    which = st.selectbox(_("Folder"), [one.id for one in folders], format_func=names.__getitem__)
    now = next(one for one in folders if one.id == which)
    new = st.text_input(_("Its name"), now.name, key=f"name {which}")
    row = st.container(horizontal=True)
    if row.button(_("Rename"), disabled=new == now.name):
        with parts.said():
            store.change(who, which, name=new)
            st.rerun()
    if row.button(_("Remove"), help=_("What lies in it comes to lie where it lay.")):
        with parts.said():
            store.remove(who, which)
            st.rerun()


def _import(house: House, who: Person, _: Texts) -> None:
    st.caption(
        _("An export of ChatGPT, of Claude or of Wordmill: JSON, or the zip as it came. The same "
          "file twice makes nothing twice.")
    )  # fmt: skip
    most = max(1, min(_LARGEST, house.settings.import_bytes // 2**20))
    file = st.file_uploader(
        _("Import a file"), type=["json", "zip"], max_upload_size=most, key="import"
    )
    if file is None or not st.button(_("Import"), type="primary"):
        return
    shown = st.empty()

    def progress(so_far: Imported) -> None:
        shown.caption(_done(so_far, _))

    with parts.said():
        done = house.chat.imports.take(who, file, progress)
        shown.success(_done(done, _))
        for problem in done.problems[:10]:
            st.caption(parts.plain(problem))


def _done(done: Any, _: Texts) -> str:
    return _(
        "{made} conversations are new, {grown} have grown, {known} were known; {messages} messages."
    ).format(made=done.made, grown=done.grown, known=done.known, messages=done.messages)
