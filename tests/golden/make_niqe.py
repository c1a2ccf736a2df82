"""Make niqe.json: python -m tests.golden.make_niqe FOLDER, the unpacked source of BasicSR 1.4.2, beside PyTorch.

    pip download --no-deps --no-binary :all: basicsr==1.4.2; tar xf basicsr-1.4.2.tar.gz

BasicSR's own `niqe` and `imresize` measure the golden pictures in MATLAB's grey. What its module imports beside them is
put in its place, as the package does not install beside today's NumPy, SciPy and torchvision.
"""

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import scipy.ndimage

from tests.golden.golden_pairs import digest, golden_pairs

HERE = Path(__file__).parent
GREY = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])  # MATLAB's rgb2gray

KEYS = ("mu_pris_param", "cov_pris_param", "gaussian_window")


def basicsr_niqe(folder: Path) -> Any:
    for name in ("basicsr", "basicsr.metrics", "basicsr.utils"):
        package: Any = types.ModuleType(name)
        package.__path__ = [str(folder / name.replace(".", "/"))]
        sys.modules[name] = package
    for name in ("cv2", "basicsr.utils.registry", "basicsr.metrics.metric_util"):
        sys.modules[name] = MagicMock()
    filters: Any = types.ModuleType("scipy.ndimage.filters")
    filters.convolve = scipy.ndimage.convolve
    sys.modules["scipy.ndimage.filters"] = filters
    return importlib.import_module("basicsr.metrics.niqe").niqe


def main() -> None:
    folder = Path(sys.argv[1])
    niqe = basicsr_niqe(folder)
    model = np.load(folder / "basicsr/metrics/niqe_pris_params.npz")
    values = {}
    for name, pair in golden_pairs().items():
        scores = [niqe(np.floor(picture @ GREY + 0.5), *(model[key] for key in KEYS)) for picture in pair]
        values[name] = {"sha256": digest(pair), "rainy": scores[0], "clean": scores[1]}
    (HERE / "niqe.json").write_text(json.dumps({"made_with": "BasicSR 1.4.2", "pairs": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
