"""The network as an ONNX graph, built operator by operator from the parameters.

Neither torch's nor JAX's exporter is needed, and height and width stay dynamic: what depends on them (pooling, padding)
is computed from the shape when the model runs. The graph uses ONNX's layout, (B, C, H, W).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from multifocal_jax.interop.names import to_torch_layout
from multifocal_jax.weights import Weights, flatten

OPSET = 18


def build_onnx(weights: Weights, *, batch: int | None, size: tuple[int, int] | None) -> bytes:
    """The model as bytes; see `export.export_onnx` for its input and output."""
    graph = _Graph(weights)
    result = graph.network("rainy")
    graph.node("Identity", result, output="derained")
    shape = [batch or "batch", 3, *(size or ("height", "width"))]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "multifocal",
            [helper.make_tensor_value_info("rainy", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("derained", TensorProto.FLOAT, shape)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="multifocal_jax",
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


class _Graph:
    """Nodes and constants; the methods append to them and return names of tensors."""

    def __init__(self, weights: Weights) -> None:
        self.model = weights.model
        self.params = {name: np.asarray(value, np.float32) for name, value in flatten(weights.params).items()}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._pooling: dict[tuple[int, int], str] = {}
        self._image = ""  # padded input, from which the sizes of all levels follow

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: object, dtype: type = np.int64, name: str = "") -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name

    def conv(self, name: str, x: str, stride: int = 1) -> str:
        kernel = to_torch_layout(self.params[f"{name}.kernel"])
        weight = self.constant(kernel, np.float32, f"{name}.weight")
        bias = self.constant(self.params[f"{name}.bias"], np.float32, f"{name}.bias")
        pad = kernel.shape[-1] // 2
        return self.node("Conv", x, weight, bias, strides=[stride] * 2, pads=[pad] * 4)

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def pixel_shuffle(self, x: str) -> str:
        return self.node("DepthToSpace", x, blocksize=2, mode="CRD")

    def network(self, rainy: str) -> str:
        model, levels = self.model, range(self.model.levels)
        # Padded by reflection at the bottom and the right to a multiple.
        size = self.node("Shape", rainy, start=2, end=4)
        # The sign of ONNX's Mod is the divisor's.
        missing = self.node("Mod", self.node("Neg", size), self.constant([model.multiple]))
        pads = self.node("Concat", self.constant([0] * 6), missing, axis=0)
        image = self._image = self.node("Pad", rainy, pads, mode="reflect")
        images = [image]
        for level in levels[1:]:
            images.append(self.reduce(level, images[-1]))
        features = [self.conv(f"entrance.shallow_{level}", images[level]) for level in levels]
        features = entrance = self.interaction("entrance.spatial", "spatial", features, 0)
        for index in range(model.modules):
            features = self.module(f"module_{index}", features)
        if model.global_skip:
            features = [self.node("Add", x, y) for x, y in zip(features, entrance, strict=True)]
        large = [self.upsample(x, 2**level) for level, x in enumerate(features)]
        merged = self.relu(self.conv("fusion.merge", self.node("Concat", *large, axis=1)))
        clean = self.node("Sub", image, self.conv("fusion.residual", merged))
        clean = self.node("Clip", clean, self.constant(0, np.float32), self.constant(1, np.float32))
        return self.node("Slice", clean, self.constant([0, 0]), size, self.constant([2, 3]))

    def module(self, name: str, features: Sequence[str]) -> list[str]:
        for block in range(self.model.residual_blocks):
            inner = [self.relu(self.conv(f"{name}.residual_{block}a_{i}", x)) for i, x in enumerate(features)]
            outer = [self.conv(f"{name}.residual_{block}b_{i}", x) for i, x in enumerate(inner)]
            features = [self.node("Add", x, y) for x, y in zip(features, outer, strict=True)]
        down = [self.relu(self.conv(f"{name}.down_{i}", x, stride=2)) for i, x in enumerate(features)]
        mixed = self.interaction(f"{name}.channel", "channel", down, 1)
        up = [self.relu(self.pixel_shuffle(self.conv(f"{name}.up_{i}", x))) for i, x in enumerate(mixed)]
        features = [self.node("Add", x, y) for x, y in zip(features, up, strict=True)]
        return self.interaction(f"{name}.spatial", "spatial", features, 0)

    def interaction(self, name: str, kind: str, features: Sequence[str], halvings: int) -> list[str]:
        """`halvings` says how often the first of `features` was halved from the picture."""
        mode = self.model.interaction
        if mode in ("spatial", "channel") and mode != kind:
            return list(features)
        bottom = len(features) - 1
        results = []
        for level, large in enumerate(features):
            other = level if mode == "single_scale" else min(level + 1, bottom)
            block = f"{name}.level_{level}"
            if mode == "convolution":
                raised = self.upsample(features[other], 2 ** (other - level))
                update = self.relu(self.conv(f"{block}.conv", self.node("Concat", large, raised, axis=1)))
            elif kind == "spatial":
                update = self.spatial(block, large, features[other], halvings + other)
            else:
                update = self.channel(block, large, features[other], halvings + level, halvings + other)
            results.append(self.node("Add", large, update))
        return results

    def spatial(self, name: str, large: str, small: str, halvings: int) -> str:
        query = self.heads(self.recalibrate(self.conv(f"{name}.query", large)), 4)
        key, value = (
            self.heads(self.pool(self.recalibrate(self.conv(f"{name}.{role}", small)), halvings), 4)
            for role in ("key", "value")
        )
        maps = self.node("Softmax", self.node("MatMul", self.transposed(query), key), axis=-1)
        update = self.transposed(self.node("MatMul", maps, self.transposed(value)))
        return self.like(update, large)

    def channel(self, name: str, large: str, small: str, large_halvings: int, small_halvings: int) -> str:
        heads = self.model.heads
        query = self.heads(self.pool(self.conv(f"{name}.query", large), large_halvings), heads)
        key = self.heads(self.pool(self.conv(f"{name}.key", small), small_halvings), heads)
        value = self.conv(f"{name}.value", large) if self.model.value_projection else large
        logits = self.node("MatMul", key, self.transposed(query))
        # Softmax is fast over the last axis, so the map is computed in the orientation in which it is used.
        if self.model.channel_softmax == "key":
            maps = self.node("Softmax", self.transposed(logits), axis=-1)
        else:
            maps = self.transposed(self.node("Softmax", logits, axis=-1))
        return self.like(self.node("MatMul", maps, self.heads(value, heads)), large)

    def heads(self, x: str, count: int) -> str:
        """(B, C, …) → (B, count, C / count, …flattened)."""
        return self.node("Reshape", x, self.constant([0, count, self.model.channels // count, -1]))

    def transposed(self, x: str) -> str:
        return self.node("Transpose", x, perm=[0, 1, 3, 2])

    def like(self, x: str, other: str) -> str:
        return self.node("Reshape", x, self.node("Shape", other))

    def recalibrate(self, x: str) -> str:
        """FRCB: the Haar transform as a grouped convolution, channels regrouped by band, pixel shuffle."""
        width = self.model.channels
        if not any(constant.name == "haar" for constant in self.constants):
            # Rows LL, LH, HL, HH; columns top left, top right, bottom left, bottom right.
            bands = np.array([[1, 1, 1, 1], [-1, -1, 1, 1], [-1, 1, -1, 1], [1, -1, -1, 1]]) / 2
            self.constant(np.tile(bands.reshape(4, 1, 2, 2), (width, 1, 1, 1)), np.float32, "haar")
            self.constant(np.arange(4 * width).reshape(width, 4).T.reshape(-1), name="haar_order")
        bands = self.node("Conv", x, "haar", strides=[2, 2], group=width)
        return self.pixel_shuffle(self.node("Gather", bands, "haar_order", axis=1))

    def pool(self, x: str, halvings: int) -> str:
        """SPP: (B, C, H, W) → (B, C, S); all grids by two matrix products, then the blocks on the diagonal."""
        sizes = self.model.spp_sizes
        rows, columns = self.pooling_matrix(2, halvings), self.pooling_matrix(3, halvings)
        grids = self.node("MatMul", self.node("MatMul", rows, x), self.node("Transpose", columns, perm=[1, 0]))
        flat = self.node("Reshape", grids, self.constant([0, 0, -1]))
        starts, total = np.cumsum([0, *sizes]), sum(sizes)
        wanted = [
            (a + i) * total + a + j for a, n in zip(starts, sizes, strict=False) for i in range(n) for j in range(n)
        ]
        return self.node("Gather", flat, self.constant(wanted), axis=2)

    def pooling_matrix(self, axis: int, halvings: int) -> str:
        """(sum of grid sizes, length): adaptive averaging of one axis to every grid size."""
        if (axis, halvings) not in self._pooling:
            bins = np.concatenate([np.full(size, size) for size in self.model.spp_sizes])[:, None]
            index = np.concatenate([np.arange(size) for size in self.model.spp_sizes])[:, None]
            length = self.node("Shape", self._image, start=axis, end=axis + 1)
            length = self.node("Div", length, self.constant([2**halvings]))
            count = self.constant(bins)
            start = self.node("Div", self.node("Mul", length, self.constant(index)), count)
            ceiling = self.node("Add", self.node("Mul", length, self.constant(index + 1)), self.constant(bins - 1))
            stop = self.node("Div", ceiling, count)
            scalar = self.node("Squeeze", length, self.constant([0]))
            position = self.node("Range", self.constant(0), scalar, self.constant(1))
            after = self.node("GreaterOrEqual", position, start)
            inside = self.node("Cast", self.node("And", after, self.node("Less", position, stop)), to=TensorProto.FLOAT)
            many = self.node("Cast", self.node("Sub", stop, start), to=TensorProto.FLOAT)
            self._pooling[axis, halvings] = self.node("Div", inside, many)
        return self._pooling[axis, halvings]

    def reduce(self, level: int, x: str) -> str:
        """One step of the pyramid."""
        if self.model.pyramid == "learned":
            return self.conv(f"entrance.pyramid.reduce_{level}", x, stride=2)
        if self.model.pyramid == "average":
            return self.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        taps = np.exp(-(np.arange(-2, 3) ** 2) / 2)
        kernel = np.broadcast_to(np.outer(taps, taps) / taps.sum() ** 2, (3, 1, 5, 5))
        weight = self.constant(kernel, np.float32)
        return self.node("Conv", x, weight, strides=[2, 2], pads=[2] * 4, group=3)

    def upsample(self, x: str, factor: int) -> str:
        if factor == 1:
            return x
        scales = self.constant([1, 1, factor, factor], np.float32)
        return self.node("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
