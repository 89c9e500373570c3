"""The site: pages in Markdown (MyST-NB), of which some run as they are built, a gallery, and the API of docstrings."""

from __future__ import annotations

import re
from typing import Any

from graphon_theory import __version__

project = "graphon-theory"
author = "the graphon-theory authors"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}
exclude_patterns = ["_build", "gallery/*.ipynb"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = "graphon-theory"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
linkcheck_anchors = False  # pages that scripts build have theirs when they are shown
linkcheck_timeout = 20
linkcheck_retries = 2
suppress_warnings = ["myst.header"]  # a page of measurements begins its tables with smaller headings

# Markdown
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

# The API: one page a name, by task in api.md
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
default_role = "code"  # a name in single quotes of a docstring
napoleon_use_rtype = False
napoleon_preprocess_types = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": r"matplotlib\.",  # a legend is in the picture
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1e9,
    "within_subsection_order": "FileNameSortKey",
    "matplotlib_animations": False,
}

_SECTIONS = re.compile(r"^(Args|Arguments|Parameters|Attributes|Returns|Raises|Yields|Notes?|Examples?):?$")
_PROSE = ("Returns", "Raises", "Notes")  # sections that are underlined and hold sentences
_VERBATIM = re.compile(r"(``.+?``|:\w+:`[^`]+`|`[^`]+`)")


def read_plainly(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written to be read in a terminal: their formulas become blocks, their stars and bars stay such."""
    out: list[str] = []
    formula = section = False
    for number, line in enumerate(lines):
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if not text:
            out.append(line)
            continue
        if indent == 0:
            formula = False
            underlined = set(text) <= {"-"}
            stays = section and (underlined or text.endswith(":"))
            if section and not stays and not _SECTIONS.match(text):
                out.append("")  # two blank lines end a section that is underlined
            section = bool(_SECTIONS.match(text)) or stays
            if text in _PROSE and set((lines[number + 1 : number + 2] or [""])[0].strip()) == {"-"}:
                out += ["", f".. rubric:: {text}"]
                section = False
                continue
            if underlined and not section:
                out.append("")
                continue
        after_blank = len(out) > 1 and not out[-1].strip()
        before = next((one for one in reversed(out) if one.strip()), "")
        if indent >= 4 and not formula and not section and after_blank and not before.startswith((" ", "-", "..")):
            out += [".. code-block:: text", ""]
            formula = True
        out.append(line if formula and indent else _escaped(line))
    lines[:] = out


def _escaped(line: str) -> str:
    parts = _VERBATIM.split(line)
    return "".join(part if k % 2 else re.sub(r"([*|\\]|_(?!\w))", r"\\\1", part) for k, part in enumerate(parts))


def is_left_out(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """scikit-learn's routing of metadata, which it gives to every estimator, is told by its own pages."""
    return True if str(getattr(thing, "__module__", "")).startswith("sklearn.") else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", is_left_out)
    app.connect("autodoc-process-docstring", read_plainly, priority=100)
