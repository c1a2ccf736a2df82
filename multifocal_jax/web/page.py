"""The page, made with Gradio, and its server: what `multifocal web` and a hosted Space run."""

import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.inference import MOST_STRENGTH, TILES
from multifocal_jax.media.kinds import PICTURES
from multifocal_jax.web.visits import Visits
from multifocal_jax.web.work import Limits, Options, Worker
from multifocal_jax.weights_lookup import DEFAULT_NAME, find_weights, list_weights

if TYPE_CHECKING:
    import gradio as gr

_TITLE = "Remove rain from photographs"
_ABOUT = """Format, size, transparency and metadata stay as they are. Your pictures are processed on the machine that
serves this page, and deleted there when you leave."""
_AUTOMATIC = -1  # as a choice of tiles, where Gradio takes None for no choice
_WAITING = 20  # visitors in the queue; further ones are asked to come back
_SWEEP, _OLD = 60, 3600  # seconds: how often, and how old files of visits that did not end are deleted
_CSS = """
footer { display: none !important }
.dark { color-scheme: dark } /* of scroll bars */
#download .label-clear-button { display: none } /* results cannot be taken back */
#failed textarea { field-sizing: content; height: auto !important } /* long lines on phones */
#slider .progress-level-inner { padding: 0 1rem; text-align: center } /* the same */
#slider { min-height: 20rem } /* else phones jump back up while the picture is exchanged */
.gradio-container { max-width: 72rem !important; margin: auto !important }
.gradio-container { --checkbox-border-color: var(--neutral-400) } /* almost white on white otherwise */
"""
# On phones it is below the fold. Smooth scrolling, as by scroll_to_output, is cut short by what appears meanwhile.
_SHOW_PROGRESS = "() => { document.querySelector('#slider')?.scrollIntoView({block: 'nearest'}) }"


class WebError(UserError):
    """The page cannot be served."""


def build(worker: Worker, visits: Visits, weights: Sequence[str] = ()) -> "gr.Blocks":
    """The page.

    Args:
        worker, visits: of one folder.
        weights: offered before the packaged ones; the first is chosen.
    """
    import gradio as gr

    names = list(dict.fromkeys((*weights, *(item.name for item in list_weights()))))
    tiles = [("automatic", _AUTOMATIC), ("none", 0), *((f"{side} pixels", side) for side in TILES)]

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
        options = Options(weights, strength, None if tile == _AUTOMATIC else tile, ensemble)
        results, failed = worker(request.session_hash, uploads or [], options, lambda *so_far: progress(*so_far))
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
                    ensemble = gr.Checkbox(
                        label="Ensemble",
                        info="Average over 8 flips and rotations, for weights trained with them; 8 times as slow",
                    )
                button = gr.Button("Remove the rain", elem_id="derain", variant="primary", interactive=False)
            with gr.Column(scale=3, min_width=280):
                slider = gr.ImageSlider(
                    elem_id="slider",
                    label="Before and after",
                    show_label=False,
                    interactive=False,
                    buttons=["fullscreen"],
                )
                failed = gr.Textbox(elem_id="failed", label="Not done", visible=False, interactive=False)
                choice = gr.Dropdown([], elem_id="choice", label="Picture", visible=False)
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
        button.click(None, js=_SHOW_PROGRESS, **unseen)
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
            raise WebError(f"the page needs Gradio ({error}): pip install 'multifocal-jax[web]'") from None
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        visits = Visits(Path(folder))
        page = build(Worker(visits, limits), visits, offered)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                inbrowser=in_browser,
                max_file_size=f"{limits.megabytes}MB",
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
        except (OSError, OverflowError):  # the latter of a port above 65535
            where = f"{host or '127.0.0.1'}, port {port or 'from 7860'}"
            raise WebError(f"the page cannot be served at {where}; choose another --port or --host") from None
        print(f"the page is at {page.local_url} (Ctrl-C ends it)", flush=True)
        while True:
            time.sleep(3600)
