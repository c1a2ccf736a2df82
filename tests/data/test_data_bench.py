import itertools
import json

import numpy as np
import pytest

from multifocal_jax.cli.main import run
from multifocal_jax.data.errors import DataError
from tests.data.helpers import save


def test_the_command_measures_every_mode(tmp_path, capsys):
    for side, number in itertools.product(("rain", "norain"), range(3)):
        save(tmp_path / side / f"{number}.png", np.full((40, 48, 3), number, np.uint8))
    options = ["data", "bench", str(tmp_path), "--crop-size", "16", "--seconds", "0.05", "--steps", "5"]
    assert run([*options, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["decoder"] > 0
    assert [speed["mode"] for speed in printed["modes"]] == ["device", "memory", "stream"]
    for speed in printed["modes"]:
        assert speed["host"] > 0
        assert speed["prepared"] > 0
        assert 0 <= speed["waiting"]["0.005"] < 1
    assert run([*options, "--modes", "memory"]) == 0
    assert "| memory |" in capsys.readouterr().out
    with pytest.raises(DataError, match="nowhere"):
        run(["data", "bench", str(tmp_path / "nowhere"), "--dataset", "folder"])
