"""Standalone HTML page of a sweep.

Its curves are drawn in JavaScript, because the page is interactive; those of ``picture.py`` with matplotlib.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from resformer_mm.measured import for_json

from .summary import Summary


def write_page(summary: Summary, path: Path, title: str) -> None:
    """Write the page: curves, Pareto front, a sortable table, and a recommendation for a budget.

    If the patch size is an axis of the sweep, there is a table of resolutions by patch sizes as well.

    Raises:
        ImportError: plotly or jinja2 is missing.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError(
            f"the HTML page needs {error.name!r}: pip install 'resformer-mm[analysis]', or pip install "
            'jinja2 plotly'
        ) from error
    template = files(__package__).joinpath('page.html').read_text(encoding='utf-8')
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    # Inside a script element, `</script` ends the data early, and `<!--` hides where it ends.
    data = json.dumps(for_json(summary.as_json())).replace('<', '\\u003c')
    page = environment.from_string(template).render(
        title=title, plotly=get_plotlyjs(), data=data, has_patches=summary.has_patches
    )
    path.write_text(page, encoding='utf-8')
