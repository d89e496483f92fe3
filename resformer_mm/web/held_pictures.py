"""Pictures of the visitors, of which so many are kept as memory allows."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np


class HeldPictures:
    """Pictures by the page that shows them. If they get too large, those that were not used for longest go.

    Args:
        most_bytes: bytes of all pictures; the newest one is kept in any case.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._pictures: OrderedDict[object, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, page: object, picture: np.ndarray) -> None:
        """Keep the picture of a page in the place of its last one."""
        with self._lock:
            self._pictures.pop(page, None)
            while self._pictures and self._size() + picture.nbytes > self._most:
                self._pictures.popitem(last=False)
            self._pictures[page] = picture

    def get(self, page: object) -> np.ndarray | None:
        """Return the picture of a page; None if there is none any more."""
        with self._lock:
            if page in self._pictures:
                self._pictures.move_to_end(page)
            return self._pictures.get(page)

    def drop(self, page: object) -> None:
        """Forget the picture of a page that was closed."""
        with self._lock:
            self._pictures.pop(page, None)

    def _size(self) -> int:
        return sum(picture.nbytes for picture in self._pictures.values())
