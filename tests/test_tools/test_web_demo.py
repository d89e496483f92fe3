"""``tools/web_demo.py`` in a real browser."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from browser import open_browser, requested_urls
from PIL import Image
from runs import ROOT, free_port, run_tool
from small_models import classifier, save_checkpoint

from resformer_mm.apis.inferencer import make_inferencer

pytestmark = pytest.mark.slow
CLASSES = [f'kind {label}' for label in range(7)]
# Hands a file to the page as a hand would that drags it there.
DROP = """
const [target, name, data, done] = arguments;
const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, {type: 'image/png'}));
const send = (element, kind) => element.dispatchEvent(
    new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
send(target, 'dragover');
setTimeout(() => { send(target.querySelector('.q-uploader__dnd') || target, 'drop'); done(); }, 300);
"""


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config file and checkpoint of a classifier."""
    folder = tmp_path_factory.mktemp('model')
    classifier().dump(folder / 'config.py')
    return folder / 'config.py', save_checkpoint(classifier(), folder / 'w.pth', classes=CLASSES)


def command(*words: object) -> list[str]:
    return [sys.executable, str(ROOT / 'tools' / 'web_demo.py'), *map(str, words)]


@pytest.fixture(scope='module')
def server(model: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page."""
    folder = tmp_path_factory.mktemp('server')
    port = free_port()
    words = command(*model, '--port', port, '--resolutions', 16, 96, '--device', 'cpu')
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    env.pop('PYTEST_CURRENT_TEST', None)  # by which NiceGUI takes itself for a test
    with open(folder / 'log.txt', 'w') as log:
        process = subprocess.Popen(words, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
    address = f'http://127.0.0.1:{port}'
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                log = (folder / 'log.txt').read_text()
                assert process.poll() is None and time.monotonic() < deadline, log
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert [path.name for path in folder.iterdir()] == ['log.txt']  # it leaves nothing behind


@pytest.fixture
def page(server: str) -> Iterator[Page]:
    with open_browser() as browser:
        browser.get(server)
        yield Page(browser)


class Page:
    """The page, as somebody sees and uses it."""

    def __init__(self, browser) -> None:
        self.browser = browser

    def find(self, role: str):
        return self.browser.find_element('css selector', f'[data-role={role}]')

    def texts(self) -> dict[str, str]:
        """Return what is written in the places that change."""
        script = """
            const texts = {};
            for (const node of document.querySelectorAll('[data-role]'))
                texts[node.dataset.role] ??= node.innerText;
            return texts;"""
        return self.browser.execute_script(script)

    def wait(self, condition: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """Return the texts as soon as the page is there and they fulfil a condition."""
        deadline = time.monotonic() + 20
        while not ('message' in (texts := self.texts()) and condition(texts)):
            assert time.monotonic() < deadline, texts
            time.sleep(0.05)
        return texts

    def choose(self, path: Path) -> None:
        self.wait(lambda texts: True)
        self.browser.find_element('css selector', 'input[type=file]').send_keys(str(path))

    def drop(self, path: Path) -> None:
        self.wait(lambda texts: True)
        target = self.browser.find_element('css selector', '.q-uploader')
        data = base64.b64encode(path.read_bytes()).decode()
        self.browser.execute_async_script(DROP, target, path.name, data)

    def press(self, *keys: str) -> None:
        """Press keys with the focus on the slider."""
        self.find('slider').find_element('css selector', '[tabindex]').send_keys(*keys)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Stripes, and half red, half blue."""
    first, second = np.zeros((50, 80, 3), np.uint8), np.zeros((70, 80, 3), np.uint8)
    first[:, ::7] = 255, 220, 40
    second[:35], second[35:] = (250, 10, 20), (10, 30, 250)
    paths = [tmp_path / 'first.png', tmp_path / 'second.png']
    for path, pixels in zip(paths, (first, second)):
        Image.fromarray(pixels).save(path)
    return paths


def test_dropping_an_image_and_moving_the_slider(page, model, pictures) -> None:
    from selenium.webdriver.common.keys import Keys

    inferencer, seen = make_inferencer(*model, 'cpu'), []

    def expect(path: Path, resolution: int) -> None:
        (prediction,) = inferencer(path, resolution=resolution)['predictions']
        rows = [f'{entry["class"]}\n{100 * entry["score"]:.1f} %' for entry in prediction['topk']]
        expected = '\n'.join([prediction['pred_class'], *rows])
        size = f'Input of the model, {resolution} x {resolution} pixels:'
        texts = page.wait(
            lambda texts: texts['results'].startswith(expected) and texts['results'].endswith(size)
        )
        assert texts['message'] == f'At a resolution of {resolution} pixels:'
        assert texts['prediction'] == prediction['pred_class']
        assert texts['confidence'] == f'{100 * prediction["pred_score"]:.1f} %'
        assert re.fullmatch(r'\d+\.\d ms', texts['time']) and float(texts['time'].split()[0]) > 0
        assert expected not in seen
        seen.append(expected)
        image = page.find('input').find_element('tag name', 'img')
        assert page.browser.execute_script('return arguments[0].naturalWidth', image) == resolution

    assert page.wait(lambda texts: True)['message'] == 'No image yet.'
    page.drop(pictures[0])
    expect(pictures[0], 64)  # the resolution of the config
    page.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    expect(pictures[0], 32)
    page.press(Keys.ARROW_RIGHT * 9)
    expect(pictures[0], 96)  # and no further
    page.press(Keys.ARROW_LEFT * 9)
    expect(pictures[0], 16)
    page.choose(pictures[1])
    expect(pictures[1], 16)

    urls = requested_urls(page.browser)
    assert any(url.startswith('ws://127.0.0.1') for url in urls) and len(urls) > 10
    foreign = [url for url in urls if not re.match(r'(blob:)?(http|ws)://127\.0\.0\.1:\d+/|data:', url)]
    assert not foreign
    errors = [entry for entry in page.browser.get_log('browser') if entry['level'] == 'SEVERE']
    assert not errors


def test_a_broken_picture_is_reported_and_the_page_keeps_working(page, pictures, tmp_path) -> None:
    broken = tmp_path / 'broken.png'
    broken.write_bytes(pictures[0].read_bytes()[:-60])
    page.choose(broken)
    page.wait(lambda texts: 'broken.png is not a readable image' in texts['message'])
    page.choose(pictures[0])
    page.wait(lambda texts: 'resolution of 64 pixels' in texts['message'])
    page.wait(lambda texts: '%' in texts.get('confidence', ''))


def test_a_hundred_uploads_of_garbage_at_once(server: str, page, pictures) -> None:
    """They are refused by the server, which a browser does not have to be, and the page keeps working."""
    place = re.search(r'/_nicegui/client/[\w-]+/upload/\d+', page.browser.page_source)[0]
    contents = [b'', b'garbage', pictures[0].read_bytes()[:-60], b'\x89PNG\r\n\x1a\n' + bytes(10**5)]
    names = ['<img src=x onerror=alert(1)>.png', '../../../evil.png', 'a\x1b[2J.png', 'b.png']

    def send(number: int) -> int:
        boundary, name = 'xxxx', names[number % 3]
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'
        body = head.encode() + contents[number % 4] + f'\r\n--{boundary}--\r\n'.encode()
        kind = {'Content-Type': f'multipart/form-data; boundary={boundary}'}
        request = urllib.request.Request(server + place, body, kind)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    with ThreadPoolExecutor(100) as pool:
        statuses = set(pool.map(send, range(100)))
    assert statuses <= {200, 400}  # 400: what is no upload
    page.wait(lambda texts: 'is not a readable image' in texts['message'])
    assert not page.browser.find_elements('css selector', 'img[src=x]')
    page.choose(pictures[0])
    page.wait(lambda texts: 'resolution of 64 pixels' in texts['message'])


def test_requests_of_other_pages_are_refused(server: str) -> None:
    for headers in ({'Host': 'evil.com'}, {'Origin': 'http://evil.com'}):
        with pytest.raises(urllib.error.HTTPError, match='403'):
            urllib.request.urlopen(urllib.request.Request(server, headers=headers), timeout=20)


MISTAKES = {
    'below one patch': (['--resolutions', 8, 64], '8 pixels is below one patch of 16 x 16'),
    'one value': (['--resolutions', 64], 'MIN MAX or MIN MAX STEP'),
    'missing checkpoint': ([], 'missing.pth'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_are_reported(model, tmp_path, mistake) -> None:
    options, message = MISTAKES[mistake]
    config, checkpoint = model
    if mistake == 'missing checkpoint':
        checkpoint = tmp_path / 'missing.pth'
    result = run_tool('web_demo.py', config, checkpoint, *options, data=tmp_path, cwd=tmp_path)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert re.search(f'web_demo.py: error: .*{message}', result.stderr)


def test_a_port_that_is_taken(model, tmp_path) -> None:
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        result = run_tool('web_demo.py', *model, '--port', port, data=tmp_path, cwd=tmp_path)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert f'cannot listen on 127.0.0.1, port {port}' in result.stderr
