"""A real browser without a window, told what to do over its own pipe: Chromium's DevTools protocol, and no package."""

import base64
import fcntl
import io
import itertools
import json
import os
import select
import shutil
import subprocess
import time

import matplotlib.image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
_BOX = """(() => {
    const element = document.querySelector(%s);
    element.scrollIntoView({block: "center"});
    const box = element.getBoundingClientRect();
    return [box.x + scrollX, box.y + scrollY, box.width, box.height];
})()"""
_SECONDS = 60  # until an answer is there; a machine may be busy


def find_browser() -> str | None:
    """Return the browser that is on this machine, if any."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser that runs until the ``with`` block ends.

    Attributes
    ----------
    requested : list of str
        Addresses that the page asked for, itself included.
    complaints : list of str
        What the page's console was told, and errors that nobody caught.
    """

    def __init__(self, program, profile):
        self._in, told = os.pipe()
        read, self._out = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4; ours must not stand there.
        high = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (read, told)]
        shell = f'exec "$@" 3<&{high[0]} 4>&{high[1]}'
        command = ["bash", "-c", shell, "bash", program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, pass_fds=high, **quiet)
        for each in (read, told, *high):
            os.close(each)
        self._numbers, self._rest, self._session = itertools.count(1), b"", None
        self.requested: list[str] = []
        self.complaints: list[str] = []
        (page,) = (t for t in self._ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(10)
        os.close(self._in)
        os.close(self._out)

    def open(self, path, width=1200, height=900, *, dark=False, mobile=False):
        """Show a file."""
        self.resize(width, height, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self.requested.clear()
        self.complaints.clear()
        self._ask("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete'")

    def resize(self, width, height, *, mobile=False):
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def do(self, script):
        """Run JavaScript in the page; return its value, waited for."""
        answer = self._ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition):
        """Wait until a condition of the page holds."""
        end = time.monotonic() + _SECONDS
        while not self.do(condition):
            assert time.monotonic() < end, f"never came: {condition}"
            time.sleep(0.02)

    def press(self, key):
        """Press a key, in whatever has the focus."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, **(text if kind == "keyDown" else {}))

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def png(self, selector=None):
        """Return what is to be seen of an element that the window holds, or of the whole page."""
        clip = {"captureBeyondViewport": selector is None}
        if selector is not None:
            box = self.do(_BOX % json.dumps(selector))
            clip["clip"] = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1)
        return base64.b64decode(self._ask("Page.captureScreenshot", format="png", **clip)["data"])

    def picture(self, selector):
        """Return what is to be seen of an element: float (height, width, 3) from 0 to 1."""
        return matplotlib.image.imread(io.BytesIO(self.png(selector)))[..., :3]

    def _ask(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self._hear(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _next(self):
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], _SECONDS)[0], "the browser does not answer"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser ended"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def _hear(self, event):
        about = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requested.append(about["request"]["url"][:200])  # data: addresses hold all that they stand for
        elif event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(about["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded":
            self.complaints.append(about["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([each.get("value", each.get("description")) for each in about["args"]]))
