"""A linear support vector machine with the squared hinge loss, each class against all others.

Its objective is that of scikit-learn's LinearSVC, which cannot be used: it copies float32 features
to sparse float64 rows of six times their size.
"""

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

ITERATIONS = 100  # of L-BFGS, at most; about 20 are needed
TOLERANCE = 1e-5  # L-BFGS ends when a step lowers the objective by a smaller fraction


def gram(features: np.ndarray) -> np.ndarray:
    """Returns XᵀX of features X: float32 [N, D] → [D, D]."""
    return features.T @ features


def objective(
    weights: np.ndarray, features: np.ndarray, signs: np.ndarray, cost: float
) -> tuple[float, np.ndarray]:
    """Returns ½‖W‖² + cost ÷ N · Σ max(0, 1 − sign · score)² and its gradient, score = X W.

    Args:
      weights: W, float32 [D, classes].
      features: X, float32 [N, D]. The last feature is 1 for every image: its weight is the bias,
        which is regularised as in LinearSVC.
      signs: float32 [N, classes], 1 for the class of the image, −1 for the others.
      cost: of the squared hinge loss.

    Returns:
      The objective, and its gradient by W, float32 [D, classes].
    """
    slack = np.maximum(1 - signs * (features @ weights), 0)
    share = cost / len(features)
    loss = 0.5 * np.sum(weights**2, dtype=np.float64) + share * np.sum(slack**2, dtype=np.float64)
    return float(loss), weights - features.T @ (2 * share * signs * slack)


def fit(
    features: np.ndarray, labels: np.ndarray, products: np.ndarray, cost: float, start: np.ndarray
) -> np.ndarray:
    """Returns the weights W that minimise the objective: float32 [D, classes].

    L-BFGS searches over V = Rᵀ W with R Rᵀ = I + cost ÷ N · XᵀX. That is the objective's Hessian if
    half of the images violate the margin. In V the curvature is about the same in all directions,
    and 20 iterations do what takes a thousand in W.

    Args:
      features: X, float32 [N, D].
      labels: int [N].
      products: gram(features).
      cost: of the squared hinge loss.
      start: float32 [D, classes], weights that the search starts from.
    """
    root = _cholesky(products, cost / len(features))
    signs = np.where(np.arange(start.shape[1]) == labels[:, None], 1, -1).astype(np.float32)

    def weights_of(flat: np.ndarray) -> np.ndarray:
        # SciPy's L-BFGS works in float64; the large products stay in float32.
        v = flat.reshape(start.shape).astype(np.float32)
        return solve_triangular(root, v, lower=True, trans="T", check_finite=False)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = objective(weights_of(flat), features, signs, cost)
        gradient = solve_triangular(root, gradient, lower=True, check_finite=False)
        return loss, gradient.ravel().astype(np.float64)

    options = {"maxiter": ITERATIONS, "ftol": TOLERANCE}
    found = minimize(value, (root.T @ start).ravel(), jac=True, method="L-BFGS-B", options=options)
    return weights_of(found.x)


def _cholesky(products: np.ndarray, share: float) -> np.ndarray:
    """Returns the lower triangle R, R Rᵀ = I + share · products."""
    matrix = products * np.float32(share)
    matrix[np.diag_indices_from(matrix)] += 1
    # The transpose of a symmetric matrix is laid out as LAPACK wants it: no copy is made.
    return cholesky(matrix.T, lower=True, overwrite_a=True, check_finite=False)
