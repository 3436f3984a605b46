"""Settings of the documentation; built by ``sphinx-build -W docs build/docs``."""

import re

import bregma

project = "bregma"
author = "The bregma authors"
copyright = author
version = release = bregma.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
default_role = "py:obj"  # a name in single backticks of a docstring links where it resolves

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "bregma"
html_copy_source = False
html_theme_options = {"light_css_variables": {"color-brand-primary": "#1f5f8b", "color-brand-content": "#1f5f8b"}}


def _escape(app, what, name, obj, options, lines):
    """Docstrings are plain text with names in backticks: outside of formulas a star is a star, a bar is a bar."""
    formula = None
    for k, line in enumerate(lines):
        depth = len(line) - len(line.lstrip())
        if line.strip() and formula is not None and depth <= formula:
            formula = None
        if line.lstrip().startswith(".. math::"):
            formula = depth
        if formula is None and ">>>" not in line and "``" not in line:
            lines[k] = re.sub(r"(?<!\\)([|*])", r"\\\1", line)


def _skip(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to every estimator."""
    return skip or re.fullmatch(r"set_\w+_request", name) is not None


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _escape)
    app.connect("autodoc-skip-member", _skip)
