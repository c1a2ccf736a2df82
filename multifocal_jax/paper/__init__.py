"""The paper's tables, its figure 1 and its section 4.4."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from multifocal_jax.paper.tables import TABLES, Table

Command = list[str]


def name_of(config: str) -> str:
    """The run's name: `rain200h` of that config, `model_1` of `ablation:model_1`."""
    return config.rpartition(":")[2]


def commands(config: str, runs: Path, overrides: Sequence[str] = ()) -> list[Command]:
    """The command lines that measure the number of one of `Row.configs`; workdirs lie in `runs`.

    `overrides` are `--config.FIELD=VALUE` for all of them.
    """
    arguments = ["--config", config, "--workdir", str(runs / name_of(config))]
    if name_of(config) == "spa":  # table 5 trains nothing of its own
        return [["multifocal", "evaluate", *arguments, "--weights", str(runs / "rain200h"), *overrides]]
    return [["multifocal", command, *arguments, *overrides] for command in ("train", "evaluate")]


def _call(command: Command) -> int:
    """Run a command and return its exit status as shells give it.

    Ctrl-C reaches the command, too, and SIGTERM is passed on to it; a training then saves.
    """
    ended, process = 0, None

    def pass_on(*_: object) -> None:
        nonlocal ended
        ended = 143
        if process:
            process.terminate()

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        with subprocess.Popen([sys.executable, "-m", "multifocal_jax.cli.main", *command[1:]]) as process:
            if ended:  # while it was started
                process.terminate()
            while process.returncode is None:
                try:
                    process.wait()
                except KeyboardInterrupt:
                    ended = 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return ended or (process.returncode if process.returncode >= 0 else 128 - process.returncode)


def run_table(
    name: str,
    runs: Path,
    overrides: Sequence[str] = (),
    minutes: float = 0,
    call: Callable[[Command], int] = _call,
) -> int:
    """Run the commands of a table's rows in sequence; a row whose data is missing is left out.

    Rows that have already been evaluated in a workdir in `runs` are not run again. After so many minutes no further
    command is started, unless they are 0. `call` runs a command and returns its exit status.

    Returns:
        0 if every command that was started succeeded, otherwise 1. One that ends with 130 or 143, as by Ctrl-C or
        SIGTERM, ends the table with that status.
    """
    begin, done = time.monotonic(), 0
    for config in _configs(TABLES[name]):
        if _report(config, runs).is_file():
            continue
        for command in commands(config, runs, overrides):
            if minutes and time.monotonic() - begin > 60 * minutes:
                return done
            print("$", shlex.join(command), file=sys.stderr, flush=True)
            if (status := call(command)) in (130, 143):
                return status
            if status != 0:
                done = 1
                break
    return done


def table_text(name: str, runs: Path) -> str:
    """A Markdown table of the paper's numbers and those of the workdirs in `runs`, and the commands of missing runs."""
    table = TABLES[name]
    lines = [f"## Table {name.removeprefix('table')}: {table.title}", ""]
    header = [cell for column in table.columns for cell in (f"{column}, paper", f"{column}, measured")]
    lines += ["| | " + " | ".join(header) + " |", "|---" * (len(header) + 1) + "|"]
    notes: list[str] = []
    for row in table.rows:
        cells = [row.label]
        for index, (column, (psnr, ssim)) in enumerate(zip(table.columns, row.quoted, strict=True)):
            cells.append(f"{psnr:.2f} / {ssim:.3f}")
            cells.append(_measured(row.configs[index], column, runs, notes) if row.configs else "")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "PSNR in dB / SSIM on luma, family `uint8`. The paper's numbers are quoted; measured ones are ours."]
    lines += notes
    if missing := [config for config in _configs(table) if not _report(config, runs).is_file()]:
        missing_commands = [shlex.join(command) for config in missing for command in commands(config, runs)]
        lines += ["", "Not run; the commands:", "", "```", *missing_commands, "```"]
    return "\n".join(lines)


def _measured(config: str, column: str, runs: Path, notes: list[str]) -> str:
    """The cell of a column; says so if the overrides of a run made it score another set's pictures."""
    path = _report(config, runs)
    if not path.is_file():
        return "not run"
    from multifocal_jax.evaluation.report import Report  # imports much

    report = Report.read(path)
    if not report.has_truth:
        return "not measured"
    mean = report.mean("result", "uint8")
    trained = report.record.get("trained", {})
    steps = f", trained for {trained['step']:,} steps" if isinstance(trained.get("step"), int) else ""
    dataset = report.record.get("dataset", "an unknown set")
    notes.append(f"- `{name_of(config)}`: {len(report.pictures)} pictures of {dataset}{steps}; {path}")
    elsewhere = "" if dataset == f"{column.lower().removesuffix('-data')}/test" else f" on {dataset}"
    return f"{mean.psnr:.2f} / {mean.ssim:.3f}{elsewhere}"


def _report(config: str, runs: Path) -> Path:
    return runs / name_of(config) / "evaluation" / "report.json"


def _configs(table: Table) -> list[str]:
    return list(dict.fromkeys(config for row in table.rows for config in row.configs))
