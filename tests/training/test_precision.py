"""bfloat16 learns the demo as float32 does: its loss ends among those of three float32 seeds."""

import json

import pytest

from tests.launch import ROOT, finish, start


@pytest.mark.slow
def test_bfloat16_ends_no_worse_than_three_float32_seeds(tmp_path):
    def loss(precision, seed):
        """Mean loss of the last 50 of 300 steps."""
        workdir = tmp_path / f"{precision}-{seed}"
        fields = {"steps": 300, "log_every": 50, "seed": seed, "precision": precision, "tensorboard": False}
        overrides = [f"--config.train.{name}={value}" for name, value in fields.items()]
        command = ["--config", ROOT / "configs" / "demo.py", "--workdir", workdir, *overrides]
        finish(start("train.py", command, processes=1), timeout=3600)
        last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["step"] == 300
        return last["loss"]

    float32 = [loss("float32", seed) for seed in range(3)]
    bfloat16 = loss("bfloat16", 0)
    assert bfloat16 <= max(float32)
    assert abs(bfloat16 - float32[0]) <= max(float32) - min(float32)
