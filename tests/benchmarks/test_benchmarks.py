"""The harness of benchmarks/: it runs, it counts, and a row that fails takes no other along."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.kernels import count_kernels
from benchmarks.limits import count_traffic, demand_of
from benchmarks.ours import AttentionParity, Training, make_task
from benchmarks.processes import SideError, SideProcess, environment_for
from benchmarks.rows import OURS, ROWS, SMALL, SMALL_GPU, quick
from benchmarks.table import Result, limit_of, lines
from benchmarks.timing import Times, time_together
from benchmarks.work import SideConfig, Work
from multifocal_jax.config import ModelConfig
from multifocal_jax.fast import cudnn_attention

ROOT = Path(__file__).parents[2]


def test_quick_run_prints_the_table(tmp_path):
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds=1", f"--json={file}"]
    command += ["--platform=cpu", "--rows", "cpu-inference", "gpu-4k"]
    # Tests run beside each other; PyTorch's side is tried by `make bench`, in minutes.
    done = subprocess.run([*command, "--ours"], cwd=ROOT, capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr
    assert "| CPU, float32: inference 481×321 | this project | " in done.stdout
    assert "not measured: this run is of CPU rows" in done.stdout
    inference, gpu = json.loads(file.read_text())["rows"]
    (side,) = inference["sides"]
    assert side["median"] > 0
    assert side["peak_memory"] > 50e6
    assert 0 < inference["limit_seconds"] < side["median"]
    assert gpu["sides"] == []


def test_a_side_that_fails_is_told_and_the_others_go_on():
    broken = Work("inference", "cpu", 16, 16, precision="float8", model=SMALL)  # pyright: ignore
    failed, *_ = time_together(broken, [OURS], 1)
    assert "float8" in failed.failed
    row = quick(ROWS[0])
    result = Result(row, [Times("this project", [1.0, 3.0, 2.0]), Times("PyTorch", failed="out of memory")])
    assert result.failed
    first, second = lines(result)
    assert "| 2 s | 1.5 s to 2.5 s |" in first
    assert "failed: out of memory" in second


def test_a_side_that_ends_says_so():
    with SideProcess(Work("training", "cpu"), SideConfig("jax")) as side:
        side.process.kill()
        with pytest.raises(SideError, match="this project: ended with status -9"):
            side.answer()


def test_table_names_the_fastest_twin():
    sides = [Times("this project", [1.0]), Times("PyTorch slow", [4.0]), Times("PyTorch fast", [3.0])]
    shown = lines(Result(quick(ROWS[0]), sides, limit=0.5))
    assert "50% of 500 ms" in shown[0]
    assert "| 4.00× faster |" in shown[1]
    assert "| **3.00× faster** |" in shown[2]
    sides.append(Times("PyTorch faster", [0.5]))
    assert "| **2.00× slower** |" in lines(Result(quick(ROWS[0]), sides))[3]


def test_demand_counts_by_hand():
    work = Work("inference", "cpu", 8, 8, model=ModelConfig(channels=4, modules=0, heads=1, levels=1, spp_sizes=(1,)))
    # convolutions: 3 -> 4, three projections of which two read the same 4 channels, merge 4 -> 4, residual 4 -> 3
    macs = 64 * (9 * 3 * 4 + 3 * 4 * 4 + 9 * 4 * 4 + 9 * 4 * 3) + 2 * 64 * 4
    values = 64 * ((3 + 4) + 3 * (4 + 4) + (4 + 4) + (4 + 3) + 3 * 4)
    parameters = (9 * 3 * 4 + 4) + 3 * (4 * 4 + 4) + (9 * 4 * 4 + 4) + (9 * 4 * 3 + 3)
    assert demand_of(work)["flops"] == 2 * macs
    assert count_traffic(work) == values + parameters
    training = Work("training", "cpu", 8, 8, batch=2, model=work.model)
    assert demand_of(training)["flops"] == 2 * 3 * 2 * macs
    assert demand_of(training)["bytes"] == 4 * (3 * (2 * values + parameters) + 7 * parameters)


def test_the_limit_is_the_larger_of_arithmetic_and_traffic():
    rates = {"flops_per_second": 10.0, "bytes_per_second": 100.0}
    assert limit_of(Times("", facts={"flops": 20.0, "bytes": 100.0}), rates) == 2
    assert limit_of(Times("", facts={"flops": 20.0, "bytes": 500.0}), rates) == 5


def test_kernels_of_a_loop_count_by_its_turns():
    def turns(x):
        return jax.lax.fori_loop(0, 7, lambda _, y: jnp.sin(y @ y), x)

    square = jnp.ones((64, 64))
    once = count_kernels(jax.jit(lambda y: jnp.sin(y @ y)).lower(square).compile().as_text() or "")
    assert once == 2
    assert 7 * once <= count_kernels(jax.jit(turns).lower(square).compile().as_text() or "") < 7 * (once + 3)


def test_a_step_is_compared_with_one_without_cudnn_in_every_run(monkeypatch):
    task = AttentionParity(Work("attention", "cpu", 16, 16, batch=1, precision="bfloat16", model=SMALL))
    served = []

    def step_on(device):
        served.append(cudnn_attention.serves(jnp.dtype("bfloat16"), 32))
        return 2.0 + served[-1], {"w": np.ones(3) + served[-1]}

    monkeypatch.setattr(cudnn_attention, "serves", lambda dtype, depth: True)
    monkeypatch.setattr(task, "step_on", step_on)
    task.run(1)
    task.run(1)
    assert served == [True, False, True, False]
    assert task.facts() == {"loss_deviation": 0.5, "gradient_deviation": 1, "worst_parameter_deviation": 1}


def test_both_sides_get_one_gpu(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environment_for("gpu")["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert environment_for("gpu")["CUDA_VISIBLE_DEVICES"] == "4"


def test_where_cudnn_does_not_serve_there_is_nothing_to_compare():
    with pytest.raises(RuntimeError, match="cuDNN does not take this attention on cpu"):
        make_task(Work("attention", "cpu", 16, 16, model=SMALL), OURS)


def test_training_runs_the_production_step():
    training = Training(Work("training", "cpu", 16, 16, batch=8, model=SMALL))
    training.run(2)
    assert int(training.state.step) == 2
    assert training.facts()["kernels"] > 20


def test_every_row_has_a_miniature():
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert quick(row).work.model == (SMALL_GPU if row.work.platform == "gpu" else SMALL)
        assert row.sides[0] == OURS
