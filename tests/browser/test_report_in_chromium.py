"""The HTML report and the Data Docs in headless Chromium: `python -m nox -s browser`, with Debian's `chromium`."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from playwright.sync_api import Browser, Page, sync_playwright

from hydrogate.checks import Dataset, check, concatenate
from hydrogate.checks.contracts.great_expectations import data_docs
from hydrogate.checks.engine.bounds import resolve_bounds
from hydrogate.checks.gates.gates import judge, read_gates
from hydrogate.checks.gates.milestones import decide, read_milestones
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import measure
from hydrogate.checks.render.html.page import Content, html_page

HOSTILE = "<img src=x onerror=document.title='owned'> [x](javascript:document.title='owned') </script><script>"
BAND = {"milestone": "m4_cuda_optimization", "status": "on track", "gated": True, "command": "nox", "reason": "why"}
GATE = {"metric": "force_rmse", "comparison": "<", "threshold": 0.25, "required": True, "confidence": 0.95, "min_n": 2}
WAIT = "() => [...document.querySelectorAll('canvas')].every((canvas) => Number(canvas.dataset.drawn) > 0)"


def data_set() -> Dataset:
    """Nine molecules with made-up labels, each named to do harm."""
    names = ("CH3CH2OH", "C6H6", "CH3CONH2", "CH3Cl", "CH3SH", "CH3COOH", "C4H4NH", "CH3CHO", "C5H5N")
    atoms: list[Atoms] = [molecule(name) for name in names]
    random = np.random.default_rng(0)
    many = len(atoms)
    return concatenate(
        atoms,
        energy=[-10.0 * len(each) for each in atoms],
        forces=[random.normal(0.0, 1.0, (len(each), 3)) for each in atoms],
        source=[HOSTILE] * many,
        smiles=[HOSTILE] * many,
        split=["test"] * many,
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "no chromium on the PATH: apt-get install chromium, or name it in CHROMIUM"
    with sync_playwright() as playwright:
        # Containers mostly run as root, where Chromium's own sandbox does not start.
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = data_set()
    assert data.forces is not None
    noise = np.random.default_rng(1).normal(0.0, 0.2, data.forces.shape).astype(np.float32)
    predicted = data.subset(range(len(data)))
    object.__setattr__(predicted, "forces", data.forces + noise)
    metrics = measure(Comparison.of(data, predicted), resamples=50)
    gates = read_gates({"force_rmse": {**GATE, "reason": HOSTILE}})
    bands = read_milestones([BAND | {"range": "[0, 0.25)"}, BAND | {"range": "[0.25, inf)"}])
    judged = [judge(name, gate, metrics["force_rmse"]) for name, gate in gates.items()]
    decision = decide(metrics["force_rmse"], judged, bands)
    curves = {"train_loss": [0.5, 0.3, 0.2], "valid_loss": [0.6, 0.4, 0.3]}
    reports = (check(data, "labels"), check(data, "structures"))
    content = Content(decision, bands, reports, metrics, curves, data, data, predicted, (HOSTILE,))
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.html").write_text(html_page(content), encoding="utf-8")
    _, declared = resolve_bounds("labels")
    for name, page in data_docs(reports[0], declared).items():
        (folder / name).write_text(page, encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(params=[("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)], ids=lambda p: f"{p[0]}-{p[1]}")
def opened(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Page]:
    """The report, with nothing on the console and no request but its own."""
    scheme, width = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: told.append(dialog.message))
    page.on("request", lambda request: told.append(request.url) if request.url != report.as_uri() else None)
    page.goto(report.as_uri())
    page.wait_for_function(WAIT)
    yield page
    assert told == []
    assert page.title() != "owned"
    page.close()


def ink(page: Page, index: int = 0) -> str:
    """The picture on a canvas."""
    return str(page.evaluate("(index) => document.querySelectorAll('canvas')[index].toDataURL()", index))


def test_charts_and_views_are_drawn(opened: Page) -> None:
    for selector in ("svg.bands", "svg.bullet", "svg.parity", "svg.molecule", "canvas", "svg .curve", "svg .bar"):
        found = opened.locator(selector).first
        found.scroll_into_view_if_needed()
        box = found.bounding_box()
        assert box and box["width"] > 20 and box["height"] > 1, selector
    empty = opened.evaluate("""() => {
      const [blank, first] = [document.createElement("canvas"), document.querySelector("canvas")];
      [blank.width, blank.height] = [first.width, first.height];
      return blank.toDataURL();
    }""")
    assert ink(opened) != empty


def test_nothing_is_wider_than_the_screen(opened: Page) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_text_can_be_told_from_its_background(opened: Page) -> None:
    """WCAG's contrast of 4.5 for each visible text of the page, with the colours that the browser computes."""
    low = opened.evaluate("""() => {
      const channels = (text) => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const behind = (node) => {
        for (; node; node = node.parentElement) {
          const colour = channels(getComputedStyle(node).backgroundColor);
          if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
      };
      const found = [];
      for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
        if (!own || node.closest("svg, script, style") || !node.getClientRects().length) continue;
        const [a, b] = [light(channels(getComputedStyle(node).color)), light(behind(node))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) found.push(`${node.className} ${contrast.toFixed(2)} ${node.textContent.slice(0, 40)}`);
      }
      return found;
    }""")
    assert low == []


def test_a_view_turns_by_key_and_by_pointer(opened: Page) -> None:
    canvas = opened.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    canvas.focus()
    pictures = [ink(opened)]
    for key in ("ArrowRight", "ArrowDown", "+", "]", "0"):
        opened.keyboard.press(key)
        pictures.append(ink(opened))
        assert pictures[-1] != pictures[-2], key
    assert pictures[-1] == pictures[0]
    box = canvas.bounding_box()
    assert box
    opened.mouse.move(box["x"] + 100, box["y"] + 100)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 160, box["y"] + 110, steps=3)
    opened.mouse.up()
    assert ink(opened) != pictures[0]


def test_the_keyboard_reaches_everything(opened: Page) -> None:
    wanted = opened.locator("a, summary, canvas, [tabindex='0']").count()
    reached = set()
    for _ in range(wanted + 5):
        opened.keyboard.press("Tab")
        reached.add(
            opened.evaluate(
                "() => [...document.querySelectorAll(\"a, summary, canvas, [tabindex='0']\")]"
                ".indexOf(document.activeElement)"
            )
        )
    assert reached >= set(range(wanted))


def test_a_row_opens_by_key_and_by_link(opened: Page) -> None:
    row = opened.locator("details.row:not([open])").first
    row.locator("summary").focus()
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.parentElement.open")
    link = opened.locator(".fires a").first
    place = (link.get_attribute("href") or "#")[1:]
    opened.evaluate("(id) => { document.getElementById(id).open = false; }", place)
    link.click()
    opened.wait_for_function("(id) => document.getElementById(id).open", arg=place)


def test_a_change_of_scheme_is_drawn(opened: Page) -> None:
    before = ink(opened)
    dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    opened.emulate_media(color_scheme="light" if dark else "dark")
    opened.wait_for_timeout(100)
    assert ink(opened) != before


@pytest.mark.parametrize("name", ["index.html", "expectations.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_data_docs_are_styled_and_ask_for_nothing(browser: Browser, report: Path, name: str, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    place = report.with_name(name).as_uri()
    page.on("request", lambda request: told.append(request.url) if request.url != place else None)
    page.goto(place)
    assert page.evaluate("getComputedStyle(document.querySelector('.alert')).borderRadius") != "0px"
    assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
    assert told == []
    page.close()
