"""A real JupyterLab server and a notebook in the browser, for tests and benchmarks."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from unittest.mock import patch

import psutil

import lepton_lab as lab

TOKEN = "browser-test"
WIDGETS = Path(__file__).parents[2] / "widgets"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update"]
# Lab's own sign of an idle kernel comes while the session is still being made, and a "run all" sent then is lost.
READY = """(name) => {
  const widget = window.jupyterapp?.shell.currentWidget, session = widget?.sessionContext;
  if (name && widget?.context?.path !== name) return false;
  return !!(session?.isReady && session.session?.kernel?.connectionStatus === "connected"
    && session.kernelDisplayStatus === "idle" && widget.context.isReady);
}"""
SHUT = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel?.sessionContext?.shutdown();
  panel?.dispose();
}"""
PLAIN = """async () => {
  window.jupyterapp.shell.expandLeft();
  await window.jupyterapp.commands.execute("apputils:change-theme", { theme: "JupyterLab Light" });
}"""
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@contextlib.contextmanager
def serving(folder, **environment):
    """A server in a fresh folder, started under some more variables; neither is left behind."""
    with patch.dict(os.environ, {name: str(value) for name, value in environment.items()}):
        server = Jupyter(folder)
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(folder)


class Jupyter:
    """A JupyterLab server on a free port of the loopback, with all of its folders below `folder`.

    Parameters
    ----------
    folder
        Fresh folder; notebooks are served from its `work`, runs are kept in its `home`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.work, self.home = folder, folder / "work", folder / "home"
        self.work.mkdir(parents=True)
        self._settle()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = (folder / "jupyter.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
             f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
             f"--ServerApp.root_dir={self.work}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
            env=self._environment(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
        )  # fmt: skip
        wait_for(lambda: self.ask("status"), "JupyterLab did not start")

    def _settle(self) -> None:
        """Our settings in place of what pages have changed, as their theme, and no memory of what was open."""
        for name in ("settings", "workspaces"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name, values in SETTINGS.items():
            file = self.folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))

    def _environment(self) -> dict[str, str]:
        below = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
        environment = {f"JUPYTER_{name}": str(self.folder / path) for name, path in below.items()}
        environment |= {
            "JUPYTERLAB_SETTINGS_DIR": str(self.folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.folder / "workspaces"),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "HOME": str(self.folder),
            "LEPTON_LAB_HOME": str(self.home),
            "LEPTON_LAB_DATA": str(self.folder / "data-sets"),
            "JUPYTER_PATH": str(WIDGETS),  # whatever of ours the environment has installed
        }
        Path(environment["LEPTON_LAB_DATA"]).mkdir(exist_ok=True)
        return {**os.environ, **environment}

    def ask(self, path: str, method: str = "GET") -> object:
        """Answer of the server's REST interface, None where it has none."""
        request = urllib.request.Request(f"{self.url}/api/{path}?token={TOKEN}", method=method)
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read() or "true")
        return None

    def processes(self) -> list[psutil.Process]:
        """Processes that live in our folders: the server, kernels, supervisors, ranks."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("LEPTON_LAB_HOME") == str(self.home):
                    found.append(process)
        return found

    def stop_runs(self) -> None:
        """Ask every run that still goes to stop, and wait for it."""
        with patch.dict(os.environ, {"LEPTON_LAB_HOME": str(self.home)}):
            for run in lab.runs():
                run.stop()
                run.wait(30)

    def clear(self) -> None:
        """As it was before a test: no run is there, no kernel runs, and no setting is changed."""
        self.stop_runs()
        for kind in ("sessions", "kernels"):
            for each in self.ask(kind) or []:
                self.ask(f"{kind}/{each['id']}", "DELETE")
        shutil.rmtree(self.home / "runs", ignore_errors=True)
        self._settle()

    def close(self) -> None:
        """End the server; fails if a process outlives it by a minute, after ending that too."""
        self.clear()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.log.close()
        try:
            wait_for(lambda: not self.processes(), "")
        except AssertionError:
            left = self.processes()
            names = [" ".join(process.cmdline())[:120] for process in left]
            for process in left:
                process.kill()
            raise AssertionError(f"processes were left: {names}") from None


def chromium_path() -> str | None:
    """A Chromium or Chrome on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def wait_for(condition, otherwise: str, seconds: float = 60) -> object:
    """The first true value of `condition`, looked at ten times a second; beside other work a moment may be long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(otherwise)


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells without outputs."""
    blank = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    listed = [{**blank, "id": f"cell{i}", "source": cell} for i, cell in enumerate(cells)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": listed}))


class Notebook:
    """One notebook in the browser: runs cells, reads outputs, and notes what should not happen.

    Attributes
    ----------
    page : playwright Page
    complaints : list of str
        Errors on the browser's console, and requests to any other host.
    """

    def __init__(self, page, jupyter: Jupyter, name: str) -> None:
        self.page, self.jupyter, self.name = page, jupyter, name
        self.complaints: list[str] = []
        self._hears = {
            "console": lambda message: message.type == "error" and self._complain(message.text),
            "pageerror": lambda error: self.complaints.append(error.stack or str(error)),
            "request": lambda request: self._check(request.url),
        }
        for event, hear in self._hears.items():
            page.on(event, hear)
        self.open(anew=not self._in_lab())

    def _in_lab(self) -> bool:
        return self.page.url.startswith(f"{self.jupyter.url}/lab")

    def _complain(self, text: str) -> None:
        if "ERR_NETWORK_CHANGED" not in text:  # the machine's own, wherever Chromium loads from
            self.complaints.append(text)

    def _check(self, url: str) -> None:
        if not url.startswith((self.jupyter.url, self.jupyter.url.replace("http", "ws"), "data:", "blob:")):
            self.complaints.append(f"request to {url}")

    def open(self, anew: bool = True) -> None:
        """Show it, in a JupyterLab that is loaded anew or in the one that the page shows."""
        if anew:
            self.page.goto(f"{self.jupyter.url}/lab/tree/{self.name}?token={TOKEN}&reset")
        else:
            self.command("docmanager:open", path=self.name)
        self.page.wait_for_function(READY, arg=self.name, timeout=60_000)

    def close(self) -> None:
        """Shut its kernel down, and leave the page as one in which another notebook can be opened."""
        for event, hear in self._hears.items():
            self.page.remove_listener(event, hear)
        self.page.emulate_media(color_scheme="null", forced_colors="null", reduced_motion="null")
        if self._in_lab():
            self.page.evaluate(SHUT)
            self.page.evaluate(PLAIN)

    def reload(self) -> None:
        """Save, and load the page anew, as a person does."""
        self.command("docmanager:save")
        self.page.reload()
        self.page.wait_for_function(READY, timeout=60_000)

    def command(self, name: str, **arguments: object) -> None:
        self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => null)", [name, arguments]
        )

    def empty(self) -> None:
        """Take out all cells, on which nothing may complain; what the kernel has stays, and earlier complaints go."""
        self.complaints.clear()
        self.page.evaluate(
            """() => {
              const { sharedModel } = window.jupyterapp.shell.currentWidget.content.model;
              sharedModel.deleteCellRange(0, sharedModel.cells.length);
            }"""
        )
        self.page.wait_for_function("() => !document.querySelector('.jp-Notebook .ll-root')")
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert not self.complaints, self.complaints

    def run_all(self) -> None:
        """Run all cells and wait for their end."""
        self.command("notebook:run-all-cells")

    def run(self, source: str, wait: bool = True) -> str:
        """Append a cell, run it, and return the text it printed (nothing without `wait`)."""
        return self.page.evaluate(
            """async ([source, wait]) => {
              const panel = window.jupyterapp.shell.currentWidget, model = panel.content.model.sharedModel;
              model.insertCell(model.cells.length, {cell_type: "code", source});
              panel.content.activeCellIndex = model.cells.length - 1;
              const done = window.jupyterapp.commands.execute("notebook:run-cell");
              if (!wait) return "";
              await done;
              return panel.content.activeCell.model.outputs.toJSON().map((o) => o.text ?? o.evalue ?? "").join("");
            }""",
            [source, wait],
        )

    def restart_kernel(self) -> None:
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel().then(() => null)"
        )
        self.page.wait_for_function(READY, timeout=60_000)

    def points(self, index: int = -1) -> int:
        """Number of points that the live view at `index` has drawn; out of sight it draws nothing."""
        views = self.page.locator(".ll-live")
        if not views.count():
            return 0
        view = views.nth(index % views.count())
        view.scroll_into_view_if_needed()
        return int(view.get_attribute("data-points") or 0)

    def wait_state(self, state: str, seconds: float = 60, index: int = -1) -> None:
        views = self.page.locator(".ll-live")
        wait_for(
            lambda: views.count() and views.nth(index % views.count()).get_attribute("data-state") == state,
            f"no live view came to the state {state!r}", seconds,
        )  # fmt: skip

    def shoot(self, name: str, selector: str | None = None) -> None:
        """Keep a picture under LEPTON_LAB_SCREENSHOTS, if that is set."""
        keep(self.page.locator(selector).last if selector else self.page, name)


def keep(target, name: str) -> None:
    """Keep a picture of a page, or of a part of it, under LEPTON_LAB_SCREENSHOTS, if that is set."""
    if folder := os.environ.get("LEPTON_LAB_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(target.screenshot())  # with `path` Playwright would keep threads
