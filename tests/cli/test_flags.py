import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from multifocal_jax import processes
from multifocal_jax.cli.flags import (
    add_distributed_arguments,
    exit_on_user_error,
    read_config,
    start_distributed,
)
from multifocal_jax.cli.main import understand
from multifocal_jax.cli.platforms import missing_platform
from multifocal_jax.config import ConfigError
from multifocal_jax.config_files import to_dict

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "configs" / "demo.py")


def parse(*argv):
    arguments = understand(argv, "train")
    return read_config(arguments), arguments


@pytest.mark.parametrize("argv", [["--config", DEMO], [f"--config={DEMO}"]])
def test_config_with_space_or_equals(argv):
    config, namespace = parse(*argv)
    assert (config.name, namespace.workdir) == ("demo", "runs/demo")


def test_overrides_with_space_or_equals_between_other_arguments():
    config, namespace = parse(
        "--config.train.batch_size", "16", "--config", DEMO, "--workdir=w", "--config.train.learning_rate=1e-3"
    )
    assert (config.train.batch_size, config.train.learning_rate, namespace.workdir) == (16, 1e-3, "w")


def test_the_config_of_a_workdir(tmp_path):
    demo, _ = parse("--config", DEMO, "--config.train.seed=7")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(to_dict(demo)))  # as training writes it
    for words in (["--workdir", str(tmp_path)], ["--config", str(file)]):
        config, namespace = parse(*words, "--config.data.held_out=3")
        assert namespace.workdir == str(tmp_path)
        assert config == dataclasses.replace(demo, data=dataclasses.replace(demo.data, held_out=3))
    with pytest.raises(ConfigError, match=r"w holds no config\.json, which a training writes there; give --config"):
        parse("--workdir", str(tmp_path / "w"))
    with pytest.raises(ConfigError, match="no config: give --config NAME or FILE"):
        parse()
    with pytest.raises(ConfigError, match=r"w\.json does not exist"):
        parse("--config", str(tmp_path / "w.json"))
    for content in ("{", "[1]", '{"train": 3}', '{"data": {"train": null}}', '{"colour": 1}', "\xff"):
        file.write_bytes(content.encode("latin-1"))
        with pytest.raises(ConfigError, match=r"config\.json is not a config that a training of this version wrote: "):
            parse("--workdir", str(tmp_path))


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


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_entry_points_report_a_missing_data_set_in_one_line(script, tmp_path):
    command = [sys.executable, ROOT / script, "--config", ROOT / "configs" / "rain200h.py", "--workdir", tmp_path / "w"]
    command.append(f"--config.data.root={tmp_path / 'nowhere'}")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "command",
    [
        "cost --repeats -1",
        "data bench --batch-size 0",
        "data bench --steps -1",
        "data bench --seconds nan",
        "release pack runs/none --config demo --limit 1.5",
        "export demo demo.onnx --batch 0",
    ],
)
def test_numbers_out_of_range_are_told_by_argument(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        understand(command.split())
    *_, option, number = command.split()
    assert f"argument {option}: {number!r} is not a number of " in capsys.readouterr().err.splitlines()[-1]


def test_a_stdout_that_is_not_utf_8():
    code = "from multifocal_jax.cli.flags import exit_on_user_error as run; run(lambda: print('24×32 \\udce4') or 0)"
    for encoding, printed in (("ascii", rb"24\xd732 \udce4"), ("utf-8", "24×32 \\udce4".encode())):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, cwd=ROOT)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, printed, b"")


def test_a_reader_that_has_seen_enough():
    code = "from multifocal_jax.cli.flags import exit_on_user_error as run; run(lambda: print('x' * 100_000) or 0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=120)
    assert errors == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("asked", "command", "advice"),
    [
        ("cuda", "derain a.png -o b.png", "; the extra cuda brings it: pip install 'multifocal-jax[cuda]'"),
        ("tpv", "cost", "; did you mean 'tpu'? The extra tpu brings it: pip install 'multifocal-jax[tpu]'"),
    ],
)
def test_a_platform_that_is_not_there(asked, command, advice, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    environment = os.environ | {"JAX_PLATFORMS": asked, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "multifocal_jax.cli.main", *command.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.stderr == f"error: JAX_PLATFORMS is {asked!r}, but this installation has cpu only{advice}\n"
    assert done.returncode == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_errors_of_another_kind_are_not_laid_to_the_platform():
    for error in (AssertionError(), RuntimeError("backend"), KeyError("x")):  # JAX_PLATFORMS is cpu
        assert missing_platform(error) is None


def test_ctrl_c_ends_at_once_with_the_status_of_shells(tmp_path):
    """Also where JAX is at work, which crashed; and what is to be done at a usual exit does not wait for it."""
    code = """
import threading, time
from multifocal_jax.cli.flags import exit_on_user_error
def main():
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise KeyboardInterrupt
exit_on_user_error(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
