"""Training end to end on a small folder: files, resuming, stopping, errors."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import multifocal_jax
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.inference import Derainer, TooLargeError
from multifocal_jax.models import initial_parameters
from multifocal_jax.training.best import commit_of_package
from multifocal_jax.training.checkpoints import CheckpointError
from multifocal_jax.training.lease import Lease, WorkdirInUseError
from multifocal_jax.training.loop import TrainingError, train
from multifocal_jax.training.parallel import DataParallel
from multifocal_jax.training.validation import Validation
from multifocal_jax.training.writers import MetricWriter
from multifocal_jax.weights import Weights, load_weights, save_weights
from tests.launch import ROOT, read_until
from tests.training.helpers import assert_equal_weights, logged, with_fields, with_train, write_config

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture(scope="module")
def scored(tiny):
    """The experiment with two pictures held out."""
    return with_fields(tiny, data={"held_out": 2})


def record(workdir):
    return load_weights(workdir / "weights.safetensors").record


def test_a_run_writes_what_it_promises(scored, tmp_path, monkeypatch, capsys):
    config = with_train(scored, steps=60, log_every=10, checkpoint_every=30)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    result = train(config, tmp_path, quiet=True)
    assert capsys.readouterr() == ("", "")
    assert result.finished
    assert result.step == 60
    lines = logged(tmp_path)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert {"learning_rate", "gradient_norm", "parameter_norm", "update_norm", "images_per_second"} <= set(lines[0])
    assert 0 <= lines[0]["waiting_for_data"] <= 1
    assert lines[-1]["held_out_psnr"] == pytest.approx(result.scores["psnr"])
    assert json.loads((tmp_path / "config.json").read_text())["model"]["channels"] == 4
    assert len(list((tmp_path / "images").iterdir())) == 2
    weights = load_weights(tmp_path / "weights.safetensors")
    assert weights.model == config.model
    assert weights.record["step"] == 60
    assert weights.record["held_out"]["psnr"] == pytest.approx(result.scores["psnr"])
    (source,) = weights.record["sources"]
    assert (source["pictures"], len(source["sha256"])) == (6, 64)


# A failed read leaves Orbax's coroutines unfinished; Python reports them when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_resumed_run_is_bit_identical_to_an_uninterrupted_one(tiny, tmp_path, optimizer):
    tiny = with_train(tiny, optimizer=optimizer)
    train(tiny, tmp_path / "whole", quiet=True)
    train(with_train(tiny, steps=4), tmp_path / "parts", quiet=True)
    assert train(tiny, tmp_path / "parts", quiet=True).step == 8
    assert_equal_weights(tmp_path / "parts", tmp_path / "whole")
    # a damaged newest checkpoint: the one before is used, and the run ends the same
    newest = tmp_path / "parts" / "checkpoints" / "8"
    for file in newest.rglob("d/*"):
        file.write_bytes(b"\0" * 10)
    assert train(tiny, tmp_path / "parts", quiet=True).step == 8
    assert_equal_weights(tmp_path / "parts", tmp_path / "whole")


def test_another_experiment_is_refused_with_the_differences(tiny, tmp_path):
    train(with_train(tiny, steps=2), tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match=r"another experiment: train\.batch_size: 8 -> 16"):
        train(with_train(tiny, batch_size=16), tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match=r"model\.heads: 2 -> 4"):
        train(with_fields(tiny, model={"heads": 4}), tmp_path, quiet=True)
    harmless = with_train(tiny, steps=3, log_every=1, keep=1)
    assert train(harmless, tmp_path, quiet=True).step == 3


def test_a_run_does_not_go_on_with_fewer_pictures_of_which_others_would_be_held_out(scored, pairs, tmp_path):
    shutil.copytree(pairs, tmp_path / "pairs")
    config = with_fields(scored, data={"root": str(tmp_path / "pairs")})
    train(with_train(config, steps=4), tmp_path / "run", quiet=True)
    for side in ("rain", "norain"):
        (tmp_path / "pairs" / side / "0.png").rename(tmp_path / f"{side}.png")
    with pytest.raises(CheckpointError, match=r"on 6 pictures of data\.train\.0 \(folder\), where now there are 5"):
        train(config, tmp_path / "run", quiet=True)
    for side in ("rain", "norain"):
        (tmp_path / f"{side}.png").rename(tmp_path / "pairs" / side / "0.png")
    assert train(config, tmp_path / "run", quiet=True).finished


def test_a_run_goes_on_with_the_batch_in_parts(tiny, tmp_path):
    config = with_train(tiny, batch_size=16)
    train(config, tmp_path / "whole", quiet=True)
    train(with_train(config, steps=4), tmp_path / "parts", quiet=True)
    train(with_train(config, accumulate=2), tmp_path / "parts", quiet=True)
    assert_equal_weights(tmp_path / "parts", tmp_path / "whole", atol=1e-6)


def test_loss_that_is_not_finite_stops_the_run_and_names_step_and_checkpoint(tiny, tmp_path):
    config = with_train(tiny, learning_rate=1e15, log_every=1, checkpoint_every=1)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step 2; the last good checkpoint is step 1"):
        train(config, tmp_path, quiet=True)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]


def test_parameters_that_are_not_finite_are_neither_scored_nor_saved(scored, tmp_path):
    # the loss of the first step is that of the weights before it; its update leaves no float32 norm
    config = with_train(scored, learning_rate=1e30, log_every=100, eval_every=1)
    with pytest.raises(TrainingError, match=r"the parameter norm is (nan|inf) at step 1; no checkpoint was saved"):
        train(config, tmp_path, quiet=True)
    assert not list((tmp_path / "checkpoints").iterdir())
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_step_that_does_not_fit_into_memory_ends_with_the_ways_out(tiny, tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    train(with_train(tiny, steps=4), tmp_path, quiet=True)
    monkeypatch.setattr(DataParallel, "__call__", exhausted)
    with pytest.raises(UserError, match=r"memory; raise train.accumulate, .* resumes from checkpoint 4 in"):
        train(tiny, tmp_path, quiet=True)


def test_metrics_that_cannot_be_written_at_the_end_do_not_undo_a_training(tiny, tmp_path, monkeypatch, capsys):
    class HttpError(Exception):
        """What a bucket out of reach raises, which is no OSError."""

    close = MetricWriter.close

    def unreachable(self):
        close(self)
        raise HttpError("503")

    monkeypatch.setattr(MetricWriter, "close", unreachable)
    assert train(with_train(tiny, steps=4), tmp_path).finished
    assert "the last lines of metrics.jsonl could not be written: 503" in capsys.readouterr().err


def test_speed_is_left_out_where_the_first_step_is_a_line_of_its_own(tiny, tmp_path, capsys):
    train(with_train(tiny, steps=3, log_every=1), tmp_path)
    first, second, third = logged(tmp_path)
    assert "images_per_second" not in first
    assert 0 < second["images_per_second"] < 1e6
    assert third["loss"] > 0
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert re.fullmatch(r"step 1/3: loss \d\.\d{4}, lr 1.0e-03", shown[0])
    assert re.fullmatch(r"step 2/3: loss \d\.\d{4}, lr 1.0e-03, [\d.]+ images/s, 00:00:\d\d left", shown[1])


def test_a_collapse_to_no_rain_is_reported_once(tiny, tmp_path, capsys):
    dead = Weights(initial_parameters(tiny.model, 0), tiny.model, {})
    dead.params["fusion"]["merge"]["bias"] -= 1e3  # the fusion's ReLU passes nothing
    dead.params["fusion"]["residual"]["bias"] *= 0
    save_weights(tmp_path / "dead.safetensors", dead)
    config = with_train(tiny, steps=3, log_every=1, learning_rate=1e-9, init_weights=str(tmp_path / "dead.safetensors"))
    train(config, tmp_path / "run")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "no rain any more" in line]
    assert [line[:8] for line in warnings] == ["step 1: "]
    assert [line["mean_rain"] < 1e-8 for line in logged(tmp_path / "run")] == [True] * 3


def test_a_line_that_a_kill_tore_stays_alone(tiny, tmp_path):
    train(with_train(tiny, steps=2), tmp_path, quiet=True)
    file = tmp_path / "metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 4, "lo')
    train(with_train(tiny, steps=4), tmp_path, quiet=True)
    first, torn, second = file.read_text().splitlines()
    assert (json.loads(first)["step"], torn, json.loads(second)["step"]) == (2, '{"step": 4, "lo', 4)


def test_weights_that_a_kill_kept_from_being_written_are_written_later(scored, tmp_path, monkeypatch):
    config = with_train(scored, eval_every=4, log_every=4)

    def full(path, weights):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("multifocal_jax.training.best.save_weights", full)
        with pytest.raises(TrainingError, match="No space left"):
            train(config, tmp_path, quiet=True)
    assert not [line for line in logged(tmp_path) if "held_out_psnr" in line]
    # a line without its weights, as versions before left it, does not count
    (tmp_path / "metrics.jsonl").write_text('{"step": 4, "held_out_psnr": 99.0}\n')
    result = train(config, tmp_path, quiet=True)
    assert record(tmp_path)["held_out"]["psnr"] == max(line.get("held_out_psnr", 0) for line in logged(tmp_path)[1:])
    assert result.scores["psnr"] < 99


@pytest.mark.parametrize(("family", "best"), [("double", (4, 20.0)), ("uint8", (2, 30.0))])
def test_the_best_weights_are_compared_with_scores_of_their_kind_alone(scored, tmp_path, monkeypatch, family, best):
    psnr = iter([30.0, 20.0, 10.0])
    monkeypatch.setattr(
        Validation, "score", lambda *_: {"psnr": next(psnr), "ssim": 0, "rainy_psnr": 0, "rainy_ssim": 0}
    )
    config = with_train(scored, steps=2, eval_every=2)
    train(config, tmp_path, quiet=True)
    train(with_fields(config, eval={"family": family}, train={"steps": 6}), tmp_path, quiet=True)
    kept = record(tmp_path)
    assert (kept["step"], kept["held_out"]["psnr"]) == best


def test_held_out_pictures_are_checked_before_training(tiny, pairs, tmp_path):
    root = tmp_path / "pairs"
    shutil.copytree(pairs, root)
    config = with_fields(tiny, data={"root": str(root), "held_out": 2})
    (root / "rain" / "3.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"picture .*3\.png cannot be read: .*; replace or remove it"):
        train(config, tmp_path / "run", quiet=True)
    for side in ("rain", "norain"):
        Image.fromarray(np.zeros((10, 32, 3), np.uint8)).save(root / side / "3.png")
    with pytest.raises(UserError, match=r"held-out picture 3 is 32x10; a score takes at least 11x11"):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_what_was_trained_is_saved_when_the_last_score_fails_and_tiles_mend_it(scored, tmp_path, monkeypatch):
    derain = Derainer.__call__

    def small(self, image):
        if not self.tile:
            message = "a picture of 32x24 pixels needs 9 GB at once; tiles of 64 pixels would fit"
            raise TooLargeError(message, 9_000_000_000, None, 64)
        return derain(self, image)

    monkeypatch.setattr(Derainer, "__call__", small)
    for _ in range(2):
        with pytest.raises(UserError, match=r"held-out picture 0: .* would fit \(eval.tile=64\)"):
            train(scored, tmp_path, quiet=True)
        assert (tmp_path / "checkpoints" / "8").exists()
        assert record(tmp_path)["step"] == 8
    result = train(with_fields(scored, eval={"tile": 64}), tmp_path, quiet=True)
    monkeypatch.undo()
    assert result.scores == pytest.approx(train(scored, tmp_path / "whole", quiet=True).scores)  # one tile holds them
    assert record(tmp_path)["held_out"] == result.scores


def test_the_commit_is_that_of_this_project_alone(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "-m", "first")
    for place, commit in (("multifocal_jax", git("rev-parse", "HEAD")), ("env/lib/multifocal_jax", None)):
        (tmp_path / place).mkdir(parents=True)
        monkeypatch.setattr(multifocal_jax, "__file__", str(tmp_path / place / "__init__.py"))
        assert commit_of_package() == commit


def test_start_from_given_weights(tiny, tmp_path):
    first = train(with_train(tiny, steps=2), tmp_path / "first", quiet=True)
    config = with_train(tiny, steps=1, learning_rate=1e-12, init_weights=str(first.weights))
    train(config, tmp_path / "second", quiet=True)
    assert_equal_weights(tmp_path / "second", tmp_path / "first", atol=1e-10)
    with pytest.raises(UserError, match="another architecture"):
        train(with_fields(config, model={"channels": 8}), tmp_path / "third", quiet=True)
    train(with_train(config, init_weights=str(tmp_path / "first")), tmp_path / "workdir", quiet=True)
    assert_equal_weights(tmp_path / "workdir", tmp_path / "second")
    with pytest.raises(UserError, match=r"neither a file,? nor a workdir"):
        train(with_train(tiny, init_weights=str(tmp_path / "none")), tmp_path / "fourth", quiet=True)


def test_sigterm_and_ctrl_c_save_and_the_same_command_goes_on(tiny, tmp_path):
    config = write_config(with_train(tiny, steps=100_000, log_every=5), tmp_path)
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(config), "--workdir", str(tmp_path / "run")]
    cache = {"MULTIFOCAL_CACHE": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    cache |= {"JAX_COMPILATION_CACHE_DIR": ""}
    environment, stopped, programs = os.environ | {"XLA_FLAGS": ""} | cache, [0], []
    for number, name in ((signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")):
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
            begin = read_until(process, f"step {stopped[-1] // 5 * 5 + 10}/")
            process.send_signal(number)
            *_, heard, rest = process.communicate(timeout=100)[1].splitlines()
        assert process.returncode == 128 + number
        saving = f"{name}: saving after the step under way; a second one ends at once"
        assert heard == saving or heard.startswith("step")
        step = int(re.fullmatch(r"stopped by a signal at step (\d+), saved; the same command .* from here", rest)[1])
        assert step in {int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()}
        assert step > stopped[-1]
        if stopped[-1]:
            assert begin[0].startswith(f"resuming from step {stopped[-1]} of ")
        assert sum(re.fullmatch(r"compiling the training step: \d+\.\d s\n", line) is not None for line in begin) == 1
        programs.append({path.name for path in tmp_path.glob("cache/steps/*/*-cache")})
        stopped.append(step)
    assert programs[0]
    assert programs[0] == programs[1]  # nothing was compiled anew
    last = [*command, f"--config.train.steps={step + 1}"]
    ended = subprocess.run(last, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    trained, *following = ended.stdout.splitlines()
    assert trained == f"trained {step + 1} steps; weights: {tmp_path / 'run' / 'weights.safetensors'}"
    assert [line.partition(":")[2].strip() for line in following] == [
        f"multifocal evaluate --workdir {tmp_path / 'run'}",
        f"derain photo.jpg --weights {tmp_path / 'run'}",
    ]


def test_the_device_is_no_more_than_two_steps_behind(tiny, tmp_path, monkeypatch):
    dispatched, waited = [], []
    step, ready = DataParallel.__call__, jax.block_until_ready

    def dispatch(self, state, resident, batch):
        state, metrics = step(self, state, resident, batch)
        dispatched.append(metrics)
        assert all(any(done is metrics for done in waited) for metrics in dispatched[1:-3])
        return state, metrics

    def wait(tree):
        waited.append(tree)
        return ready(tree)

    monkeypatch.setattr(DataParallel, "__call__", dispatch)
    monkeypatch.setattr(jax, "block_until_ready", wait)
    train(with_train(tiny, log_every=100), tmp_path, quiet=True)
    assert len(dispatched) == 8
    assert len(waited) >= 6


def test_a_second_training_in_the_same_workdir_is_refused(tiny, tmp_path):
    with Lease(tmp_path), pytest.raises(WorkdirInUseError, match=rf"is in use: process {os.getpid()} on "):
        train(tiny, tmp_path, quiet=True)
