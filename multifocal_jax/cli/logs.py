"""What other libraries say on stderr while a training runs, where this project says it in a line of its own."""

import logging
import os
import sys
from typing import Any

from absl import logging as absl_logging


def quiet_libraries() -> None:
    """Leave out what is said elsewhere; must precede the import of JAX.

    For a checkpoint that cannot be written Orbax logs a traceback before it raises the error, asyncio one for each
    array, and TensorStore's late answers find the event loop closed. XLA and Orbax report a signal that ends the run.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone, of XLA
    for logger in (absl_logging.get_absl_logger(), logging.getLogger("asyncio")):
        logger.addFilter(_is_news)
    before = sys.unraisablehook

    def report(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            before(unraisable)

    sys.unraisablehook = report


def _is_news(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    said_elsewhere = "preemption sync point" in text or "exception was never retrieved" in text
    return not said_elsewhere and not (record.exc_info and "orbax" in record.pathname)
