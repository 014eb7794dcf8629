"""feedback_scan as an op: torch.library's checks, torch.compile, second derivatives, imports and error messages."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssrnn_kernels import feedback_scan
from ssrnn_kernels.feedback_scan.compiled import scan_kernel_for

HAS_A_COMPILER = scan_kernel_for(torch.zeros(1)) is not None
KERNELS = Path(__file__).resolve().parents[2] / "kernels"


def make_arguments(coupled: bool, varies: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = (2,) if coupled else ()
    b, t, d = 2, 5, 3

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    error = normal(t, b, *states, d).transpose(0, 1).requires_grad_()
    decay = (normal(*((b, t) if varies else ()), *states, *states, d) * 0.5).requires_grad_()
    reset = torch.zeros(b, t, dtype=torch.bool)
    reset[0, 2] = reset[1, 4] = True
    return error, decay, reset, normal(b, *states, d).requires_grad_()


@pytest.mark.parametrize(
    ("backend", "coupled", "varies"),
    [
        ("torch", False, False),
        ("torch", False, True),
        ("torch", True, False),
        ("torch", True, True),
        ("auto", False, True),
        ("reference", True, True),
    ],
)
def test_opcheck(backend: str, coupled: bool, varies: bool) -> None:
    error, decay, reset, delta_next = make_arguments(coupled, varies)
    torch.library.opcheck(torch.ops.ssrnn.feedback_scan.default, (error, decay, reset, delta_next, backend))


def test_opcheck_without_options() -> None:
    error, decay, _, _ = make_arguments(coupled=False, varies=False)
    torch.library.opcheck(torch.ops.ssrnn.feedback_scan.default, (error, decay, None, None, "torch"))


@pytest.mark.parametrize(
    ("backend", "compiler", "coupled"),
    [
        ("torch", "inductor", True),
        ("torch", "aot_eager", False),
        ("auto", "aot_eager", True),
        ("reference", "aot_eager", False),
    ],
)
def test_compiles_into_one_graph_forward_and_backward(backend: str, compiler: str, coupled: bool) -> None:
    arguments = make_arguments(coupled, varies=True)

    def loss(error: Tensor, decay: Tensor, reset: Tensor, delta_next: Tensor) -> Tensor:
        return feedback_scan(error * 2, decay, reset, delta_next, backend=backend).square().sum()

    leaves = (arguments[0], arguments[1], arguments[3])
    eager = torch.autograd.grad(loss(*arguments), leaves)
    compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend=compiler)(*arguments), leaves)
    for one, other in zip(compiled, eager, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("varies", [False, True])
def test_first_and_second_derivatives(coupled: bool, varies: bool) -> None:
    error, decay, reset, delta_next = make_arguments(coupled, varies)

    def scan(error: Tensor, decay: Tensor, delta_next: Tensor) -> Tensor:
        return feedback_scan(error, decay, reset, delta_next)

    assert torch.autograd.gradcheck(scan, (error, decay, delta_next))
    assert torch.autograd.gradgradcheck(scan, (error, decay, delta_next))


def test_gradients_have_the_dtypes_of_their_inputs() -> None:
    error = torch.randn(2, 4, 3, dtype=torch.bfloat16, requires_grad=True)
    decay = torch.rand(3, requires_grad=True)
    delta_next = torch.randn(2, 3, dtype=torch.float16, requires_grad=True)
    feedback_scan(error, decay, None, delta_next).float().sum().backward()
    assert [tensor.grad.dtype for tensor in (error, decay, delta_next) if tensor.grad is not None] == [
        torch.bfloat16,
        torch.float32,
        torch.float16,
    ]


def test_auto_on_the_cpu_is_the_compiled_kernel_where_all_is_float32() -> None:
    error, decay, reset, delta_next = make_arguments(coupled=True, varies=True)
    for name, given in {
        "torch": (error.float(), decay, reset, delta_next),
        "compiled": (error.float(), decay.float(), reset, delta_next.float()),
    }.items():
        if name == "torch" or HAS_A_COMPILER:
            assert torch.equal(feedback_scan(*given), feedback_scan(*given, backend=name))
    with pytest.raises(ValueError, match="backend: 'compiled', but the CPU's kernel takes float32 on a CPU"):
        feedback_scan(error, decay, reset, delta_next, backend="compiled")


def test_importing_a_part_first_leaves_the_op_in_its_place_and_triton_alone() -> None:
    program = (
        "import sys, torch, ssrnn_kernels.feedback_scan.reference\n"
        "from ssrnn_kernels import feedback_scan\n"
        "feedback_scan(torch.zeros(1, 2, 3), torch.zeros(3))\n"
        "assert 'ssrnn_kernels.feedback_scan.triton' not in sys.modules\n"
    )
    environment = {"PYTHONPATH": str(KERNELS), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


E_BTD, E_BT2D = torch.zeros(2, 4, 3), torch.zeros(2, 4, 2, 3)
D_D = torch.zeros(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((E_BTD[0], D_D), r"error: shape \(4, 3\); allowed: \(B, T, D\), or \(B, T, 2, D\)"),
        ((torch.zeros(2, 4, 5, 3), D_D), r"error: shape \(2, 4, 5, 3\); allowed"),
        ((E_BTD.long(), D_D), r"error: dtype torch.int64; allowed: torch.float32, torch.bfloat16"),
        ((E_BTD.to(torch.complex64), D_D), r"error: dtype torch.complex64"),
        ((E_BTD, torch.zeros(4)), r"decay: shape \(4,\); allowed with this error: \(3,\) or \(2, 4, 3\)"),
        ((E_BTD, torch.zeros(4, 2, 3)), r"decay: shape \(4, 2, 3\); allowed with this error: \(3,\) or \(2, 4, 3\)"),
        ((E_BT2D, D_D), r"decay: shape \(3,\); allowed with this error: \(2, 2, 3\) or \(2, 4, 2, 2, 3\)"),
        ((E_BTD, D_D.int()), r"decay: dtype torch.int32"),
        ((E_BTD, torch.zeros(3, device="meta")), r"decay: on meta; allowed: the device of error, cpu"),
        ((E_BTD, D_D, torch.zeros(2, 4)), r"reset: dtype torch.float32; allowed: torch.bool"),
        ((E_BTD, D_D, torch.zeros(4, 2, dtype=torch.bool)), r"reset: shape \(4, 2\); allowed.*\(2, 4\)"),
        ((E_BTD, D_D, None, torch.zeros(2, 2, 3)), r"delta_next: shape \(2, 2, 3\); allowed.*\(2, 3\)"),
        ((E_BT2D, torch.zeros(2, 2, 3), None, torch.zeros(2, 3)), r"delta_next: shape \(2, 3\); allowed.*\(2, 2, 3\)"),
        ((E_BTD, D_D, None, torch.zeros(2, 3).bool()), r"delta_next: dtype torch.bool"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        feedback_scan(*arguments)


def test_wrong_backends_are_named() -> None:
    with pytest.raises(ValueError, match=r"backend: 'cuda'; allowed: auto, reference, torch, compiled, triton"):
        feedback_scan(E_BTD, D_D, backend="cuda")
