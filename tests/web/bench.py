"""The workbench as a person finds it. Streamlit promises no test ids: they stand here."""

import re
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

ADMIN = "ann@example.org"
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PASSWORD = "correct horse battery staple"
PAGES = ("", "generate", "explore", "batches", "models", "people", "settings")


class Bench:
    """One page of a browser at the server `url`."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def go(self, path: str) -> None:
        """Open a page of the workbench and wait until it is drawn."""
        self.page.goto(self.url + path)
        self.idle()

    def idle(self) -> None:
        """Until the page's script has ended."""
        self.page.wait_for_selector(
            "[data-testid=stApp][data-test-script-state=notRunning] .stMainBlockContainer"
        )

    def sign_in(self, path: str = "/login", password: str = PASSWORD) -> None:
        self.page.goto(self.url + path)
        self.page.fill("#email", ADMIN)
        self.page.fill("#password", password)
        with self.page.expect_navigation(wait_until="commit"):
            self.page.click("button[type=submit]")

    def picture(self, name: str) -> None:
        """Keep how the page looks."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        expect(self.page.get_by_test_id("stSkeleton")).to_have_count(0)
        self.page.screenshot(path=SHOTS / f"{name}.png")

    @property
    def box(self) -> Locator:
        return self.page.get_by_test_id("stChatInputTextArea")

    @property
    def said(self) -> Locator:
        """The messages on the page, in order."""
        return self.page.get_by_test_id("stChatMessage")

    def answer(self, number: int = -1) -> Locator:
        return self.said.nth(number)

    def say(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")

    def button(self, name: str, within: Locator | None = None) -> Locator:
        return (within or self.page).get_by_role("button", name=re.compile(rf"{name}$"))

    def press(self, button: Locator, shows: Locator) -> None:
        """Press a button until what it shows is there: a click is lost while the page is drawn
        anew, as it is when a file has come.
        """
        for _ in range(3):
            self.idle()
            button.click()
            with suppress(AssertionError):
                expect(shows).to_be_visible(timeout=10_000)
                return
        raise AssertionError("The button does nothing.")

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("link", name=re.compile(rf"{name}$")).first

    @property
    def beside(self) -> Locator:
        """What stands beside the page, or lies over it on a telephone."""
        return self.page.get_by_test_id("stSidebar")

    def open_beside(self) -> None:
        close = self.beside.get_by_test_id("stSidebarCollapseButton")
        for _ in range(5):  # a click is lost while the page is drawn anew
            self.idle()
            self.page.get_by_test_id("stExpandSidebarButton").click()
            with suppress(AssertionError):
                expect(close).to_be_in_viewport(timeout=5_000)
                self.idle()
                expect(close).to_be_in_viewport(timeout=1_000)
                return
        raise AssertionError("What stands beside the page does not open.")

    def drawer(self) -> Locator:
        """Open the settings of the conversation."""
        self.button("Settings", self.page.locator(".st-key-talk")).click()
        found = self.page.get_by_role("dialog")
        expect(found.get_by_role("tab").first).to_be_visible()
        return found

    def chosen(self, label: str) -> Locator:
        """The input of a field with that label."""
        return self.page.get_by_label(label, exact=True)

    @property
    def too_wide(self) -> int:
        """Pixels by which the page is wider than the window."""
        width: int = self.page.evaluate(
            """() => Math.max(...[document.documentElement, document.body,
                 ...document.querySelectorAll('.stMain, .stMainBlockContainer')]
                 .map(one => one.scrollWidth - one.clientWidth))"""
        )
        return width
