"""Web page of the demo, made with NiceGUI; it loads nothing from other machines."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from resformer_mm.control_characters import printable_name
from resformer_mm.inference.sources import InputError

from .guard import LARGEST_FILE, Guard
from .held_pictures import HeldPictures
from .predictor import MAX_PIXELS, Answer, WebPredictor

if TYPE_CHECKING:
    from nicegui.events import UploadEventArguments

_SHOWN = 448  # pixels
_MOST_WAITING = 16


def serve(predictor: WebPredictor, host: str, port: int, title: str) -> None:
    """Serve the page until the process is interrupted.

    Args:
        predictor: source of the predictions.
        host: address to listen on; 127.0.0.1 accepts connections from this machine only.
        port: port to listen on.
        title: name of the model.

    Raises:
        ImportError: NiceGUI is not installed.
        OSError: the address cannot be used, for instance because another program uses it.
    """
    try:
        from nicegui import ui
    except ImportError as error:
        raise ImportError(
            "the web page needs NiceGUI: pip install 'resformer-mm[demo]', or pip install nicegui"
        ) from error
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((host, port))
    except (OSError, OverflowError) as error:  # OverflowError: a port above 65535
        raise OSError(
            f'cannot listen on {host}, port {port} ({error}): choose another --host or --port'
        ) from error
    predictor.predict(np.zeros((64, 64, 3), np.uint8), predictor.range.nearest(predictor.default))  # warm-up
    from nicegui import app

    app.add_middleware(Guard, host=host)
    visitors = Visitors()
    ui.run(
        lambda: Page(predictor, title, visitors).build(),
        host=host,
        port=port,
        title=title,
        show=False,
        reload=False,
    )


class Visitors:
    """What the pages of all visitors share.

    Attributes:
        pictures: the images that they look at.
        working: held while an image is decoded or predicted, which takes memory.
        waiting: number of files that are to be decoded.
    """

    def __init__(self) -> None:
        self.pictures = HeldPictures(2 * 3 * MAX_PIXELS)
        self.working = asyncio.Lock()
        self.waiting = 0


class Page:
    """The page of one visitor: an image, a slider, and the prediction.

    Args:
        predictor: source of the predictions.
        title: name of the model.
        visitors: what all pages share.
    """

    def __init__(self, predictor: WebPredictor, title: str, visitors: Visitors) -> None:
        self.predictor, self.title, self.visitors = predictor, title, visitors
        self._has_picture = self._is_closed = False
        self._wanted = self._busy = False

    def build(self) -> None:
        """Build the elements of the page."""
        from nicegui import ui

        ui.context.client.on_delete(self._close)
        ui.label(self.title).classes('text-2xl')
        with ui.row().classes('w-full no-wrap items-start gap-8'):
            with ui.column().classes('w-1/2'):
                self.upload = ui.upload(
                    label='Drop an image here',
                    auto_upload=True,
                    max_file_size=LARGEST_FILE,
                    on_upload=self._take,
                    on_rejected=lambda: self._show_error(
                        f'the file must be an image of at most {LARGEST_FILE // 1024**2} MB'
                    ),
                ).classes('w-full')
                self.shown = ui.image().props('fit=contain no-transition data-role=picture')
                self.shown.style(f'width: {_SHOWN}px').set_visibility(False)
            with ui.column().classes('w-1/2'):
                self._build_slider()
                self.message = ui.label('No image yet.').props('data-role=message')
                self.results = ui.column().classes('w-full').props('data-role=results')

    def _build_slider(self) -> None:
        from nicegui import ui

        choice = self.predictor.range
        with ui.row().classes('w-full no-wrap items-center'):
            ui.label('Resolution')
            self.slider = ui.slider(
                min=choice.lowest,
                max=choice.highest,
                step=choice.step,
                value=choice.nearest(self.predictor.default),
                on_change=self._update,
            ).props('data-role=slider')
            ui.label().bind_text_from(self.slider, 'value', lambda value: f'{value} px').classes('w-16')

    async def _take(self, event: UploadEventArguments) -> None:
        from nicegui import run

        self.upload.reset()
        name = printable_name(event.file.name)
        if event.file.size() > LARGEST_FILE:
            self._show_error(f'{name} has more than {LARGEST_FILE // 1024**2} MB')
            return
        if self.visitors.waiting >= _MOST_WAITING:
            self._show_error(f'{_MOST_WAITING} images of others are waiting: try again later')
            return
        self.visitors.waiting += 1
        try:
            async with self.visitors.working:
                picture = await run.io_bound(self.predictor.decode, await event.file.read(), name)
        except InputError as error:
            self._show_error(str(error))
            return
        finally:
            self.visitors.waiting -= 1
        if picture is not None and not self._is_closed:  # None while the server shuts down
            self.visitors.pictures.put(self, picture)
            self._has_picture = True
            await self._update()

    async def _update(self) -> None:
        """Predict; requests during a prediction are answered by one more, at the latest resolution."""
        from nicegui import run

        self._wanted = True
        if self._busy or not self._has_picture:
            return
        self._busy = True
        try:
            while self._wanted:
                self._wanted = False
                async with self.visitors.working:
                    # Only now, so that images that wait do not take memory.
                    picture = self.visitors.pictures.get(self)
                    if self._is_closed:
                        return
                    if picture is None:
                        self._show_error('the images of other visitors took its place: upload it again')
                        return
                    try:
                        # A browser may send any value.
                        resolution = self.predictor.range.nearest(int(self.slider.value))
                        shown = await run.io_bound(self._predict, picture, resolution)
                    except Exception as error:
                        self._show_error(f'{type(error).__name__}: {error}')
                        raise  # to the log, with its traceback
                if shown is not None and not self._is_closed:  # None while the server shuts down
                    self._show(*shown)
        finally:
            self._busy = False

    def _close(self) -> None:
        self._is_closed = True
        self.visitors.pictures.drop(self)

    def _predict(self, picture: np.ndarray, resolution: int) -> tuple[Answer, str]:
        """Return the prediction, and the image to show as a data URL."""
        answer = self.predictor.predict(picture, resolution)
        return answer, _data_url(picture, 'BGR') if answer.drawn is None else _data_url(answer.drawn)

    def _show_error(self, text: str) -> None:
        self.message.set_text(text)
        self.message.classes('text-negative')

    def _show(self, answer: Answer, picture_url: str) -> None:
        from nicegui import ui

        self.shown.set_visibility(True)
        self.shown.set_source(picture_url)
        self.message.set_text(f'At a resolution of {answer.resolution} pixels:')
        self.message.classes(remove='text-negative')
        self.results.clear()
        with self.results:
            ui.label(answer.headline).classes('text-3xl').props('data-role=prediction')
            for number, (name, value) in enumerate(answer.entries):
                with ui.row().classes('w-full no-wrap items-center'):
                    ui.label(name).classes('w-1/3')
                    bar = ui.linear_progress(value, show_value=False).classes('w-1/2')
                    bar.props('instant-feedback')
                    role = 'confidence' if number == 0 else 'score'
                    ui.label(f'{100 * value:.1f} %').props(f'data-role={role}')
            ui.label(f'{answer.forward_ms:.1f} ms').classes('text-xl').props('data-role=time')
            device = self.predictor.device
            ui.label(
                f'one forward pass on {device}, including normalisation, excluding reading and resizing'
            ).classes('text-sm')
            height, width = answer.input_picture.shape[:2]
            ui.label(f'Input of the model, {width} x {height} pixels:').classes('mt-4')
            seen = ui.image(_data_url(answer.input_picture))
            seen.props('fit=contain no-transition data-role=input').classes('w-64')
            seen.style('image-rendering: pixelated')


def _data_url(picture: np.ndarray, channels: str = 'RGB') -> str:
    """Return an image as a data URL, reduced to the size on the page."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((_SHOWN, _SHOWN))
    if channels == 'BGR':
        image = Image.fromarray(np.asarray(image)[..., ::-1].copy())
    buffer = io.BytesIO()
    image.save(buffer, 'png')
    return f'data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'
