"""Processes that would not train the same thing end before any of them waits for another."""

import json
import re
import shutil

import pytest
from etils import epath
from PIL import Image

from multifocal_jax import processes
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.training.agreement import AgreementError, check_agreement
from multifocal_jax.training.lease import Lease
from tests.launch import start
from tests.training.helpers import with_fields, write_config


def facts(config, workdir, monkeypatch):
    """What a process with this config and workdir tells the others."""
    told = []

    def gather(mine):
        told.append(json.loads(json.dumps(mine)))
        return told

    with monkeypatch.context() as patched:
        patched.setattr(processes, "count", lambda: 2)
        patched.setattr(processes, "gather", gather)
        check_agreement(config, TrainingData(config.data, 8, 0), epath.Path(workdir))
    return told[0]


def compare(first, other, config, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "gather", lambda mine: [first, other])
    check_agreement(config, TrainingData(config.data, 8, 0), epath.Path("."))


def test_pictures_may_lie_elsewhere_but_must_be_the_same(tiny, pairs, tmp_path, monkeypatch):
    first = facts(tiny, tmp_path, monkeypatch)
    shutil.copytree(pairs, tmp_path / "copy")
    copied = with_fields(tiny, data={"root": str(tmp_path / "copy")})
    compare(first, facts(copied, tmp_path, monkeypatch), tiny, monkeypatch)
    with Image.open(pairs / "norain" / "1.png") as picture:
        picture.save(tmp_path / "copy" / "norain" / "0.png")
    with pytest.raises(AgreementError, match=r"process 1 differs from process 0: the pictures: .*: 6, .* -> .*: 6"):
        compare(first, facts(copied, tmp_path, monkeypatch), tiny, monkeypatch)
    for side in ("rain", "norain"):
        (tmp_path / "copy" / side / "5.png").unlink()
    with pytest.raises(AgreementError, match=r"the pictures: .*'pictures': 6, .* -> .*'pictures': 5"):
        compare(first, facts(copied, tmp_path, monkeypatch), tiny, monkeypatch)


def test_processes_that_would_keep_pictures_in_different_places_are_refused(tiny, tmp_path, monkeypatch):
    first = facts(tiny, tmp_path, monkeypatch)
    assert first["mode"] == "memory"
    with pytest.raises(AgreementError, match=r"data.mode=auto, which is 'memory' -> 'device'"):
        compare(first, first | {"mode": "device"}, tiny, monkeypatch)


def test_other_code_is_refused(tiny, tmp_path, monkeypatch):
    first = facts(tiny, tmp_path, monkeypatch)
    monkeypatch.setattr("multifocal_jax.training.agreement._digest_of_code", lambda: "other")
    with pytest.raises(AgreementError, match=r"process 1 differs from process 0: the code: .* -> .*'other'"):
        compare(first, facts(tiny, tmp_path, monkeypatch), tiny, monkeypatch)


def test_workdirs_of_their_own_are_refused(tiny, tmp_path, monkeypatch):
    for step in ("4", "8", "12.orbax-checkpoint-tmp"):
        (tmp_path / "one" / "checkpoints" / step).mkdir(parents=True)
    first, other = (facts(tiny, tmp_path / name, monkeypatch) for name in ("one", "two"))
    with pytest.raises(AgreementError, match=r"newest checkpoint none, of process 0 step 8\); the workdir must lie on"):
        compare(first, other, tiny, monkeypatch)
    with Lease(tmp_path / "three"):  # neither holds a checkpoint yet
        first = facts(tiny, tmp_path / "three", monkeypatch)
    with pytest.raises(AgreementError, match="process 1 does not see the "):
        compare(first, other, tiny, monkeypatch)
    compare(first, first, tiny, monkeypatch)


@pytest.mark.parametrize("problem", ["seeds", "workdirs", "pictures"])
def test_two_processes_that_cannot_train_together_all_end_with_a_line(tiny, tmp_path, problem):
    config = write_config(tiny, tmp_path / "config")
    (tmp_path / "run0" / "checkpoints" / "10").mkdir(parents=True)
    commands = [["--config", config, "--workdir", tmp_path / f"run{number}"] for number in (0, 1)]
    commands[1] += {
        "seeds": ["--config.train.seed=1", "--workdir", tmp_path / "run0"],
        "workdirs": [],
        "pictures": ["--config.data.root", tmp_path / "nowhere", "--workdir", tmp_path / "run0"],
    }[problem]
    for number, process in enumerate(start("train.py", commands, processes=2)):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 2, errors
        (line,) = [line for line in errors.splitlines() if line.startswith("error:")]
        expected = {
            "seeds": r"process 1 differs from process 0: train\.seed: 0 -> 1\. Start all of them with the same command",
            "workdirs": r"process 1 does not see the .*run\d of process 0 \(newest checkpoint none, of process 0 step",
            "pictures": ("" if number else "process 1 of 2 cannot continue: ") + r"folder: .*nowhere does not exist",
        }[problem]
        assert re.match(f"error: {expected}", line), line
        assert "Traceback" not in errors
    assert [path.name for path in (tmp_path / "run0").iterdir()] == ["checkpoints"]  # the lease is gone
