"""A page on which visitors de-rain pictures, with Gradio: `multifocal web`, and what a hosted Space runs."""

import functools
import io
import os
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from PIL import Image

from multifocal_jax.data.images import PILLOW_ERRORS
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.inference import MOST_STRENGTH, TILES, Derainer, TooLargeError, load
from multifocal_jax.evaluation.memory import spell
from multifocal_jax.evaluation.progress import Compiling, Progress, Running, Tiling
from multifocal_jax.media.animations import FORMATS
from multifocal_jax.media.derain_files import derain_contents
from multifocal_jax.media.kinds import PICTURES
from multifocal_jax.weights_lookup import DEFAULT_NAME, find_weights, list_weights

if TYPE_CHECKING:
    import gradio as gr

_TITLE = "Remove rain from photographs"
_ABOUT = """Format, size, transparency and metadata stay as they are. The pictures are computed on the machine that
serves this page and are deleted there when you leave."""
_WHOLE, _AUTOMATIC = 0, -1  # values of the choice of tiles
_SHOWN = 1920  # longest side in pixels of what the slider shows
_WAITING = 20  # visitors in the queue; further ones are asked to come back
_SWEEP, _OLD = 60, 3600  # seconds: how often, and how old files of visits that did not end are deleted
_CSS = """
footer { display: none !important }
.dark { color-scheme: dark } /* of scroll bars */
#download .label-clear-button { display: none } /* results cannot be taken back */
#failed textarea { field-sizing: content; height: auto !important } /* long lines on phones */
.gradio-container { max-width: 72rem !important; margin: auto !important }
"""


class WebError(UserError):
    """The page cannot be served, or a picture exceeds its limits."""


@dataclass(frozen=True)
class Limits:
    """What a visitor may ask for."""

    megabytes: int = 50  # of one file
    megapixels: int = 50  # of one picture; the frames of an animation count together
    pictures: int = 50  # at a time

    def frames(self, data: bytes, name: str) -> int:
        """The number of frames of a picture file, found in its header; 1 if it cannot be read, which others report.

        Raises:
            WebError: it has too many pixels.
        """
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
                frames = getattr(picture, "n_frames", 1) if picture.format in FORMATS else 1
                width, height = picture.size
        except PILLOW_ERRORS:
            return 1
        if width * height * frames > self.megapixels * 10**6:
            size = f"{frames} frames of {width}×{height}" if frames > 1 else f"{width}×{height}"
            raise WebError(f"{name} has {size} pixels; {self.megapixels} million are allowed here")
        return frames


@dataclass
class _Visit:
    folder: Path
    uploads: set[Path] = field(default_factory=set)


class Visits:
    """Who is on the page, and the files of each, which are deleted when they leave.

    Args:
        root: folder of all files; Gradio puts uploads there, equal ones of several visitors in the same place.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._visits, self._lock = root, {}, threading.Lock()

    def begin(self, name: str | None) -> _Visit:
        """The visit of this name, a new one if it is unknown."""
        with self._lock:
            if name not in self._visits:
                self._visits[name] = _Visit(Path(tempfile.mkdtemp(dir=self._root)))
            return self._visits[name]

    def __contains__(self, name: str | None) -> bool:
        return name in self._visits

    def end(self, name: str | None) -> None:
        """Delete the files of a visit; after the last one, whatever is left."""
        with self._lock:
            visit = self._visits.pop(name, None)
            others = {upload for other in self._visits.values() for upload in other.uploads}
            gone = [] if visit is None else [visit.folder, *(visit.uploads - others)]
            for path in gone if self._visits else self._root.iterdir():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


class _LeftError(Exception):
    """The visitor has left while a picture was computed."""


@dataclass(frozen=True)
class Result:
    """Files of a de-rained picture: to download, and what the slider shows."""

    file: Path
    before: Path
    after: Path


class Worker:
    """De-rains files for visitors, one call at a time, and remembers the network that was used last."""

    def __init__(self, visits: Visits, limits: Limits) -> None:
        self._visits, self._limits = visits, limits
        self._report: Callable[[Progress], None] = lambda _: None
        self._load = functools.lru_cache(1)(self._loaded)

    def _loaded(self, weights: str, strength: float, tile: int, ensemble: bool) -> Derainer:
        options: Any = {"tile": None if tile == _AUTOMATIC else tile, "ensemble": ensemble, "strength": strength}
        return load(weights, **options, progress=lambda progress: self._report(progress))

    def __call__(
        self,
        visit: str | None,
        uploads: Sequence[str],
        options: tuple[str, float, int, bool],
        tell: Callable[[float, str], object],
    ) -> tuple[list[Result], list[str]]:
        """De-rain files.

        Args:
            visit: its name; the call ends when it is over.
            uploads: paths of the files.
            options: name of the weights, strength, tile, ensemble.
            tell: called with the share that is done and what is being done.

        Returns:
            The results, and a line for every file that failed.
        """
        results, failed = [], []
        if len(uploads) > self._limits.pictures:
            return [], [f"{len(uploads)} pictures; {self._limits.pictures} are allowed here at a time"]
        folder = self._visits.begin(visit).folder
        for index, path in enumerate(map(Path, uploads)):

            def at(share: float, what: str, index: int = index, name: str = path.name) -> None:
                if visit not in self._visits:
                    raise _LeftError
                tell((index + share) / len(uploads), f"{index + 1} of {len(uploads)}, {name}: {what}")

            try:
                at(0, "reading")
                results.append(self._derain(path, folder, options, at))
            except _LeftError:
                return [], []
            except TooLargeError as error:
                failed.append(f"{path.name}: {error}; choose automatic tiles")
            except UserError as error:
                failed.append(str(error) if path.name in str(error) else f"{path.name}: {error}")
            except OSError as error:
                failed.append(f"{path.name}: {error.strerror}; add it again")
        return results, failed

    def _derain(
        self, path: Path, folder: Path, options: tuple[str, float, int, bool], tell: Callable[[float, str], object]
    ) -> Result:
        data = path.read_bytes()
        steps, done = self._limits.frames(data, path.name) * (8 if options[-1] else 1), 0

        def report(progress: Progress) -> None:
            nonlocal done
            match progress:
                case Compiling(height, width):
                    tell(done / steps, f"preparing for {width}×{height} pixels, once per size")
                case Tiling(tile=tile, needed=needed):
                    tell(done / steps, f"in tiles of {tile} pixels, as the whole needs {spell(needed)}")
                case Running(done=tiles, total=total, seconds=seconds, expected=expected):
                    share = tiles / total if total > 1 or not expected else min(seconds / expected, 0.99)
                    tell(min((done + share) / steps, 1), f"{seconds:.0f} s")
                    done += tiles == total

        tell(0, "loading the network")
        derainer = self._load(*options)
        self._report = report
        contents, before, after = derain_contents(derainer, data, path.name)
        place = Path(tempfile.mkdtemp(dir=folder))
        name = f"{path.stem}-derained{path.suffix}"
        result = Result(place / name, place / "before.webp", place / "after.webp")
        result.file.write_bytes(contents)
        for pixels, shown in ((before, result.before), (after, result.after)):
            picture = Image.fromarray(pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8))
            picture.thumbnail((_SHOWN, _SHOWN))
            picture.save(shown, quality=90)
        return result


def build(worker: Worker, visits: Visits, weights: Sequence[str] = ()) -> "gr.Blocks":
    """The page.

    Args:
        worker, visits: of one folder.
        weights: offered before the packaged ones; the first is chosen.
    """
    import gradio as gr

    names = list(dict.fromkeys((*weights, *(item.name for item in list_weights()))))
    tiles = [("automatic", _AUTOMATIC), ("none", _WHOLE), *((f"{side} pixels", side) for side in TILES)]

    def begin(request: gr.Request) -> None:
        visits.begin(request.session_hash)

    def add(uploads: list[str] | None, request: gr.Request) -> dict[str, Any]:
        visits.begin(request.session_hash).uploads.update(map(Path, uploads or ()))
        return gr.update(interactive=bool(uploads))

    def derain(
        uploads: list[str] | None,
        weights: str,
        strength: float,
        tile: int,
        ensemble: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, how Gradio recognises it
    ) -> tuple[Any, ...]:
        add(uploads, request)
        options = (weights, strength, tile, ensemble)
        results, failed = worker(
            request.session_hash, uploads or [], options, lambda share, what: progress(share, what)
        )
        sides = [(str(result.before), str(result.after)) for result in results]
        slider.temp_files.update(path for pair in sides for path in pair)  # Gradio deletes old ones
        files = [str(result.file) for result in results]
        choices = [(result.file.name, index) for index, result in enumerate(results)]
        return (
            gr.update(value=sides[0] if sides else None, visible=bool(sides)),
            gr.update(choices=choices, value=0 if sides else None, visible=len(sides) > 1),
            gr.update(value=files, visible=bool(files)),
            gr.update(value="\n".join(failed), visible=bool(failed), lines=len(failed) or 1),
            sides,
        )

    def end(request: gr.Request) -> None:
        visits.end(request.session_hash)

    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(_SWEEP, _OLD)) as page:
        gr.Markdown(f"# {_TITLE}\n{_ABOUT}")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                uploads = gr.File(
                    elem_id="pictures", label="Pictures", file_count="multiple", file_types=list(PICTURES), height=180
                )
                strength = gr.Slider(
                    0, MOST_STRENGTH, 1, step=0.05, label="Strength", info="1 removes the rain that the network finds"
                )
                with gr.Accordion("More settings", open=False):
                    network = gr.Dropdown(names, value=names[0], label="Weights")
                    tile = gr.Dropdown(tiles, value=_AUTOMATIC, label="Tiles", info="Smaller ones need less memory")
                    ensemble = gr.Checkbox(label="Ensemble", info="Average over 8 flips and rotations: 8 times as slow")
                button = gr.Button("Remove the rain", elem_id="derain", variant="primary", interactive=False)
            with gr.Column(scale=3, min_width=280):
                failed = gr.Textbox(elem_id="failed", label="Not done", visible=False, interactive=False)
                slider = gr.ImageSlider(
                    elem_id="slider",
                    label="Before and after",
                    show_label=False,
                    interactive=False,
                    buttons=["fullscreen"],
                )
                choice = gr.Dropdown([], label="Picture", visible=False)
                files = gr.File(
                    elem_id="download", label="Download", file_count="multiple", visible=False, interactive=False
                )
        sides = gr.State([])
        unseen: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        page.load(begin, **unseen)
        uploads.change(add, uploads, button, **unseen)
        button.click(
            derain,
            [uploads, network, strength, tile, ensemble],
            [slider, choice, files, failed, sides],
            show_progress_on=slider,
            concurrency_limit=1,
            api_name="derain",
        )
        choice.input(lambda index, sides: sides[index], [choice, sides], slider, **unseen)
        page.unload(end)
    return page.queue(max_size=_WAITING)


def serve(
    weights: Sequence[str] = (),
    *,
    host: str | None = None,
    port: int | None = None,
    limits: Limits | None = None,
    in_browser: bool = False,
) -> NoReturn:
    """Serve the page until Ctrl-C or SIGTERM. Nothing is sent anywhere else, and no file is left.

    Args:
        weights: files, workdirs or names that are offered besides the packaged ones; the first is chosen.
        host: address to bind to; None means that of Gradio's GRADIO_SERVER_NAME, which a Space sets, or 127.0.0.1.
        port: None means GRADIO_SERVER_PORT, or the first free one from 7860.
        limits: what a visitor may ask for; None means those of `Limits()`.
        in_browser: open the page.

    Raises:
        WebError: Gradio is not installed, or the address or port is not available.
        WeightsError: there are no such weights.
        KeyboardInterrupt: it was ended.
    """
    limits, offered = limits or Limits(), list(weights) or [DEFAULT_NAME]
    for name in offered:
        find_weights(name)
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryDirectory(prefix="multifocal-web-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # where uploads go; Gradio makes it when it is imported
        try:
            from gradio.themes import Soft
        except ModuleNotFoundError as error:
            raise WebError(f"the page needs Gradio ({error}): pip install '.[web]'") from None
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        visits = Visits(Path(folder))
        page = build(Worker(visits, limits), visits, offered)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                inbrowser=in_browser,
                max_file_size=limits.megabytes * 10**6,
                theme=Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
                css=_CSS,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                share=False,
                ssr_mode=False,  # would start Node, where there is one
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError:
            where = f"{host or '127.0.0.1'}, port {port or 'from 7860'}"
            raise WebError(f"the page cannot be served at {where}; choose another --port or --host") from None
        print(f"the page is at {page.local_url} (Ctrl-C ends it)", flush=True)
        while True:
            time.sleep(3600)
