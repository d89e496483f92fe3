"""A headless Chromium for the tests of pages.

    from browser import open_browser, requested_urls, save_screenshot

    with open_browser() as browser:             # a selenium.webdriver.Chrome, always closed at the end
        browser.get('http://127.0.0.1:8080')    # or path.as_uri() for a file
        ...
        foreign = requested_urls(browser, foreign=True)

:func:`open_browser` is a context manager (``with``), and serves in a fixture as well:
``with open_browser() as browser: yield browser``. The browser resolves no name but this machine's, so a page
that needs anything from elsewhere fails here, and :func:`requested_urls` tells what it asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

HERE = ('127.0.0.1', 'localhost', '::1')
SWITCHES = (
    '--headless=new',
    '--no-sandbox',  # Chromium refuses to start as root with it
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-dev-shm-usage',
    '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost',
)


@contextmanager
def open_browser(width: int = 1280, height: int = 1000, timeout: float = 30) -> Iterator:
    """Start Chromium with an empty profile; it ends with the block, whatever happens in it.

    Args:
        width: of the window, in pixels.
        height: of the window, in pixels.
        timeout: seconds after which loading a page, or a script in it, is an error.
    """
    chromium, driver = _executable('chromium'), _executable('chromedriver')
    try:
        from selenium import webdriver
    except ImportError:
        pytest.fail(
            "selenium is not installed: pip install 'resformer-mm[tests]', or bash tools/run_tests.sh"
        )
    profile = tempfile.mkdtemp(prefix='resformer-mm-browser-')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f'--user-data-dir={profile}', f'--window-size={width},{height}'):
        options.add_argument(switch)
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL', 'browser': 'ALL'})
    # A driver named by its path keeps selenium from looking for one to download.
    service = webdriver.ChromeService(
        driver, env={**os.environ, 'HOME': profile}, log_output=subprocess.DEVNULL
    )
    browser = None
    try:
        browser = webdriver.Chrome(options, service)
        browser.set_page_load_timeout(timeout)
        browser.set_script_timeout(timeout)
        yield browser
    finally:
        if browser is not None:
            browser.quit()
        shutil.rmtree(profile, ignore_errors=True)


def requested_urls(browser, foreign: bool = False) -> list[str]:
    """Return the URLs that pages asked for since the last call, web sockets included.

    Args:
        browser: as :func:`open_browser` gives it.
        foreign: only those of other machines. ``file:``, ``data:`` and ``blob:`` are of this one.
    """
    urls = []
    for entry in browser.get_log('performance'):
        message = json.loads(entry['message'])['message']
        if message['method'] == 'Network.requestWillBeSent':
            urls.append(message['params']['request']['url'])
        elif message['method'] == 'Network.webSocketCreated':
            urls.append(message['params']['url'])
    # What is left out are the pages of the browser itself, such as the empty tab it starts with.
    urls = [url for url in urls if not url.startswith('chrome')]
    return [url for url in urls if _is_foreign(url)] if foreign else urls


def save_screenshot(browser, path: Path) -> Path:
    """Write what the window shows as a PNG."""
    assert browser.save_screenshot(str(path)), f'cannot write {path}'
    return path


def _is_foreign(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ('http', 'https', 'ws', 'wss') and parts.hostname not in HERE


def _executable(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.fail(
            f'{name} is not on this machine, and the tests of pages need it. On Debian: apt-get install '
            'chromium chromium-driver. Elsewhere: install Chromium and the ChromeDriver of its version, '
            'in PATH as `chromium` and `chromedriver`'
        )
    return path
