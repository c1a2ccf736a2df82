"""Says a last line for a process that cannot: started beside it by `processes.join`, told over a pipe.

JAX ends a process from a C++ thread when another one of its program has died, so that no Python code of it runs again.
This program notices by its standard input's end. It needs the standard library alone and starts in a moment.
"""

import json
import os
import sys


def newest(folder: str) -> str:
    """The newest finished checkpoint of a folder in words; Orbax renames one to its number when it is complete."""
    if "://" in folder:
        return f"the newest checkpoint in {folder}"
    try:
        steps = [int(name) for name in os.listdir(folder) if name.isdigit()]
    except OSError:
        steps = []
    return f"checkpoint {max(steps)} in {folder}" if steps else "the start, as no checkpoint was finished yet"


def main() -> None:
    """Read messages, one JSON object a line, and print the last one's text unless it says goodbye."""
    message = {}
    for line in sys.stdin:
        message = json.loads(line)
    if "text" in message:
        folder = message.get("checkpoints")
        advice = f"; the same command on all of them goes on from {newest(folder)}" if folder else ""
        print(f"error: {message['text']}{advice}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
