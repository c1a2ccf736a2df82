"""The page of `multifocal web`, served as users do: by gradio_client, and (slow) in Chromium."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.utils import Status
from PIL import Image

from multifocal_jax.cli.main import run
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.inference import TooLargeError
from multifocal_jax.evaluation.progress import Running
from multifocal_jax.web import work
from multifocal_jax.web.visits import Visits
from multifocal_jax.web.work import Limits, Options, Worker
from tests.evaluation.helpers import save_tiny

ROOT = Path(__file__).parents[2]
PIXELS = np.random.default_rng(0).integers(0, 200, (40, 60, 3)).astype(np.uint8)
AUTOMATIC = -1
PHONE = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True}
LIMITS = ("--max-pixels", "4", "--max-upload", "1")


class Served:
    """A page in a process of its own, whose temporary files lie in `files`."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.files, self.weights = folder / "tmp", save_tiny(folder / "tiny.safetensors")
        self.files.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = command or ("-m", "multifocal_jax.cli.main", "web", "--weights", self.weights, *LIMITS)
        settings = {"TMPDIR": str(self.files), "GRADIO_SERVER_PORT": str(self.port), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, *command], env=os.environ | settings, stdout=subprocess.PIPE, text=True
        )
        self.address = f"http://127.0.0.1:{self.port}/"
        self.said = self.process.stdout.readline()  # once it is there

    def left(self) -> list[Path]:
        """Files of visits."""
        return [path for path in self.files.rglob("*") if path.is_file()]

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.stdout.close()
        return self.process.wait(20)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    page = Served(tmp_path_factory.mktemp("page"))
    yield page
    page.end()


def visit(page: Served) -> Client:
    return Client(page.address, verbose=False, download_files=False)


def derained(page: Served, *files: Path, strength=1.0, ensemble=False):
    """The contents of the downloads, their names, and the lines about what failed."""
    given = list(map(handle_file, files)), page.weights, strength, AUTOMATIC, ensemble
    client = visit(page)
    _, _, downloads, failed = client.predict(*given, api_name="/derain")
    paths = [Path(item["path"]) for item in downloads["value"] or ()]
    contents = [path.read_bytes() for path in paths]
    client.close()
    return contents, [path.name for path in paths], failed["value"]


def eventually(condition) -> bool:
    for _ in range(400):  # a client that leaves is noticed at its next heartbeat
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_downloads_are_the_files_that_derain_writes(served, tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    Image.fromarray(PIXELS).save(tmp_path / "photo.jpg", exif=exif, quality=93, subsampling=0)
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "deep.png").read_bytes()[:200])
    files = [tmp_path / name for name in ("photo.jpg", "deep.png", "broken.png")]
    contents, names, failed = derained(served, *files, strength=0.7, ensemble=True)
    options = ["--weights", served.weights, "--strength", "0.7", "--ensemble", "--quiet"]
    run([*map(str, files[:2]), "-o", str(tmp_path / "out"), *options], "derain")
    assert names == ["photo-derained.jpg", "deep-derained.png"]
    for data, file in zip(contents, files, strict=False):
        assert data == (tmp_path / "out" / file.name).read_bytes()
    with Image.open(io.BytesIO(contents[0])) as photo:
        assert (photo.getexif()[0x010F], photo.size) == ("Maker", (40, 60))
    assert failed.startswith("picture broken.png cannot be read")
    assert "\n" not in failed


def test_two_visitors_wait_for_each_other_and_leave_nothing(served, tmp_path):
    Image.fromarray(np.tile(PIXELS, (40, 30, 1))).save(tmp_path / "large.png")
    Image.fromarray(PIXELS).save(tmp_path / "small.png")
    first, second = visit(served), visit(served)
    options = served.weights, 1, AUTOMATIC, True
    slow = first.submit([handle_file(tmp_path / "large.png")], *options, api_name="/derain")
    assert eventually(lambda: slow.status().code in (Status.PROCESSING, Status.PROGRESS))
    second.predict([handle_file(tmp_path / "small.png")], *options, api_name="/derain")
    assert slow.done()  # one computation at a time, in the order of asking
    assert len(slow.result()[2]["value"]) == 1
    second.close()
    assert eventually(lambda: not any("small" in path.name for path in served.left()))
    assert {path.name for path in served.left()} >= {"large.png", "large-derained.png"}
    first.close()
    assert eventually(lambda: not served.left()), served.left()


def test_limits_are_one_line(served, tmp_path):
    Image.new("RGB", (2001, 2000)).save(tmp_path / "large.png")
    contents, _, failed = derained(served, tmp_path / "large.png")
    assert (contents, failed) == ([], "large.png has 2001×2000 pixels; 4 million are allowed here")
    _, _, failed = derained(served, *[tmp_path / "large.png"] * 51)
    assert failed == "51 pictures; 50 are allowed here at a time"
    for size, status in ((2**20, 200), (2**20 + 1, 413)):
        assert httpx.post(f"{served.address}gradio_api/upload", files={"files": bytes(size)}).status_code == status


def test_frames_count_together(tmp_path):
    frames = [Image.fromarray(np.roll(PIXELS, step)).resize((1000, 500)) for step in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data = (tmp_path / "a.gif").read_bytes()
    assert Limits(megapixels=2).frames(data, "a.gif") == 3
    with pytest.raises(UserError, match="has 3 frames of 1000×500 pixels; 1 million are allowed here"):
        Limits(megapixels=1).frames(data, "a.gif")
    assert Limits().frames(b"no picture", "a.gif") == 1


def test_uploads_of_two_visitors_stay_until_both_have_left(tmp_path):
    visits, shared = Visits(tmp_path), tmp_path / "shared"
    shared.write_text("")
    own = visits.begin("a").folder / "result"
    own.write_text("")
    for name in "ab":
        visits.begin(name).uploads.add(shared)
    visits.end("a")
    assert "a" not in visits
    assert (own.exists(), shared.exists()) == (False, True)
    visits.end("b")
    assert list(tmp_path.iterdir()) == []


def test_a_computation_ends_when_its_visitor_leaves(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    reached = []

    def load(name, progress, **options):
        def derain(image):
            for second in range(5):
                progress(Running(40, 60, 0, 1, second, 5))
                reached.append(second)
                if second == 2:
                    visits.end("a")
            return image

        return derain

    monkeypatch.setattr(work, "load", load)
    (tmp_path / "visits").mkdir()
    visits, told = Visits(tmp_path / "visits"), []
    worker = Worker(visits, Limits())
    options = Options("w", 1.0, None, False)
    assert worker("a", [str(tmp_path / "a.png")] * 2, options, lambda *line: told.append(line)) == ([], [])
    assert reached == [0, 1, 2]
    assert told[-1] == (0.2, "1 of 2, a.png: 2 s")  # two of five seconds, of the first of two pictures


def test_what_is_too_large_even_in_tiles(tmp_path, monkeypatch):
    def load(name, **options):
        def derain(image):
            raise TooLargeError("tiles of 64 pixels would fit", 2, 1, 64)

        return derain

    monkeypatch.setattr(work, "load", load)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "visits").mkdir()
    worker = Worker(Visits(tmp_path / "visits"), Limits())
    for tile, advice in ((None, ""), (0, "; choose automatic tiles")):
        _, failed = worker("a", [str(tmp_path / "a.png")], Options("w", 1.0, tile, False), lambda *_: None)
        assert failed == [f"a.png: tiles of 64 pixels would fit{advice}"]


def test_bound_to_the_loopback_address_and_calling_nobody(served):
    connections = psutil.Process(served.process.pid).net_connections()
    assert {item.laddr.ip for item in connections if item.status == "LISTEN"} == {"127.0.0.1"}
    assert {item.raddr.ip for item in connections if item.raddr} <= {"127.0.0.1"}
    assert served.said == f"the page is at {served.address} (Ctrl-C ends it)\n"


def test_ports_that_are_taken_or_do_not_exist(served):
    for port in (served.port, 70000):
        where = f"127.0.0.1, port {port}; choose another --port or --host"
        command = [sys.executable, "-m", "multifocal_jax.cli.main", "web", "--port", str(port)]
        refused = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert refused.returncode == 2
        assert refused.stderr == f"error: the page cannot be served at {where}\n"


def test_unknown_weights():
    with pytest.raises(UserError, match="weights 'nowhere' are neither"):
        run(["web", "--weights", "nowhere"])


def test_a_space_runs_the_file_that_the_documentation_shows(tmp_path):
    """It leaves nothing behind, either."""
    shown = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "web.md").read_text(), re.DOTALL)
    (tmp_path / "app.py").write_text(shown.group(1))
    page = Served(tmp_path, str(tmp_path / "app.py"))
    assert visit(page).view_api(return_format="dict")["named_endpoints"].keys() == {"/derain"}
    assert page.end() == 130
    assert list(page.files.iterdir()) == []


@pytest.fixture
def browser(tmp_path):
    """Chromium, which downloads into `tmp_path`/downloads; where there is no Chromium, this fails."""
    from selenium import webdriver

    paths = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    assert all(paths), "install them: apt install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(word)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(paths[1])) as driver:
        driver.implicitly_wait(60)
        yield driver


def requested(browser) -> set[str]:
    """Addresses from which the browser has asked for something since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [item["params"]["request"]["url"] for item in messages if item["method"] == "Network.requestWillBeSent"]
    return {url for url in sent if url.startswith(("http", "ws"))}


def shown(browser, share: float) -> np.ndarray:
    """The colour of the slider's picture at this share of its width and half its height."""
    with Image.open(io.BytesIO(browser.find_element("css selector", "#slider img").screenshot_as_png)) as picture:
        return np.asarray(picture.convert("RGB"))[picture.height // 2, round(share * picture.width)].astype(int)


@pytest.mark.slow
def test_in_a_browser(served, browser, tmp_path):
    """Upload, wait, slide, download; in phone and desk width, light and dark, nothing overflows."""
    from selenium.webdriver import ActionChains

    Image.new("RGB", (300, 200), (200, 60, 20)).save(tmp_path / "red.png")
    Image.fromarray(PIXELS).save(tmp_path / "photo.jpg", quality=93)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    names = ("red.png", "photo.jpg", "broken.png")
    find = browser.find_element
    browser.get(served.address)
    find("css selector", "#pictures input[type=file]").send_keys("\n".join(str(tmp_path / name) for name in names))
    find("css selector", "#derain:not([disabled])").click()
    links = browser.find_elements("css selector", "#download td.download a")
    assert (
        find("css selector", "#failed textarea").get_attribute("value")
        == "broken.png is not a picture of a known format"
    )

    run(
        [*(str(tmp_path / name) for name in names[:2]), "-o", str(tmp_path / "out"), "--weights", served.weights],
        "derain",
    )
    for link, name in zip(links, names, strict=False):
        link.click()
        file = tmp_path / "downloads" / name.replace(".", "-derained.")
        assert eventually(file.exists)
        assert file.read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert len(links) == 2

    with Image.open(tmp_path / "out" / "red.png") as picture:
        after = np.asarray(picture)[100, 90].astype(int)
    assert np.abs(after - (200, 60, 20)).max() > 20  # what random weights make of it
    np.testing.assert_allclose(shown(browser, 0.3), (200, 60, 20), atol=6)  # WebP's loss
    np.testing.assert_allclose(shown(browser, 0.7), after, atol=6)
    handle = find("css selector", "#slider [data-testid=slider] .inner")
    ActionChains(browser).drag_and_drop_by_offset(
        handle, -round(0.35 * find("css selector", "#slider img").size["width"]), 0
    ).perform()
    time.sleep(1)
    np.testing.assert_allclose(shown(browser, 0.3), after, atol=6)

    find("css selector", "#choice input").click()
    find("xpath", "//*[@role='option'][contains(., 'photo-derained.jpg')]").click()
    wide = "return document.querySelector('#slider img').naturalWidth"
    assert eventually(lambda: browser.execute_script(wide) == PIXELS.shape[1])

    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    picture = "return document.querySelector('#slider img')?.src ?? ''"
    before = browser.execute_script(picture)
    browser.execute_script("scrollTo(0, 0); document.querySelector('#derain').click()")
    assert eventually(lambda: browser.execute_script("return scrollY > 100"))  # to the progress
    assert eventually(lambda: browser.execute_script(picture) not in ("", before))
    assert browser.execute_script("return scrollY > 100")  # and stays there when the result comes

    for width in (360, 1280):
        metrics = {"width": width, "height": 1100, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for theme in ("light", "dark"):
            browser.execute_script(f"document.body.classList.toggle('dark', {json.dumps(theme == 'dark')})")
            browser.save_screenshot(str(tmp_path / f"{width}-{theme}.png"))
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert {url for url in requested(browser) if not url.startswith(served.address)} == set()
