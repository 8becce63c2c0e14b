"""``make check-book``: every page of the book in chromium, wide and as narrow as a phone. Ends with 1, and says what is wrong, if anything is.

Links lead somewhere, pictures have words for those who do not see them, nothing is wider than the screen, no script complains, and the
explorer's menus change its picture.
"""

import shutil
import sys
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup
from playwright.sync_api import Browser, sync_playwright

from build import BUILD

HTML, PHONE, DESK = BUILD / "html", {"width": 390, "height": 844}, {"width": 1280, "height": 900}
SHOTS = BUILD / "shots"


def broken() -> Iterator[str]:
    """Links that lead nowhere, and pictures without words."""
    paths = [path.resolve() for path in HTML.rglob("*.html") if path.name not in ("explorer.html", "genindex.html")]
    pages = {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in paths}
    anchors = {path: {place["id"] for place in page.find_all(id=True)} for path, page in pages.items()}
    for path, page in pages.items():
        here = path.relative_to(HTML.resolve())
        for link in [place["href"] for place in page.find_all("a", href=True) if place["href"]]:
            parts = urlsplit(link)
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if parts.scheme:
                continue
            if not goal.exists():
                yield f"{here}: {link} leads nowhere"
            elif parts.fragment and goal in pages and unquote(parts.fragment) not in anchors[goal]:
                yield f"{here}: {link} is no place on that page"
        mute = [picture.get("src") for picture in page.find_all("img") if not picture.get("alt", "").strip()]
        yield from (f"{here}: {picture} has no words" for picture in mute)


def seen(browser: Browser) -> Iterator[str]:
    """What a browser complains of, and pages that are wider than a phone."""
    for size in (DESK, PHONE):
        tab = browser.new_page(viewport=size)
        said: list[str] = []
        tab.on("console", lambda message, said=said: said.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error, said=said: said.append(str(error)))
        for path in sorted(path for path in HTML.rglob("*.html") if "_static" not in path.parts):
            said.clear()
            tab.goto(path.as_uri(), wait_until="load")
            here = path.relative_to(HTML).as_posix()
            yield from (f"{here}: {text}" for text in said if "theme mode" not in text)  # the theme's own, on its first visit
            wide = tab.evaluate("document.scrollingElement.scrollWidth")
            if wide > size["width"] + 1:
                yield f"{here}: {wide} pixels wide on a screen of {size['width']}"
            if here in ("index.html", "explorer.html") or "04_central" in here or "11_every" in here or "09b_" in here:
                SHOTS.mkdir(parents=True, exist_ok=True)
                tab.screenshot(path=SHOTS / f"{here.replace('/', '-').removesuffix('.html')}-{size['width']}.png")
        tab.close()


def explored(browser: Browser) -> Iterator[str]:
    """The menus of the explorer, each of which has to change the picture, and a point, which has to lead to its file."""
    tab = browser.new_page(viewport=DESK)
    tab.goto((HTML / "explorer.html").as_uri())
    tab.wait_for_selector("svg .mark-symbol path")
    menus = tab.locator(".vega-bind select")
    if menus.count() != 3:
        yield f"explorer.html has {menus.count()} menus in place of 3"
    for number in range(menus.count()):
        menu = menus.nth(number)
        before, values = tab.locator("svg").first.inner_html(), menu.locator("option").all_inner_texts()
        own = menu.input_value()
        changed = []
        for value in values:
            menu.select_option(value)
            tab.wait_for_timeout(300)
            changed.append(tab.locator("svg").first.inner_html() != before)
        menu.select_option(own)
        if len(values) > 1 and not any(changed):
            yield f"explorer.html: menu {number + 1} changes nothing"
    tab.wait_for_timeout(300)
    tab.locator("svg .mark-symbol.role-mark path").last.click()
    tab.wait_for_timeout(1000)
    if not tab.url.endswith(".json") or '"perplexity"' not in tab.content():
        yield f"explorer.html: a point leads to {tab.url}, not to its file"


def main() -> None:
    """The command line."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("check-book: chromium is not here; install it, for instance by apt-get install chromium")
    wrong = list(broken())
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        wrong += [*seen(browser), *explored(browser)]
        browser.close()
    pages = len(list(HTML.rglob("*.html")))
    print(*wrong, f"{pages} pages, wide and narrow: {len(wrong) or 'nothing'} wrong", sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
