"""Make metrics.json: python -m tests.golden.make_metrics, where octave-cli with its image package is installed.

Luma, PSNR and down-sampling come from Octave, SSIM of Octave's planes from scikit-image: none from the code under test.
"""

import json
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

from tests.golden.golden_pairs import digest, golden_pairs

HERE = Path(__file__).parent


def ssim(first: np.ndarray, second: np.ndarray, **options: int) -> float:
    return float(
        structural_similarity(
            first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, **options
        )
    )


def octave_version() -> str:
    code = "pkg load image; printf('%s, image %s', version, pkg('list', 'image'){1}.version)"
    return subprocess.run(["octave-cli", "--eval", code], check=True, capture_output=True, text=True).stdout


def main() -> None:
    values = {"made_with": {"octave": octave_version(), "scikit-image": version("scikit-image")}, "pairs": {}}
    for name, pair in golden_pairs().items():
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder, f"{side}.png")) for side in ("rainy", "clean")]
            for file, picture in zip(files, pair, strict=True):
                Image.fromarray(picture).save(file)
            command = ["octave-cli", str(HERE / "metrics.m"), *files, folder]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            psnr = dict(zip(("uint8", "double", "rgb"), map(float, line.split()), strict=True))
            planes = {
                family: [np.loadtxt(Path(folder, f"{side}_{family}.txt"), delimiter=",") for side in ("rainy", "clean")]
                for family in ("uint8", "double")
            }
        similarity = {family: ssim(*both) for family, both in planes.items()}
        similarity["rgb"] = ssim(pair[0].astype(float), pair[1].astype(float), channel_axis=2)
        values["pairs"][name] = {"sha256": digest(pair), "psnr": psnr, "ssim": similarity}
    (HERE / "metrics.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
