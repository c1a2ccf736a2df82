import subprocess
import sys

import pytest

import multifocal_jax


@pytest.mark.parametrize("module", ["multifocal_jax", "multifocal_jax.cli.derain"])
def test_start_up_does_not_wait_for_jax(module):
    code = f"import sys, {module}; print(sorted({{'jax', 'numpy', 'PIL'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        multifocal_jax.laod  # noqa: B018
