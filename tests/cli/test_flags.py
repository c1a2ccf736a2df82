import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from multifocal_jax import processes
from multifocal_jax.cli.flags import (
    add_distributed_arguments,
    exit_on_user_error,
    parse_experiment,
    start_distributed,
)
from multifocal_jax.config import ConfigError

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "configs" / "demo.py")


def parse(*argv):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--workdir")
    return parse_experiment(parser, argv)


@pytest.mark.parametrize("argv", [["--config", DEMO], [f"--config={DEMO}"]])
def test_config_with_space_or_equals(argv):
    assert parse(*argv)[0].name == "demo"


def test_overrides_with_space_or_equals_between_other_arguments():
    config, namespace = parse(
        "--config.train.batch_size", "16", "--config", DEMO, "--workdir=w", "--config.train.learning_rate=1e-3"
    )
    assert (config.train.batch_size, config.train.learning_rate, namespace.workdir) == (16, 1e-3, "w")


def test_override_without_value(capsys):
    with pytest.raises(SystemExit):
        parse("--config", DEMO, "--config.train.seed")
    assert "--config.train.seed needs a value" in capsys.readouterr().err


def test_unknown_field_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        parse("--config", DEMO, "--config.train.batchsize=4")


def test_errors_of_the_users_are_one_line(capsys):
    def main():
        raise ConfigError("x is 1; allowed: 2")

    with pytest.raises(SystemExit) as stop:
        exit_on_user_error(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: x is 1; allowed: 2\n"


def test_defects_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_on_user_error(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--coordinator=a:1", "--process-count=2"], "give all three or none"),
        (["--coordinator=a", "--process-count=2", "--process-id=0"], "'a'; allowed: HOST:PORT"),
        (["--coordinator=a:1", "--process-count=2", "--process-id=2"], "is 2; allowed: 0 to --process-count"),
        (
            ["--coordinator=a:1", "--process-count=2", "--process-id=0", "--distributed"],
            "--distributed finds .* for plain machines: give the one or the others",
        ),
        (["--distributed"], r"no Slurm, Kubernetes or Cloud TPU here \(no address\); .* give --coordinator"),
    ],
)
def test_processes_that_cannot_be_joined(argv, message, monkeypatch):
    def join(*_, preemptible, patience):
        raise ValueError("no address")  # as jax.distributed.initialize does

    monkeypatch.setattr(processes, "join", join)
    parser = argparse.ArgumentParser()
    add_distributed_arguments(parser)
    with pytest.raises(ConfigError, match=message):
        start_distributed(parser.parse_args(argv))


@pytest.mark.parametrize("door", ["train.py", "evaluate.py"])
def test_doors_report_a_missing_data_set_in_one_line(door, tmp_path):
    command = [sys.executable, ROOT / door, "--config", ROOT / "configs" / "rain200h.py", "--workdir", tmp_path / "w"]
    command.append(f"--config.data.root={tmp_path / 'nowhere'}")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "command",
    [
        "multifocal_jax.cost --repeats -1",
        "multifocal_jax.data bench --batch-size 0",
        "multifocal_jax.release pack runs/none --config configs/demo.py --limit 1.5",
        "multifocal_jax.cli.export demo demo.onnx --batch 0",
    ],
)
def test_numbers_out_of_range_are_told_by_argument(command):
    done = subprocess.run([sys.executable, "-m", *command.split()], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    *_, option, number = command.split()
    last = done.stderr.splitlines()[-1]
    assert f"argument {option}: {number!r} is not a number of " in last


def test_a_reader_that_has_seen_enough():
    code = "from multifocal_jax.cli.flags import exit_on_user_error as run; run(lambda: print('x' * 100_000) or 0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=120)
    assert errors == b""
    assert process.returncode == 141
