"""The pages and the API reference: sphinx-build docs build/docs."""

import shutil
from pathlib import Path

from sphinx.ext.apidoc import main as write_api_pages

HERE = Path(__file__).resolve().parent

# A page for each module, and none for those that are gone
shutil.rmtree(HERE / "api", ignore_errors=True)
write_api_pages(
    ["--force", "--separate", "--module-first", "--no-toc", "-q"]
    + ["-o", str(HERE / "api"), str(HERE.parent / "speechbrain_scl")]
)

project = "speechbrain_scl"
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_parser",
]
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "speechbrain_scl"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_search_scorer = str(HERE / "static" / "search.js")
# Pages link to files of the repository. Words such as path and Utterance name
# several things; the text says which.
suppress_warnings = ["myst.xref_missing", "ref.python"]
