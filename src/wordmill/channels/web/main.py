"""The workbench: which pages there are, and for whom."""

from pathlib import Path

import streamlit as st

from wordmill.channels.web import place
from wordmill.channels.web.settling import settle
from wordmill.channels.web.views import (
    batches,
    channels,
    chat,
    explore,
    generate,
    models,
    people,
    settings,
)

settle()
here = Path(__file__).parent
# Our own picture: Streamlit would have the browser fetch one of its icons from another server.
icon = (here / "icon.svg").read_text(encoding="utf-8")
st.set_page_config(page_title="Wordmill", page_icon=icon, layout="wide")
st.html(f"<style>{(here / 'looks.css').read_text(encoding='utf-8')}</style>")
who = place.person()
_ = place.texts(who)
pages = {
    "chat": st.Page(chat.show, title=_("Chat"), icon=":material/forum:", default=True),
    "generate": st.Page(
        generate.show, title=_("Generate"), icon=":material/factory:", url_path="generate"
    ),
    "explore": st.Page(
        explore.show, title=_("Explore"), icon=":material/travel_explore:", url_path="explore"
    ),
    "batches": st.Page(
        batches.show, title=_("Batches"), icon=":material/stacks:", url_path="batches"
    ),
    "models": st.Page(
        models.show, title=_("Models"), icon=":material/neurology:", url_path="models"
    ),
    "channels": st.Page(
        channels.show, title=_("Channels"), icon=":material/hub:", url_path="channels"
    ),
    "people": st.Page(people.show, title=_("People"), icon=":material/group:", url_path="people"),
    "settings": st.Page(
        settings.show, title=_("Settings"), icon=":material/tune:", url_path="settings"
    ),
}
place.pages(pages)
if who.role != "admin":
    del pages["people"], pages["channels"]
page = st.navigation(list(pages.values()), position="top")
place.close_beside(page.url_path)
page.run()
