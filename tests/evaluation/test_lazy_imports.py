import subprocess
import sys

import pytest

import multifocal_jax


def test_the_package_is_imported_without_jax():
    code = "import sys, multifocal_jax; print(sorted({'jax', 'numpy', 'PIL'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        multifocal_jax.laod  # noqa: B018
