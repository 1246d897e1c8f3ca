"""A user's own data by path in the form: typed with completion, looked at before it starts, refused in a sentence."""

import pytest

from .jupyter import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # the form's parts are tested without a page, in tests/widgets

PHOTOS = """import numpy as np, os
from PIL import Image
random = np.random.default_rng(0)
for label, name in enumerate(("cat", "dog", "owl")):
    os.makedirs(f"photos/{name}", exist_ok=True)
    for i in range(30 if label else 8):
        x, y = np.meshgrid(np.arange(48), np.arange(36))
        wave = 128 + 100 * np.sin((x if label else y) / (3 + label) + i)
        pixels = np.stack([wave if c == label else wave / 2 for c in range(3)], -1) + random.normal(0, 8, (36, 48, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(f"photos/{name}/{i}.png")
body = open("photos/dog/3.png", "rb").read()
open("photos/dog/broken.png", "wb").write(body[:-40])
from lepton_widgets import Workbench
bench = Workbench(epochs=2, model="cnn")
bench"""


def test_a_path_is_typed_looked_at_and_trained_on(notebook):
    book = notebook(PHOTOS)
    page = book.page
    page.emulate_media(reduced_motion="reduce")
    book.run_all()
    page.locator(".ll-panel").wait_for()
    book.shoot("form", ".ll-panel")
    page.get_by_role("combobox", name="Data set").select_option(label="images: …")
    path = page.get_by_role("combobox", name="Path")
    path.press_sequentially("pho")
    wait_for(lambda: path.evaluate("box => [...box.list.options].map(o => o.value)") == ["photos/"], "no completion")
    page.get_by_role("alert").get_by_text("did you mean 'photos'?").wait_for()
    path.press_sequentially("tos/")
    page.get_by_role("alert").get_by_text("1 file can't be read: dog/broken.png (cut short)").wait_for()
    assert page.get_by_role("button", name="Launch", exact=True).is_disabled()
    page.get_by_role("button", name="More settings").click()
    page.get_by_role("combobox", name="unreadable").select_option(label="skip")
    look = page.locator(".ll-panel .ll-look")
    look.get_by_text("owl has").or_(look.get_by_text("cat 8")).first.wait_for()
    assert look.locator("img").count() == 5
    page.get_by_role("button", name="Fewer settings").click()
    book.shoot("path-light", ".ll-panel")
    page.get_by_role("button", name="Launch", exact=True).click()
    book.wait_state("done")
    book.command("apputils:change-theme", theme="JupyterLab Dark")
    wait_for(lambda: page.locator(".ll-live").get_attribute("data-theme") == "dark", "the theme was not read again")
    page.wait_for_timeout(500)
    book.shoot("path-dark", ".ll-panel")
    book.command("application:toggle-left-area")
    page.set_viewport_size({"width": 420, "height": 1800})
    page.wait_for_timeout(500)
    book.shoot("path-narrow", ".ll-panel")
    assert book.complaints == []
    book.run("import lepton_lab as lab\nlab.look('images:photos/', unreadable='skip')")
    page.locator(".jp-OutputArea .ll-look img").last.wait_for()
    book.shoot("look", ".jp-Cell:last-child")
