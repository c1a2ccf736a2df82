"""One side of a comparison, in a process of its own: sets its task up and runs it when told to.

    python -m benchmarks.side '{"work": {…}, "side": {…}}'

Every line of stdin is a number of runs, every line of stdout an answer in JSON. A process of its own gives each side
its own peak memory, its own CUDA libraries, and lets the two take turns on one machine.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.work import SideConfig, Task, Work
from multifocal_jax.cli.machine import share_cores, use_large_pages


def task_of(work: Work, side: SideConfig) -> Task:
    if side.framework == "torch":
        from benchmarks.twin import make_task

        return make_task(work, side)
    from benchmarks.ours import make_task

    return make_task(work, side)


def main() -> None:
    """Serve until stdin ends."""
    arguments = json.loads(sys.argv[1])
    work, side = Work.from_json(arguments["work"]), SideConfig(**arguments["side"])
    if (work.task, work.platform, side.framework) == ("training", "cpu", "jax"):  # as `train.py` does
        use_large_pages()
        share_cores(work.batch)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print to stdout is no answer

    def answer(values: dict[str, Any]) -> None:
        print(json.dumps(values), file=answers, flush=True)

    def seconds(run: Callable[[int], None], count: int) -> float:
        begin = time.perf_counter()
        run(count)
        return (time.perf_counter() - begin) / count

    begin = time.perf_counter()
    task = task_of(work, side)
    answer({"setup_seconds": time.perf_counter() - begin})
    for line in sys.stdin:
        count = int(line)
        if count:
            answer({"seconds": seconds(task.run, count)})
        else:
            answer({"peak_memory": task.peak_memory(), **task.facts()})


if __name__ == "__main__":
    main()
