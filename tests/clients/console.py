"""The console in a browser: console.py SCENARIO PREDICTD REPOSITORY.

Starts workers of its own, since it replaces versions and ends workers under the open page. `screenshot` writes
docs/console.png.
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">"
SAMPLE = """\
samples:
  - request: {"instances": [[14.23, 1.71, 2.43, 15.6, 127, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065]]}
"""
SCENARIO, PREDICTD, REPOSITORY = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
MODELS = REPOSITORY / "tests/models"
# Far more than any wait takes.
PATIENCE = 60_000


expect.set_options(timeout=PATIENCE)


class Worker:
    """`predictd serve` for a folder, always on the same port."""

    def __init__(self, folder: pathlib.Path, **variables: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.variables, self.url = folder, variables, f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        own = {"PREDICTD_HTTP__LISTEN": f"127.0.0.1:{self.port}", "PREDICTD_MODELS__POLL_INTERVAL": "1s"}
        command = [PREDICTD, "serve", "--models", str(self.folder)]
        self.process = subprocess.Popen(command, env=os.environ | own | self.variables, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}health"):
                return
            time.sleep(0.05)
        raise TimeoutError("the worker does not answer")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def put(folder: pathlib.Path, model: str, source: str, version: str = "1", declaration: str = "") -> None:
    """A version that is complete at once."""
    beside = folder.parent / "beside"
    shutil.copytree(MODELS / source, beside)
    if declaration:
        (beside / "model.yaml").write_text(declaration)
    (folder / model).mkdir(exist_ok=True)
    beside.rename(folder / model / version)


class Watched:
    """A page; its console errors, and its requests to other hosts."""

    def __init__(self, browser, worker: Worker, **options):
        self.worker, self.errors, self.foreign = worker, [], []
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.is_foreign(request.url) and self.foreign.append(request.url))

    def is_foreign(self, url: str) -> bool:
        return not url.startswith((self.worker.url, f"blob:{self.worker.url}"))

    def open(self, view: str):
        self.page.goto(f"{self.worker.url}#{view}")
        return self.page

    def check(self, expected: str = "$^") -> None:
        """No request to another host; no error but those expected, such as the status of a refused request."""
        assert not self.foreign, self.foreign
        other = [error for error in self.errors if not re.search(expected, error)]
        assert not other, other
        assert self.page.title() == "predictd console", "text became HTML"


def check_accessibility(page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def by_keyboard(browser, worker) -> None:
    """A prediction from an empty page, by keys alone: finds a model, changes a field, asks, reads the bars."""
    watched = Watched(browser, worker)
    page = watched.open("try")
    expect(page.locator("#model")).not_to_have_value("")
    keys = page.keyboard
    for _ in range(20):
        if page.evaluate("document.activeElement.id") == "model":
            break
        keys.press("Tab")
    keys.type("win")
    expect(page.locator("#model-list li")).to_have_text(["wine"])
    keys.press("Enter")
    expect(page.locator("#field-0")).to_have_value("14.23")
    for _ in range(40):
        if page.evaluate("document.activeElement.id") == "field-0":
            break
        keys.press("Tab")
    keys.press("Control+a")
    keys.type("13.5")
    keys.press("Enter")
    expect(page.locator("#result .big")).to_have_text("0")
    expect(page.locator("#result .bars tr")).to_have_count(3)
    expect(page.locator("#result .meta")).to_contain_text("version 1")
    expect(page.locator("#result")).to_have_attribute("aria-live", "polite")
    # What is shown for programs is what the page sent.
    page.locator("#commands summary").focus()
    keys.press("Enter")
    shown = page.locator("#commands pre")
    answer = page.locator("#result pre").text_content()
    for index, program in enumerate((["sh", "-c"], [sys.executable, "-c"])):
        text = shown.nth(index).text_content()
        assert "13.5" in text, text
        run = subprocess.run([*program, text], capture_output=True, text=True, timeout=60, check=False)
        assert run.stdout.strip() == answer, run
    assert "gcloud pubsub topics publish" in shown.nth(2).text_content()
    page.locator("input[name=way][value=json]").check()
    page.locator("#json").fill('{"instances": [[1, 2]]}')
    keys.press("Control+Enter")
    expect(page.locator("#result .error")).to_contain_text("INVALID_INPUT")
    expect(page.locator("#result .error")).to_contain_text("13")
    watched.check("status of 400")


def image(browser, worker) -> None:
    """An upload with preview and download, of a model whose labels and name are HTML."""
    watched = Watched(browser, worker)
    page = watched.open("try")
    page.locator("#model").fill("onerror")
    page.locator("#model-list li").first.wait_for()
    page.keyboard.press("Enter")
    page.locator("#as-image").wait_for()
    page.locator("#file").set_input_files(MODELS / "zoo/image.png")
    expect(page.locator("#preview")).to_have_js_property("complete", True)
    assert page.locator("#preview").evaluate("image => image.naturalWidth") > 0
    page.locator("#predict").click()
    expect(page.locator("#result .bars tr")).to_have_count(3)
    labels = page.locator("#result .bars th").all_text_contents()
    assert set(labels) == {HOSTILE}, labels
    with page.expect_download() as download:
        page.locator("#result a[download]").click()
    name = download.value.suggested_filename
    assert name.endswith("_prediction_results.json"), name
    body = pathlib.Path(download.value.path()).read_bytes()
    # The browser keeps no copy to compare with; another client gets the same.
    url = f"{worker.url}predict?{urllib.parse.urlencode({'model': HOSTILE})}"
    data = (MODELS / "zoo/image.png").read_bytes()
    request = urllib.request.Request(url, data, {"content-type": "image/png"})
    with urllib.request.urlopen(request) as answer:
        assert body == answer.read() and b"onerror" in body
    page.locator("#reset").click()
    expect(page.locator("#preview")).to_be_hidden()
    page.locator("#predict").click()
    expect(page.locator("#invalid")).to_have_text("Choose an image first.")
    page.locator("nav a[href='#models']").click()
    expect(page.locator("#all details").first).to_contain_text(HOSTILE)
    expect(page.locator("main img:visible")).to_have_count(0)
    watched.check()


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Another host, which lets every page read its answers. Notes what it is asked for."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("access-control-allow-origin", "*")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


def policy(browser, worker) -> None:
    """Not even a script in the page can ask another host, or run text as a program."""
    watched = Watched(browser, worker)
    page = watched.open("try")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}"
        blocked = page.evaluate(
            """async (url) => {
                const image = new Image(), script = document.createElement("script");
                const ends = (element) => new Promise((end) => {
                    element.onload = () => end(false);
                    element.onerror = () => end(true);
                });
                const all = [fetch(`${url}/fetch`).then(() => false, () => true), ends(image), ends(script)];
                image.src = `${url}/image`;
                script.src = `${url}/script`;
                document.head.append(script);
                document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='document.title = 1'>");
                return Promise.all(all);
            }""",
            url,
        )
        other.shutdown()
    assert blocked == [True, True, True] and not Elsewhere.asked, (blocked, Elsewhere.asked)
    watched.foreign.clear()
    watched.check("Content Security Policy|status of 404")


def hidden(browser, worker) -> None:
    """A page in a hidden tab asks for nothing, and asks at once when it is seen again."""
    watched = Watched(browser, worker)
    page = watched.page
    page.clock.install()
    asked = []
    page.on("request", lambda request: "now.json" in request.url and asked.append(request.url))
    watched.open("try")
    expect(page.locator("#model")).not_to_have_value("")
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    before = len(asked)
    page.clock.fast_forward(60_000)
    # A request of the timer would begin before this one.
    page.evaluate("fetch('/health').then((answer) => answer.text())")
    assert len(asked) == before, asked
    with page.expect_request(lambda request: "now.json" in request.url):
        page.evaluate(hide, False)
    watched.check()


def text(browser, worker) -> None:
    watched = Watched(browser, worker)
    page = watched.open("try?model=reviews")
    page.locator("#text").fill("a wonderful little film")
    page.locator("#predict").click()
    expect(page.locator("#result .bars tr")).to_have_count(2)
    watched.check()


def figures(browser, worker) -> None:
    """The requests before are in the charts and in the tables once their step is complete."""
    watched = Watched(browser, worker)
    page = watched.open("now")
    line = page.locator("#versions tr", has_text="wine 1")
    expect(line).to_contain_text("INVALID_INPUT 1")
    expect(page.locator("#charts svg[role=img]")).to_have_count(3)
    expect(page.locator("#charts svg[role=img]").first).not_to_have_attribute("aria-label", re.compile("highest 0$"))
    page.locator("#figures summary").click()
    page.locator("#figures tbody tr").first.wait_for()
    page.locator("#series").select_option(label="wine 1")
    expect(page.locator("#charts svg[role=img]")).to_have_count(3)
    # A page that begins here takes no model that it finds for a change.
    page.reload()
    line.wait_for()
    with page.expect_response(lambda response: "now.json" in response.url):
        pass
    expect(page.locator("#news")).to_be_empty()
    watched.check()


def accessibility(browser, worker) -> None:
    for scheme in ("light", "dark"):
        for width in (1280, 390):
            watched = Watched(browser, worker, color_scheme=scheme, viewport={"width": width, "height": 800})
            page = watched.open("try?model=wine")
            page.locator("#field-0").wait_for()
            page.locator("#predict").click()
            page.locator("#result .bars").wait_for()
            page.locator("#commands summary").click()
            check_accessibility(page)
            overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, f"{overflow} pixels too wide at {width}"
            page.locator("#field-0").fill("red")
            page.locator("#predict").click()
            page.locator("#result .error").wait_for()
            page.locator("#model").click()
            check_accessibility(page)
            for view in ("now", "models"):
                page.locator(f"nav a[href='#{view}']").click()
                page.locator("#charts figure, #all details").locator("visible=true").first.wait_for()
                if view == "now":
                    row = page.locator("#versions tr", has_text="wine 1")
                    lines = row.evaluate("row => row.offsetHeight / 24")
                    assert lines < 3, f"a row of {lines} lines at {width}"
                if view == "models":
                    page.locator("#all summary").last.click()
                check_accessibility(page)
            watched.check("status of 400")
            watched.context.close()


def basics(browser, folder: pathlib.Path) -> None:
    put(folder, "wine", "wine/1", declaration=SAMPLE)
    put(folder, "reviews", "gallery/reviews")
    digits = (MODELS / "gallery/digits/model.yaml").read_text()
    labels = ", ".join(["'" + HOSTILE.replace("'", "''") + "'"] * 10)
    put(folder, HOSTILE, "gallery/digits", declaration=re.sub(r"labels: \[.*\]", f"labels: [{labels}]", digits))
    worker = Worker(folder)
    try:
        for scenario in (by_keyboard, image, text, policy, hidden, figures, accessibility):
            scenario(browser, worker)
    finally:
        worker.end()


def trouble(browser, folder: pathlib.Path) -> None:
    """No model yet, a refused version, a version change, overload, a broken connection, a restart, tokens."""
    tokens = folder.parent / "tokens"
    tokens.write_text("secret\n")
    worker = Worker(folder, PREDICTD_HTTP__TOKENS_FILE=str(tokens), PREDICTD_INFERENCE__THREADS="1")
    try:
        watched = Watched(browser, worker)
        page = watched.open("try")
        page.locator("#token-value").fill("wrong")
        page.locator("#token button").click()
        expect(page.locator("#token-error")).to_contain_text("does not know")
        page.locator("#token-value").fill("secret")
        page.keyboard.press("Enter")
        expect(page.locator("#about")).to_contain_text("No model is served yet")
        assert "secret" not in page.content()
        page.locator("#as-json textarea").fill("{}")
        page.locator("#predict").click()
        expect(page.locator("#result .error")).to_contain_text("UNAVAILABLE")
        expect(page.locator("#result .error")).to_contain_text(re.compile(r"Try again in \d seconds?\."))

        put(folder, "wine", "wine/1", declaration=SAMPLE)
        expect(page.locator("#model")).to_have_value("wine")
        expect(page.locator("#field-0")).to_have_value("14.23")
        page.locator("#field-0").fill("13.9")
        put(folder, "wine", "wine/2", "2", declaration=SAMPLE)
        expect(page.locator("#news")).to_contain_text("version 2")
        expect(page.locator("#field-0")).to_have_value("13.9")
        page.locator("#predict").click()
        expect(page.locator("#result .meta")).to_contain_text("version 2")

        put(folder, "wine", "gallery/xgboost", "3")
        page.locator("#version option[value='3']").wait_for(state="attached")
        page.locator("#version").select_option("3")
        info = urllib.request.Request(f"{worker.url}info", headers={"authorization": "Bearer secret"})
        with urllib.request.urlopen(info) as answer:
            [refused] = json.load(answer)["models"]["wine"]["refused"]
        assert "another signature" in refused["reason"] and len(refused["reason"]) > 200, refused
        expect(page.locator("#about")).to_have_text(f"Version 3 is refused: {refused['reason']}")
        page.locator("nav a[href='#models']").click()
        expect(page.locator("#all dd").get_by_text(refused["reason"], exact=True)).to_be_visible()
        page.locator("nav a[href='#try']").click()
        page.locator("#predict").click()
        expect(page.locator("#result .error")).to_contain_text("MODEL_NOT_FOUND")

        # A measured call, then one at work and one behind it: a request with a short deadline is refused.
        put(folder, "slow", "faults/slow/1")
        page.locator("#model").click()
        page.locator("#model-list li", has_text="slow").click()
        page.locator("input[name=way][value=json]").check()
        page.locator("#json").fill('{"instances": [3000]}')
        page.locator("#predict").click()
        expect(page.locator("#result .meta")).to_contain_text("status 200")
        for _ in range(3):
            threading.Thread(target=ask_slowly, args=(worker.url,), daemon=True).start()
        hurry = lambda route: route.continue_(headers=route.request.headers | {"x-request-timeout-ms": "1"})  # noqa: E731
        page.route("**/predict*", hurry)
        expect_refusal(page)
        page.unroute("**/predict*", hurry)

        # The worker ends while it computes.
        page.locator("#predict").click()
        expect(page.locator("#result")).to_have_attribute("aria-busy", "true")
        worker.end()
        expect(page.locator("#result .error")).to_contain_text("No answer came")
        expect(page.locator("#trouble")).to_contain_text("cannot be reached")
        # One that starts anew serves a model later than it answers; what was written stays meanwhile.
        page.locator("#json").fill('{"instances": [1]}')
        away = (folder / "slow").rename(folder.parent / "slow")
        worker.start()
        expect(page.locator("#trouble")).to_be_empty()
        expect(page.locator("#news")).to_contain_text("is not served any more")
        away.rename(folder / "slow")
        expect(page.locator("#version")).to_contain_text("served: 1")
        expect(page.locator("#json")).to_have_value('{"instances": [1]}')
        page.locator("#predict").click()
        expect(page.locator("#result .meta")).to_contain_text("status 200")
        watched.check(r"status of (401|404|429|503|504)|ERR_(CONNECTION|EMPTY|INCOMPLETE)")
    finally:
        worker.end()


def ask_slowly(url: str) -> None:
    headers = {"authorization": "Bearer secret"}
    request = urllib.request.Request(f"{url}predict?model=slow", b'{"instances": [100000]}', headers)
    with contextlib.suppress(OSError):
        urllib.request.urlopen(request).read()


def expect_refusal(page) -> None:
    """Asks until the queue is long enough for a refusal."""
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end:
        with page.expect_response(lambda response: "/predict" in response.url):
            page.locator("#predict").click()
        expect(page.locator("#result")).to_have_attribute("aria-busy", "false")
        if "OVERLOADED" in page.locator("#result").text_content():
            expect(page.locator("#result .error")).to_contain_text(re.compile(r"Try again in \d seconds?\."))
            return
    raise TimeoutError("never overloaded")


def many(browser, folder: pathlib.Path) -> None:
    """Two thousand models: the page is there in a second, and typing finds one."""
    count = 2000
    for number in range(count):
        put(folder, f"iris-{number:04}", "gallery/iris")
    worker = Worker(folder)
    try:
        end = time.monotonic() + 5 * PATIENCE / 1000
        served = 0
        while served < count:
            assert time.monotonic() < end, f"{served} models are served"
            time.sleep(0.5)
            with urllib.request.urlopen(f"{worker.url}info") as info:
                served = info.read().count(b'"loaded_at"')
        watched = Watched(browser, worker)
        times, sizes = [], {}
        watched.page.on("response", lambda response: sizes.setdefault(response.url, response))
        # The best counts: other tests run beside this one.
        while len(times) < 5 or min(times) >= 1 and len(times) < 30:
            begun = time.monotonic()
            page = watched.open("try")
            expect(page.locator("#model")).to_have_value("iris-0000")
            times.append(time.monotonic() - begun)
            page.goto("about:blank")
        print(f"loaded in {min(times):.3f} to {max(times):.3f} s", file=sys.stderr)
        assert min(times) < 1, times
        page = watched.open("try")
        page.locator("#model").fill("1234")
        expect(page.locator("#model-list li")).to_have_text(["iris-1234"])
        page.keyboard.press("Enter")
        expect(page.locator("#model")).to_have_value("iris-1234")
        own = [url for url in sizes if url == worker.url or url.endswith((".js", ".svg"))]
        size = sum(len(urllib.request.urlopen(urllib.request.Request(url, headers={"accept": "text/html"})).read()) for url in own)
        assert len(own) >= 2 and size < 100_000, (own, size)
        page.locator("nav a[href='#models']").click()
        page.locator("#filter").fill("1999")
        expect(page.locator("#all details")).to_have_count(1)
        watched.foreign = [url for url in watched.foreign if url != "about:blank"]
        page.goto(f"{worker.url}#try")
        watched.check()
    finally:
        worker.end()


def screenshot(browser, folder: pathlib.Path) -> None:
    put(folder, "wine", "wine/2", "2", declaration=SAMPLE)
    worker = Worker(folder)
    try:
        page = Watched(browser, worker, viewport={"width": 880, "height": 560}).open("try?model=wine")
        page.locator("#field-0").wait_for()
        page.locator("#predict").click()
        page.locator("#result .bars").wait_for()
        page.locator("#try-title").click()
        page.locator("#replica").evaluate("replica => replica.textContent = 'worker-7d4f · 0.1.0'")
        page.screenshot(path=REPOSITORY / "docs/console.png")
    finally:
        worker.end()


def main() -> None:
    scenario = {"basics": basics, "trouble": trouble, "many": many, "screenshot": screenshot}[SCENARIO]
    with tempfile.TemporaryDirectory() as root, sync_playwright() as driver:
        folder = pathlib.Path(root) / "models"
        folder.mkdir()
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            scenario(browser, folder)
        finally:
            browser.close()


main()
