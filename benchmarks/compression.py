"""GPTQ of one matrix: by llmcompressor, as the study does it, by auto-gptq, and by gptqmodel where that is installed.

From the calibration inputs to the quantised weights: the Hessian is summed batch by batch, then the columns are rounded one after the other.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from compressed_tensors.quantization.utils import calculate_qparams
from llmcompressor.modifiers.gptq.base import accumulate_hessian, make_empty_hessian
from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
from torch import Tensor, nn

from benchmarks import measure
from benchmarks.measure import Benchmark
from ctp_lib.compression import auto_gptq_solver
from ctp_lib.compression.grid import asymmetric

BITS, DAMPENING, BLOCK = 3, 0.01, 128


@dataclass(frozen=True)
class Layer:
    """A square matrix of ``width`` and ``batches`` calibration batches of ``tokens`` correlated inputs each."""

    width: int
    batches: int
    tokens: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def model(self) -> nn.Linear:
        """The matrix, the same each time."""
        torch.manual_seed(0)
        return nn.Linear(self.width, self.width, bias=False, device=self.device, dtype=self.dtype).requires_grad_(False)

    def inputs(self) -> list[Tensor]:
        """Calibration inputs, 1 x tokens x width; neighbouring features are alike, as those of a model are."""
        draw = torch.Generator().manual_seed(1)
        noise = [torch.randn(1, self.tokens, self.width, generator=draw) for _ in range(self.batches)]
        return [(batch + batch.roll(1, -1) + batch.roll(2, -1)).to(self.device, self.dtype) for batch in noise]


def llmcompressor(layer: nn.Linear, shape: Layer) -> Callable[[], Tensor]:
    """The functions behind the study's GPTQModifier."""
    dense, inputs = layer.weight.detach().clone(), shape.inputs()
    grid = asymmetric(BITS).model_copy(update={"actorder": "static"})

    def quantise() -> Tensor:
        hessian, samples = make_empty_hessian(layer), torch.zeros(())
        for batch in inputs:
            hessian, samples = accumulate_hessian(batch, layer, hessian, samples)
        scale, zero_point = calculate_qparams(dense.amin(1, keepdim=True), dense.amax(1, keepdim=True), grid)
        return quantize_weight(
            dense.float()[None].clone(), (hessian / samples)[None], scale[None], zero_point[None], None, grid, BLOCK, DAMPENING
        )[0][0]

    return quantise


def auto_gptq(layer: nn.Linear, shape: Layer) -> Callable[[], Tensor]:
    """auto-gptq's solver, the study's second backend."""
    dense, inputs = layer.weight.detach().clone(), shape.inputs()

    @torch.no_grad()
    def quantise() -> Tensor:
        layer.weight.copy_(dense)
        solver = auto_gptq_solver._solver().GPTQ(layer)
        solver.quantizer.configure(BITS, perchannel=True, sym=False, mse=False)
        for batch in inputs:
            solver.add_batch(batch, None)
        with auto_gptq_solver._without_cuda_synchronisation():
            solver.fasterquant(blocksize=BLOCK, percdamp=DAMPENING, actorder=True)
        return layer.weight.detach().clone()

    return quantise


def gptqmodel(layer: nn.Linear, shape: Layer) -> Callable[[], Tensor]:
    """gptqmodel's solver, set as the paper's is."""
    from gptqmodel.quantization import GPTQ, QuantizeConfig

    dense, inputs = layer.weight.detach().clone(), shape.inputs()

    @torch.no_grad()
    def quantise() -> Tensor:
        layer.weight.copy_(dense)
        settings = QuantizeConfig(
            bits=BITS, group_size=-1, sym=False, desc_act=True, act_group_aware=False, damp_percent=DAMPENING, mse=0.0
        )
        solver = GPTQ(layer, settings)
        solver.quantizer.configure(perchannel=True)
        for batch in inputs:
            solver.add_batch(batch, None)
        return solver.quantize(blocksize=BLOCK)[0]

    return quantise


def flops(layer: nn.Linear, shape: Layer) -> float:
    """Of the Hessian (2 d^2 a token), two Cholesky factors and an inverse (4/3 d^3), and the errors passed on (d^3)."""
    return shape.width**2 * (2 * shape.batches * shape.tokens + 7 / 3 * shape.width)


SIDES = {"llmcompressor (ours)": llmcompressor, "auto-gptq": auto_gptq}
if importlib.util.find_spec("gptqmodel"):
    SIDES["gptqmodel"] = gptqmodel

BENCHMARK = Benchmark(
    name="compression",
    title="GPTQ of one matrix at 3 bits",
    sides=SIDES,
    flops=flops,
    tokens=lambda shape: shape.batches * shape.tokens,
    goals=dict.fromkeys(list(SIDES)[1:], 1 / 1.1),
    shapes=("4096 x 4096",),
    catalogue={"toy": Layer(32, 2, 100), "4096 x 4096": Layer(4096, 8, 1024)},
)

if __name__ == "__main__":
    measure.main(BENCHMARK)
