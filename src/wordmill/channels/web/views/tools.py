"""For admins, on the page of models: the tool servers (MCP) that models may call."""

import shlex
from collections.abc import Callable

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts
from wordmill.chat.tools import Server
from wordmill.errors import InvalidInput

Texts = Callable[[str], str]


def show(house: House, who: Person, _: Texts) -> None:
    """Draw the servers and the form for another one."""
    with st.expander(_("Tools"), icon=":material/build:", key="tools", on_change="rerun") as box:
        if not box.open:
            return
        st.caption(
            _("Servers that speak MCP. A conversation chooses from them; each call is shown and "
              "asked about, unless you trust the server.")
        )  # fmt: skip
        with parts.said():
            for server in house.chat.tools.all(who):
                _server(house, who, server, _)
        _add(house, who, _)


def _server(house: House, who: Person, server: Server, _: Texts) -> None:
    tools = house.chat.tools
    with st.container(border=True, key=f"tool-{server.name}"):
        where = " ".join([server.target, *map(shlex.quote, server.arguments)])
        st.markdown(f"**{parts.plain(server.name)}** {parts.plain(where)}")
        row = st.container(horizontal=True, vertical_alignment="center")
        enabled = row.toggle(_("Switched on"), server.enabled, key=f"on {server.name}")
        trusted = row.toggle(
            _("Trusted"), server.trusted, key=f"trust {server.name}",
            help=_("Its calls need no yes."),
        )  # fmt: skip
        if (enabled, trusted) != (server.enabled, server.trusted):
            tools.change(who, server.name, enabled=enabled, trusted=trusted)
        if row.button(_("What it offers"), key=f"list {server.name}", type="tertiary"):
            with parts.said(), st.spinner(_("Asking ...")):
                for one in tools.listed(server.name):
                    st.caption(f"**{parts.plain(one.name)}** {parts.plain(one.description)}")
        if row.button(_("Remove"), key=f"no {server.name}", type="tertiary"):
            tools.remove(who, server.name)
            st.rerun()


def _add(house: House, who: Person, _: Texts) -> None:
    kinds = {"stdio": _("A program on this server"), "http": _("An address")}
    with st.form("tool", border=True):
        st.caption(_("Allow a tool server"))
        name = st.text_input(_("Name"), placeholder="files")
        transport = st.radio(_("It is"), list(kinds), format_func=kinds.__getitem__)
        target = st.text_input(
            _("Program with its arguments, or address"),
            placeholder="mcp-server-files /srv/files",
        )
        secrets = st.text_area(
            _("Variables or headers, one a line: NAME=value"), height=80,
            help=_("Stored encrypted and never shown again."),
        )  # fmt: skip
        trusted = st.checkbox(_("Its calls need no yes"))
        if st.form_submit_button(_("Allow")):
            with parts.said():
                words = _words(target) if transport == "stdio" else [target.strip()]
                house.chat.tools.add(
                    who, name, transport, (words or [""])[0],
                    arguments=words[1:], secrets=_pairs(secrets), trusted=trusted,
                )  # fmt: skip
                st.rerun()


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise InvalidInput(f"The program cannot be read: {error}.", "target") from error


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for line in filter(str.strip, text.splitlines()):
        name, sign, value = line.partition("=")
        if not sign:
            raise InvalidInput(f"{line[:40]!r} is no NAME=value.", "secrets")
        pairs[name.strip()] = value.strip()
    return pairs
