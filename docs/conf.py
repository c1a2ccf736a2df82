"""The documentation's site, for Sphinx; `make docs` builds it."""

import dataclasses
import typing
from typing import Any

import flax.linen as nn
from simple_parsing.docstring import get_attribute_docstring
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

from multifocal_jax import __version__

project = "Multifocal de-raining in JAX"
author = "The Multifocal JAX authors"
copyright = f"{author}; licensed under Apache-2.0"
release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 4  # GitHub's names of headings, so that links work there and here
nb_execution_mode = "off"  # the notebook's results are stored in it; `make tour` computes them
nb_merge_streams = True  # lines that one cell printed are one block
default_role = "code"  # `this` in docstrings
add_module_names = False  # headings name the modules
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

autodoc_mock_imports = ["torch"]  # PyTorch is optional, also for building the site
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"  # all of its files are local
html_title = f"{project} {release}"
html_show_sphinx = False
html_copy_source = False


def add_fields(_: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Describe a dataclass by its fields' comments, as `--print-config` does, unless its docstring describes them."""
    if kind != "class" or not dataclasses.is_dataclass(value) or any(line.startswith(":ivar") for line in lines):
        return
    if issubclass(value, nn.Module):  # Flax adds fields of its own
        return
    for field in dataclasses.fields(value):
        about = get_attribute_docstring(value, field.name)
        comment = about.comment_inline or " ".join(about.comment_above.split())
        bounds = getattr(field.type, "__metadata__", ())
        hint = stringify_annotation(typing.get_args(field.type)[0] if bounds else field.type, "smart")
        lines += [f".. attribute:: {field.name}", f"   :type: {hint}"]
        lines += [f"   :value: {field.default!r}"] if field.default is not dataclasses.MISSING else []
        words = [comment[:1].upper() + comment[1:], *(bound.allowed for bound in bounds)]
        lines += ["", "   " + "; ".join(words), ""]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", add_fields)
