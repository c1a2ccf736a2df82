"""Exported networks run without this package and agree with it."""

import jax
import jaxtyping
import numpy as np
import onnx
import onnxruntime
import pytest

from multifocal_jax.cli.main import run
from multifocal_jax.interop import export as exporting
from multifocal_jax.interop.export import ExportError, export_onnx, export_stablehlo, forward
from multifocal_jax.weights import Weights, save_weights
from tests.interop.helpers import TINY, seeded_params, small

# Together they take every branch.
COMBINATIONS = {
    "default": small(levels=2),
    "gaussian": small(
        levels=2, pyramid="gaussian", residual_blocks=1, heads=2, channel_softmax="query", value_projection=False
    ),
    "single_scale": small(pyramid="average", interaction="single_scale", global_skip=False, spp_sizes=(2, 5)),
    "convolution": small(interaction="convolution", levels=4),
    "spatial": small(interaction="spatial", projection_kernel=3, levels=2),
    "channel": small(interaction="channel", levels=1),
    "three_levels": small(),
}


def weights_of(config) -> Weights:
    return Weights(seeded_params(config), config, {})


def expected(weights: Weights, images: np.ndarray) -> np.ndarray:
    h, w = images.shape[1:3]
    multiple = weights.model.multiple
    padded = np.pad(images, ((0, 0), (0, -h % multiple), (0, -w % multiple), (0, 0)), mode="reflect")
    return exporting._run(forward(weights, "reference"), padded)[:, :h, :w]


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape, np.float32)


def stablehlo(path) -> jax.export.Exported:
    return jax.export.deserialize(bytearray(path.read_bytes()))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("default", "gaussian") else pytest.mark.slow) for name in COMBINATIONS],
)
def test_onnx_of_open_size_agrees_at_any_size(name, tmp_path):
    weights = weights_of(COMBINATIONS[name])
    export_onnx(tmp_path / "net.onnx", weights)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    multiple = weights.model.multiple
    # Padded to the size with which the exporter has compared, so that the network need not be compiled again.
    images = pictures(2, 4 * multiple - 1, 3 * multiple - 1, 3)
    (found,) = session.run(None, {"rainy": images.transpose(0, 3, 1, 2)})
    assert np.abs(found.transpose(0, 2, 3, 1) - expected(weights, images)).max() < 1e-4


def test_onnx_of_fixed_size_says_so(tmp_path):
    export_onnx(tmp_path / "net.onnx", weights_of(TINY), batch=1, size=(21, 30))
    graph = onnx.load(tmp_path / "net.onnx").graph
    for value in (*graph.input, *graph.output):
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [1, 3, 21, 30]
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"rainy": pictures(1, 3, 21, 30)})
    assert found.shape == (1, 3, 21, 30)


@pytest.fixture
def without_shape_checks():
    """The division in a shape such as "b h/2 w/2 c" is not for symbolic sizes; users run without the checks anyway."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("without_shape_checks")
def test_stablehlo_of_open_size_runs_at_every_multiple(tmp_path):
    weights = weights_of(small(levels=2))
    export_stablehlo(tmp_path / "net.stablehlo", weights)
    program = stablehlo(tmp_path / "net.stablehlo")
    assert program.platforms == ("cpu", "cuda", "tpu")
    images = pictures(3, 16, 12, 3)
    assert np.abs(exporting._run(program.call, images) - expected(weights, images)).max() < 1e-4
    with pytest.raises(ValueError, match=r"4\*h|divisible|constraint"):
        program.call(pictures(1, 18, 24, 3))


def test_stablehlo_of_fixed_size_takes_no_other(tmp_path):
    weights = weights_of(small(interaction="convolution"))
    export_stablehlo(tmp_path / "net.stablehlo", weights, batch=1, size=(16, 24), platforms=("cpu",))
    assert stablehlo(tmp_path / "net.stablehlo").in_avals[0].shape == (1, 16, 24, 3)
    with pytest.raises(ExportError, match="multiples of 8, for instance 24×32"):
        export_stablehlo(tmp_path / "other.stablehlo", weights, size=(21, 30))


def test_platforms_that_are_not_here_are_written_and_compared(tmp_path, monkeypatch):
    weights, compared = weights_of(small(modules=0, interaction="channel")), []
    monkeypatch.setattr(exporting, "_compare", lambda *arguments: compared.append(arguments))
    export_stablehlo(tmp_path / "net.stablehlo", weights, batch=1, size=(16, 24), platforms=("cuda",))
    assert stablehlo(tmp_path / "net.stablehlo").platforms == ("cuda",)
    ((_, found, wanted),) = compared
    assert np.abs(found - wanted).max() < 1e-4


def test_what_disagrees_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCE", 0.0)
    with pytest.raises(ExportError, match=r"differs from the JAX network .* nothing was written"):
        export_onnx(tmp_path / "net.onnx", weights_of(TINY))
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, capsys):
    save_weights(tmp_path / "w.safetensors", weights_of(TINY))
    source, out = str(tmp_path / "w.safetensors"), str(tmp_path / "net.onnx")
    assert run(["export", source, out, "--size", "24x16", "--batch", "1"]) == 0
    assert "wrote" in capsys.readouterr().out
    assert onnxruntime.InferenceSession(out).get_inputs()[0].shape == [1, 3, 16, 24]  # NCHW, of width × height
    for message, arguments in (
        ("--overwrite replaces it", [out]),
        (r"cannot write \.tflite", [str(tmp_path / "net.tflite")]),
        ("platform abacus is unknown", [str(tmp_path / "net.stablehlo"), "--platforms", "abacus"]),
        ("size 3×40 is too small", [out, "--overwrite", "--size", "3x40"]),
    ):
        with pytest.raises(ExportError, match=message):
            run(["export", source, *arguments])
