"""Serve a page that de-rains pictures, for people who do not use terminals.

Needs the extra `web`. Only this computer can open the page unless --host says
otherwise. Pictures are deleted when their visitor leaves.

examples:
  multifocal web                      # then open http://127.0.0.1:7860
  multifocal web --open               # in the browser
  multifocal web --weights runs/mine
  multifocal web --host 0.0.0.0 --port 8000 --max-pixels 20
"""

import argparse

from multifocal_jax.cli.flags import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("--weights", nargs="+", default=[], metavar="NAME", help="files or workdirs to offer before the packaged ones")
    add("--host", metavar="ADDRESS", help="address to bind to, 0.0.0.0 for all; default: 127.0.0.1")
    add("--port", type=at_least(1), help="default: the first free one from 7860")
    add("--open", action="store_true", help="open the page in the browser")
    limit = "limit of one file; default: %(default)s MB"
    add("--max-upload", type=at_least(1), default=50, metavar="MB", help=limit)
    limit = "limit of one picture; default: %(default)s million"
    add("--max-pixels", type=at_least(1), default=50, metavar="MILLIONS", help=limit)
    parser.set_defaults(run=_web)


def _web(arguments: argparse.Namespace) -> int:
    from multifocal_jax.cli.cache import keep_programs
    from multifocal_jax.web.page import serve
    from multifocal_jax.web.work import Limits

    keep_programs()
    limits = Limits(arguments.max_upload, arguments.max_pixels)
    serve(arguments.weights, host=arguments.host, port=arguments.port, limits=limits, in_browser=arguments.open)
