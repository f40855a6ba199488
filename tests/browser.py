"""A headless Chromium, driven over the WebDriver protocol; tests skip where it is not installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from contextlib import contextmanager

import httpx2
import pytest

needs_browser = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="Chromium and its driver are not installed (Debian: chromium, chromium-driver)",
)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
FLAGS += ["--window-size=1280,900"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name of a reference
KEYS = {"down": "\ue015", "up": "\ue013", "escape": "\ue00c", "enter": "\ue007"}


class Browser:
    """One window."""

    def __init__(self, http, session):
        self._http, self._session = http, session

    def _do(self, method, path, **body):
        response = self._http.request(
            method, f"/session/{self._session}{path}", json=body if method == "POST" else None
        )
        value = response.json()["value"]
        assert response.is_success, value
        return value

    def open(self, url):
        """Go to an address."""
        self._do("POST", "/url", url=url)

    def run(self, script, *arguments):
        """The value of a function's body in the page."""
        return self._do("POST", "/execute/sync", script=script, args=arguments)

    def text(self, selector):
        """The visible texts of all elements."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())", selector)

    def element(self, selector):
        """The path of an element."""
        found = self._do("POST", "/element", using="css selector", value=selector)
        return f"/element/{found[ELEMENT]}"

    def click(self, selector):
        """Click on an element."""
        self._do("POST", f"{self.element(selector)}/click")

    def type(self, selector, text):
        """Type into an element."""
        self._do("POST", f"{self.element(selector)}/value", text=text)

    def press(self, key):
        """Press a key wherever the focus is."""
        key = KEYS.get(key, key)
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._do("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def accept(self):
        """Say yes to a question, and return its text."""
        told = self._do("GET", "/alert/text")
        self._do("POST", "/alert/accept")
        return told

    def wait(self, script, *arguments):
        """Wait until a function's body in the page is true."""
        end = time.monotonic() + 20
        while not (value := self.run(script, *arguments)):
            assert time.monotonic() < end, (script, self.run("return document.body.innerText"))
            time.sleep(0.02)
        return value

    def size(self, width, height):
        """The size of the page on the screen, as on a phone."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        self._do("POST", "/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)

    def scheme(self, name):
        """Prefer dark or light."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._do("POST", "/goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"features": features})

    def console(self):
        """What the page complained of."""
        return [entry["message"] for entry in self._do("POST", "/se/log", type="browser")]

    def picture(self):
        """What is seen, as a PNG in base64."""
        return self._do("GET", "/screenshot")


@contextmanager
def browsing():
    """A browser, closed at the end."""
    driver = subprocess.Popen([shutil.which("chromedriver"), "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        port = next(found[1] for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
            options = {"goog:chromeOptions": {"args": FLAGS, "binary": shutil.which("chromium")}}
            asked = {"capabilities": {"alwaysMatch": {**options, "goog:loggingPrefs": {"browser": "ALL"}}}}
            session = http.post("/session", json=asked).json()["value"]["sessionId"]
            yield Browser(http, session)
            http.delete(f"/session/{session}")
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()
