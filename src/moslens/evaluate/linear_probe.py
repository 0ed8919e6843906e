"""Linear probes: how well a linear model predicts a label from frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""L2 penalties to try, strongest first; each logistic fit starts from the solution of the one before."""

_ITERATIONS = 100


@dataclass(frozen=True)
class LinearProbe:
    """A fitted linear map: ``weight`` (C x d) and ``bias`` (C) on features standardised by ``mean`` and ``std`` (d)."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor
    penalty: float

    def __call__(self, features: Tensor) -> Tensor:
        """N x d -> N x C."""
        return (features.double() - self.mean) / self.std @ self.weight.T + self.bias


def logistic_probe(
    features: Tensor, labels: Tensor, classes: int, penalties: Sequence[float] = PENALTIES
) -> list[LinearProbe]:
    """Multinomial logistic regression: argmin mean CE(W x + b, label) + penalty / 2 |W|^2, one probe for each penalty.

    features: N x d; labels: N class numbers below ``classes``. A class without an example gets a probability near 0.
    """
    mean, std, x = _standardised(features)
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    probes = []
    for penalty in penalties:
        optimiser = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

        def objective(optimiser: torch.optim.LBFGS = optimiser, penalty: float = penalty) -> Tensor:
            optimiser.zero_grad()
            loss = F.cross_entropy(x @ weight.T + bias, labels) + penalty / 2 * weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimiser.step(objective)  # type: ignore[no-untyped-call]
        probes.append(LinearProbe(weight.detach().clone(), bias.detach().clone(), mean, std, penalty))
    return probes


def ridge_probe(features: Tensor, values: Tensor, penalties: Sequence[float] = PENALTIES) -> list[LinearProbe]:
    """Ridge regression: argmin mean (w x + b - value)^2 + penalty |w|^2, one probe for each penalty.

    features: N x d; values: N. The probes have one output, N x 1.
    """
    mean, std, x = _standardised(features)
    centre = values.double().mean()
    covariance = x.T @ x / len(x)
    projected = x.T @ (values.double() - centre) / len(x)
    unit = torch.eye(x.shape[1], dtype=torch.float64)
    return [
        LinearProbe(torch.linalg.solve(covariance + penalty * unit, projected)[None], centre[None], mean, std, penalty)
        for penalty in penalties
    ]


def _standardised(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = features.double()
    mean, std = x.mean(0), x.std(0, correction=0)
    # A constant feature becomes 0; divided by its tiny deviation it would become noise of unit size.
    std = torch.where(std > 1e-6 * (1 + mean.abs()), std, torch.inf)
    return mean, std, (x - mean) / std
