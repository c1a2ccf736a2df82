"""What other libraries say on stderr while a training runs, where this project says it in a line of its own."""

import logging
import os
import sys
from typing import Any


def quiet_libraries() -> None:
    """Leave out what is said elsewhere; must precede the import of JAX.

    Orbax logs a traceback for an error of its threads before it raises it, and every process each step at which a
    signal ends it; XLA logs that signal; TensorStore's late answers find the event loop closed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone, of XLA
    logging.getLogger("absl").addFilter(_is_news)
    before = sys.unraisablehook

    def report(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            before(unraisable)

    sys.unraisablehook = report


def _is_news(record: logging.LogRecord) -> bool:
    traceback_of_orbax = record.exc_info and "orbax" in record.pathname
    return not traceback_of_orbax and "preemption sync point" not in record.getMessage()
