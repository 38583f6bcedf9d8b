from __future__ import annotations

import pytest
import torch

from agents.objectives import WeightedLikelihood
from agents.objectives.weights import linear_weights, rank_weights, rejection_weights


def weights(rewards, **fields):
    return WeightedLikelihood(**fields).advantages(torch.tensor([rewards], dtype=torch.float64))[0].tolist()


@pytest.mark.parametrize(
    ("fields", "rewards", "expected"),
    [
        ({}, [1, 0, 0, 1], [0.5, 0, 0, 0.5]),
        ({}, [3, 1, 0, 0], [0.75, 0.25, 0, 0]),
        ({}, [1, -5, 1, -1], [0.5, 0, 0.5, 0]),  # negative rewards count as 0
        ({}, [0, 0, 0, 0], [0, 0, 0, 0]),
        ({}, [-1, -2, -3, -4], [0, 0, 0, 0]),
        ({"weights": "softmax"}, [0, 0, 0, 0], [0.25] * 4),
        ({"weights": "softmax", "alpha": 0.6931471805599453}, [1, 0, 0, 0], [0.4, 0.2, 0.2, 0.2]),
        ({"weights": "softmax", "alpha": 1000.0}, [1, 0, -1e6, 0], [1, 0, 0, 0]),
        ({"weights": "rank"}, [10, 3, 2, -7], [3 / 6, 2 / 6, 1 / 6, 0]),
        ({"weights": "rank"}, [1, 0, 0, 1], [2.5 / 6, 0.5 / 6, 0.5 / 6, 2.5 / 6]),
        ({"weights": "rank"}, [5, 5, 5, 5], [0.25] * 4),
        ({"weights": "rejection"}, [1, 0, 0.5, -1], [0.5, 0, 0.5, 0]),
        ({"weights": "rejection"}, [0, 0, 0, -1], [0, 0, 0, 0]),
        ({"weights": "rejection", "keep": 1}, [1, 0, 0.5, -1], [1, 0, 0, 0]),
        ({"weights": "rejection", "keep": 3}, [1, 0, 0.5, -1], [0.5, 0, 0.5, 0]),  # only two are above 0
        ({"weights": "rejection", "keep": 1}, [1, 0, 1, 0], [0.5, 0, 0.5, 0]),  # ties share the place
        ({"weights": "rejection", "keep": 2}, [3, 1, 1, 0], [0.5, 0.25, 0.25, 0]),
        ({"weights": "rejection", "keep": 2, "threshold": None}, [-3, -1, -2, -4], [0, 0.5, 0.5, 0]),
    ],
)
def test_weights_by_hand(fields, rewards, expected):
    assert weights(rewards, **fields) == pytest.approx(expected, abs=1e-12)


def test_rejection_needs_something_to_reject_by():
    with pytest.raises(ValueError, match="keep or threshold"):
        WeightedLikelihood(weights="rejection", threshold=None)


@pytest.mark.parametrize("function", [linear_weights, rank_weights, lambda r: rejection_weights(r, 2, -0.5)])
def test_weights_add_up_to_one_or_zero_and_are_never_negative(function):
    rewards = torch.randint(-2, 3, (200, 5), generator=torch.Generator().manual_seed(0)).double()
    result = function(rewards)
    assert torch.isfinite(result).all()
    assert result.ge(0).all()
    total = result.sum(dim=1)
    assert (torch.isclose(total, torch.tensor(1.0).double()) | total.eq(0)).all()
    better = rewards[:, :, None] > rewards[:, None, :]
    assert (result[:, :, None] >= result[:, None, :] - 1e-12)[better].all()


def test_a_group_of_one_is_imitated():
    one = torch.tensor([[1.0]])
    assert [f(one).item() for f in (linear_weights, rank_weights)] == [1.0, 1.0]


@pytest.mark.parametrize(
    "field",
    [
        {"weights": "x"}, {"likelihood": "x"}, {"alpha": 0}, {"keep": 0}, {"clip_range": 0}, {"clip_range": 1},
        {"kl_coef": -1},
    ],
)  # fmt: skip
def test_bad_fields_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        WeightedLikelihood(**field)
