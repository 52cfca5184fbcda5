"""Settings of the documentation: `make docs` builds it into docs/_build, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "oba"
author = "The oba maintainers"
project_copyright = "The oba maintainers, MIT licence"
html_title = "oba"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "formulas", "generated"]
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["deflist", "dollarmath"]
# Headings of this depth have anchors, as on GitHub.
myst_heading_anchors = 4

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_use_rtype = False
python_maximum_signature_line_length = 80

# MathJax would be loaded from elsewhere; formulas are drawn while the pages are built.
html_math_renderer = "formulas"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b62a3", "color-brand-content": "#0b62a3"},
    "dark_css_variables": {"color-brand-primary": "#6cb6f2", "color-brand-content": "#6cb6f2"},
}
