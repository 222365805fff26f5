"""The report as a browser shows it: nothing asked for, nothing refused, all text readable."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from downslope.report import RunReader, write_report

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
     if (found := shutil.which(name))), None,
)  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

LIGHT, DARK = 1, 0  # as Blink counts them

# Looks at the page in a frame of a given width, and writes what it found as text. The page
# itself may run no script, so this one stands outside it.
LOOK = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">
<iframe src="report.html" style="border:0;width:WIDTHpx;height:800px"></iframe><pre></pre><script>
const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function rgba(colour) {
  paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
  return [...paint.getImageData(0, 0, 1, 1).data];
}
function light(colour) {
  const c = rgba(colour).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
}
function behind(element, view) {
  for (let e = element; e; e = e.parentElement) {
    const colour = view.getComputedStyle(e).backgroundColor;
    if (rgba(colour)[3] == 255) return colour;
  }
  return "white";
}
document.querySelector("iframe").onload = event => {
  const view = event.target.contentWindow, page = view.document, root = page.documentElement;
  for (const each of page.querySelectorAll("details")) each.open = true;
  const found = {scripts: page.querySelectorAll("script").length, alien: [], wide: [], faint: [],
                 small: [], texts: 0, least: 99, charts: page.querySelectorAll("svg").length,
                 overflow: root.scrollWidth - root.clientWidth, body: page.body.textContent};
  const ids = [...page.querySelectorAll("[id]")].map(e => e.id);
  found.twice = ids.filter((id, i) => ids.indexOf(id) != i);
  found.handlers = [...page.querySelectorAll("*")].filter(
    e => [...e.attributes].some(a => a.name.startsWith("on"))).length;
  for (const e of page.querySelectorAll("img, iframe, object, embed, link:not([rel=icon])"))
    found.alien.push(e.outerHTML.slice(0, 80));
  for (const e of page.querySelectorAll("*")) {
    const own = [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim());
    if (!own || e.closest("head, style")) continue;
    const style = view.getComputedStyle(e), box = e.getBoundingClientRect();
    if (!box.width) continue;
    found.texts += 1;
    const isPicture = e.namespaceURI.endsWith("svg");
    const turn = isPicture ? e.getScreenCTM() : {a: 1, b: 0}, scale = Math.hypot(turn.a, turn.b);
    if (parseFloat(style.fontSize) * scale < 8) found.small.push(e.textContent.slice(0, 40));
    if (box.right > root.clientWidth + 1 && !e.closest(".wide"))
      found.wide.push(e.textContent.slice(0, 40));
    const front = light(isPicture ? style.fill : style.color), back = light(behind(e, view));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    found.least = Math.min(found.least, ratio);
    if (ratio < 4.5) found.faint.push([ratio, e.textContent.slice(0, 40)]);
  }
  document.querySelector("pre").textContent = "<<" + JSON.stringify(found) + ">>";
};
</script>"""


class Server(http.server.ThreadingHTTPServer):
    """Serves one page and counts the requests."""

    def __init__(self, page: bytes):
        self.page, self.asked = page, []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        width = re.fullmatch(r"/look-(\d+)", self.path)
        known = width or self.path == "/report.html"
        body = LOOK.replace("WIDTH", width[1]).encode() if width else self.server.page
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body if known else b"")

    def log_message(self, *_) -> None:
        pass


def chromium(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def look(page: Path, tmp_path: Path, width: int, scheme: int) -> dict:
    """What the browser found in the page at this width; nothing but the page was asked for."""
    server = Server(page.read_bytes())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/look-{width}"
        blink = f"--blink-settings=preferredColorScheme={scheme}"
        done = chromium(tmp_path, blink, "--virtual-time-budget=20000", "--dump-dom", address)
    finally:
        server.shutdown()
        server.server_close()
    assert ":CONSOLE" not in done.stderr, done.stderr
    assert sorted(server.asked) == [f"/look-{width}", "/report.html"]
    text = re.search(r"&lt;&lt;(.*)&gt;&gt;", done.stdout, re.DOTALL)
    assert text, done.stderr[-2000:]
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", "\\u00a0"), ("&amp;", "&")):
        text = text if isinstance(text, str) else text[1]
        text = text.replace(entity, character)
    return json.loads(text)


def is_sound(found: dict) -> None:
    assert found["scripts"] == found["handlers"] == 0
    assert not found["alien"], "elements that load something"
    assert not found["twice"], "ids that stand there twice"
    assert found["overflow"] <= 0, "the page scrolls sideways"
    assert not found["wide"], "text beyond the edge"
    assert not found["faint"], "contrast below 4.5:1"
    assert not found["small"], "letters below 8 px"
    assert found["texts"] > 200


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(320, LIGHT), (1280, DARK)])
def test_a_run(told, tmp_path, width, scheme) -> None:
    """Catches a request, an error, colliding ids, text cut off, too faint or too small."""
    page = write_report([told], tmp_path / "report.html")
    found = look(page, tmp_path, width, scheme)
    is_sound(found)
    assert found["charts"] == 16


@pytest.mark.slow
def test_hostile_names_are_text(hostile, tmp_path) -> None:
    """Catches a name that becomes markup, a formula, or the whole page."""
    page = write_report([hostile], tmp_path / "report.html")
    found = look(page, tmp_path, 320, DARK)
    is_sound(found)
    for words in ("<script>alert(1)</script>", "a $x$ and $\\frac{1}", "(1,000,000 characters)",
                  "<b onmouseover=alert(2)>", "{{ 7 * 7 }} #0072b2 & \"'", "\\u202egnp.exe",
                  "onerror=alert(1)>", "\u0643\u0644\u0627 $1$", "\u7e41\u9ad4"):  # fmt: skip
        assert words in found["body"], words


@pytest.mark.slow
def test_several_runs_and_the_short_form(told, bare, hostile, tmp_path) -> None:
    """Catches ids of one run's chart that collide with another's."""
    page = write_report([told, bare, hostile], tmp_path / "several.html")
    found = look(page, tmp_path, 320, LIGHT)
    is_sound(found | {"texts": 1000})
    assert found["charts"] == 2
    short = RunReader(told)._repr_html_() + RunReader(told)._repr_html_()
    (tmp_path / "short.html").write_text(f"<!DOCTYPE html><body>{short}", encoding="utf-8")
    found = look(tmp_path / "short.html", tmp_path, 700, DARK)
    is_sound(found | {"texts": 1000})
    assert found["charts"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_pictures_of_it(told, tmp_path, width) -> None:
    """Catches a page that renders as nothing, or logs an error when opened as a file."""
    from PIL import Image

    page = write_report([told], tmp_path / "report.html")
    # a narrow window is refused below some 500 px; a page that is too wide shows all the same
    done = chromium(tmp_path, f"--window-size={width},2400", f"--screenshot={tmp_path / 'a.png'}",
                    page.as_uri())  # fmt: skip
    assert ":CONSOLE" not in done.stderr, done.stderr
    with Image.open(tmp_path / "a.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
        assert picture.width == width
    assert colours is not None and len(colours) > 200
    background = max(colours)[0] / sum(count for count, _ in colours)
    assert 0.3 < background < 0.98
