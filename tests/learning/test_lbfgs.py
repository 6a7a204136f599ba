import pytest
import torch
import torch.nn.functional as F

from regraft.learning import lbfgs as solving
from regraft.learning.lbfgs import mean_square, solve_linear


def points(count=400, columns=12, classes=4, *, spread=2.0, seed=0):
    """Features of very unequal scales around class centres, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, columns, generator=generator)
    features = centres[labels] + spread * torch.randn(count, columns, generator=generator)
    return features * torch.logspace(-1, 0.5, columns), labels


def objective(solution, features, labels):
    logits = F.linear(features, solution.weight, solution.bias).double()
    return float(
        F.cross_entropy(logits, labels) + 0.5 * solution.weight_decay * solution.weight.double().square().sum()
    )


def reference(features, labels, classes, weight_decay):
    """The optimum by torch's own L-BFGS in float64."""
    weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([weight, bias], max_iter=2000, tolerance_grad=1e-10, tolerance_change=1e-14,
                                line_search_fn="strong_wolfe")  # fmt: skip

    def value():
        descent.zero_grad()
        loss = (
            F.cross_entropy(F.linear(features.double(), weight, bias), labels)
            + 0.5 * weight_decay * weight.square().sum()
        )
        loss.backward()
        return loss

    descent.step(value)
    return value().item()


@pytest.mark.parametrize("weight_decay", [1e-4, 1e-2, 1.0])
def test_the_optimum_is_that_of_a_plain_method_in_double_precision(weight_decay):
    features, labels = points()
    (solution,) = solve_linear(features, labels, 4, [weight_decay])
    best = reference(features, labels, 4, weight_decay)
    # float32 features and weights: the objective is known to about 1e-6 of itself
    assert best * (1 - 1e-6) <= objective(solution, features, labels) <= best * (1 + 1e-4)
    assert solution.iterations < 60


def test_columns_far_from_zero_are_solved_around_their_mean():
    """As outlying channels of transformers are: float32's moments would hold the mean's square alone."""
    features, labels = points()
    features[:, ::3] += 1000
    (solution,) = solve_linear(features, labels, 4, [1e-3])
    best = reference(features - features.mean(0), labels, 4, 1e-3)
    # float32 logits of features near 1000 are known to about 1e-4
    assert objective(solution, features, labels) == pytest.approx(best, rel=1e-3)
    assert solution.iterations < 60


def test_several_strengths_side_by_side_are_each_as_alone():
    features, labels = points()
    decays = [1e-3, 1e-1, 10.0]
    together = solve_linear(features, labels, 4, decays)
    for solution, decay in zip(together, decays, strict=True):
        (alone,) = solve_linear(features, labels, 4, [decay])
        assert objective(solution, features, labels) == pytest.approx(objective(alone, features, labels), rel=1e-5)
        assert solution.weight_decay == decay
    assert together[0].loss < together[1].loss < together[2].loss


def test_a_layer_without_bias_has_none():
    features, labels = points()
    (solution,) = solve_linear(features, labels, 4, [0.1], has_bias=False)
    assert solution.bias is None
    assert solution.weight.shape == (4, 12)


def test_separable_classes_are_solved_too():
    """Without noise the weights grow until the penalty holds them."""
    features, labels = points(spread=0.05)
    (solution,) = solve_linear(features, labels, 4, [1e-4])
    assert objective(solution, features, labels) <= reference(features, labels, 4, 1e-4) * 1.001


def test_wide_features_are_solved_by_their_diagonal(monkeypatch):
    features, labels = points()
    monkeypatch.setattr(solving, "MOST_COLUMNS", 4)
    (solution,) = solve_linear(features, labels, 4, [1e-2])
    assert objective(solution, features, labels) <= reference(features, labels, 4, 1e-2) * (1 + 1e-4)


def test_features_whose_axes_cannot_be_found_are_solved_by_their_diagonal(monkeypatch):
    """LAPACK does not converge for some nearly equal features; the axes are a first guess only."""

    def fail(*_):
        raise torch.linalg.LinAlgError("The algorithm failed to converge")

    features, labels = points()
    (expected,) = solve_linear(features, labels, 4, [1e-2])
    monkeypatch.setattr(torch.linalg, "eigh", fail)
    (got,) = solve_linear(features, labels, 4, [1e-2])
    # Both are at the optimum to the precision of float32 sums.
    assert objective(got, features, labels) == pytest.approx(objective(expected, features, labels), rel=1e-5)


def test_blocks_add_up(monkeypatch):
    features, labels = points(count=1000)
    (whole,) = solve_linear(features, labels, 4, [1e-2])
    monkeypatch.setattr(solving, "BLOCK_VALUES", 256 * 12)
    (blocks,) = solve_linear(features, labels, 4, [1e-2])
    assert objective(blocks, features, labels) == pytest.approx(objective(whole, features, labels), rel=1e-5)


def test_running_out_of_iterations_is_told(monkeypatch):
    monkeypatch.setattr(solving, "MOST_ITERATIONS", 2)
    features, labels = points()
    (solution,) = solve_linear(features, labels, 4, [1e-4])
    assert solution.iterations == 2


def test_strengths_are_measured_by_the_features():
    assert mean_square(torch.full((2, 3), 2.0)) == 4.0
