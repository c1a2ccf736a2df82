"""A disk that takes no more: training stops with one line, and what was saved before can be read."""

import re
import resource
import subprocess
import sys

import pytest

from multifocal_jax.errors import UserError
from multifocal_jax.training.checkpoints import Checkpoints
from multifocal_jax.training.loop import train
from multifocal_jax.training.parallel import to_host
from tests.launch import ROOT
from tests.training.helpers import assert_equal_weights, with_train, write_config

pytestmark = pytest.mark.usefixtures("unoptimised")


# TensorStore's late answers find the event loop closed; the command leaves that out of what it prints.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_checkpoint_that_cannot_be_written_stops_training_and_leaves_the_older_ones(tiny, tmp_path, monkeypatch):
    limits, save = resource.getrlimit(resource.RLIMIT_FSIZE), Checkpoints.save

    def fill(self, state, metrics=None):
        if int(to_host(state.step)) == 8:
            self.wait()
            # from here on the system refuses to write more than 100 bytes to a file
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        save(self, state, metrics)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", fill)
        try:
            with pytest.raises(UserError, match=r"File too large; .* intact"):
                train(with_train(tiny, steps=12), tmp_path / "full", quiet=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    train(tiny, tmp_path / "full", quiet=True)
    train(tiny, tmp_path / "whole", quiet=True)
    assert_equal_weights(tmp_path / "full", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("tensorboard", [False, True])
def test_full_disk(attentive, tmp_path, tensorboard):
    """On a disk of 1 MB of its own; where ordinary users may not mount one in a namespace, this fails."""
    config = with_train(
        attentive,
        steps=10**6,
        log_every=1 if tensorboard else 10,
        checkpoint_every=10,
        keep=1000,
        tensorboard=tensorboard,
    )
    file, disk = write_config(config, tmp_path / "config"), tmp_path / "disk"
    disk.mkdir()
    train_there = f"{sys.executable} {ROOT / 'train.py'} --config {file} --workdir {disk}/run"
    script = f"mount -t tmpfs -o size=1M none {disk} && {train_there}; s=$?; cp -r {disk}/run {tmp_path}; exit $s"
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c", script]
    stopped = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert stopped.returncode == 2, stopped.stderr
    errors = [line for line in stopped.stderr.splitlines() if not re.match("starting|step|compiling|6 pictures", line)]
    assert len(errors) == 1, stopped.stderr
    assert errors[0].startswith("error: ")
    assert "No space left on device" in errors[0]
    newest = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit())
    assert train(with_train(config, steps=newest + 1), tmp_path / "run", quiet=True).step == newest + 1
    losses = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()  # one of them torn
    assert f'"step": {newest + 1}, ' in losses[-1]
