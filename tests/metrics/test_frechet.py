import numpy as np
import pytest
import scipy.linalg

from pcm_jax.metrics import Moments, frechet_distance, kernel_distance


def sets(dimensions, count, seed=0):
    random = np.random.default_rng(seed)
    mix = random.standard_normal((dimensions, dimensions)) / np.sqrt(dimensions)
    a = random.standard_normal((count, dimensions)) @ mix
    b = 1.3 * random.standard_normal((count, dimensions)) @ mix + 0.2
    return a, b


@pytest.mark.parametrize(("dimensions", "count"), [(3, 500), (40, 400)])
def test_frechet_distance_is_pytorch_fids(dimensions, count):
    """Its formula: scipy's square root of the product of the covariances."""
    a, b = sets(dimensions, count)
    found = frechet_distance(Moments.of(a), Moments.of(b))
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    apart = a.mean(0) - b.mean(0)
    wanted = apart @ apart + np.trace(s) + np.trace(t) - 2 * np.trace(scipy.linalg.sqrtm(s @ t).real)
    assert found == pytest.approx(wanted, rel=1e-6)


def test_fewer_samples_than_dimensions():
    """The nuclear norm of A^T B gives the same trace from the centred samples themselves."""
    a, b = sets(60, 20)
    found = frechet_distance(Moments.of(a), Moments.of(b))
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    cross = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    apart = a.mean(0) - b.mean(0)
    wanted = apart @ apart + sum(np.sum(x**2) for x in centred) - 2 * cross
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.fast
def test_known_distances():
    a, b = sets(5, 100)
    same = Moments.of(a)
    assert frechet_distance(same, same) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(same, Moments.of(a + 2.0)) == pytest.approx(4.0 * 5)
    assert frechet_distance(same, Moments.of(b)) == pytest.approx(frechet_distance(Moments.of(b), same), rel=1e-9)


def test_batches_add_up():
    a, _ = sets(7, 101)
    # Far from zero, where sums of squares would cancel.
    a = a + 1e6
    streamed = Moments.empty(7)
    for part in np.array_split(a, 9):
        streamed = streamed.with_batch(part)
    assert streamed.count == 101
    np.testing.assert_allclose(streamed.mean, a.mean(0), rtol=1e-12)
    np.testing.assert_allclose(streamed.covariance, np.cov(a, rowvar=False), rtol=1e-6, atol=1e-8)


def test_kernel_distance_is_the_plain_double_sum():
    a, b = sets(4, 12)
    kernel = lambda x, y: (x @ y / 4 + 1) ** 3  # noqa: E731
    own = [sum(kernel(x[i], x[j]) for i in range(12) for j in range(12) if i != j) / (12 * 11) for x in (a, b)]
    cross = sum(kernel(x, y) for x in a for y in b) / 144
    mean, spread = kernel_distance(a, b, subsets=2)
    assert mean == pytest.approx(own[0] + own[1] - 2 * cross, rel=1e-9) and spread == pytest.approx(0, abs=1e-9)
    small = kernel_distance(a, b, subsets=5, subset_size=6, seed=1)
    assert small == kernel_distance(a, b, subsets=5, subset_size=6, seed=1) and small[1] > 0
    one, other = sets(4, 400)
    assert abs(kernel_distance(one, one[::-1], subsets=20, subset_size=200)[0]) < 0.2 * kernel_distance(one, other)[0]


def test_bad_features():
    a, b = sets(4, 10)
    with pytest.raises(ValueError, match="at least 2 samples, there are 1"):
        frechet_distance(Moments.of(a[:1]), Moments.of(b))
    with pytest.raises(ValueError, match="NaN or inf"):
        Moments.of(np.where(a > 1, np.nan, a))
    with pytest.raises(ValueError, match="NaN or inf"):
        kernel_distance(a, np.full_like(b, np.inf))
    with pytest.raises(ValueError, match=r"features must be \[N, D\]"):
        Moments.of(np.zeros((2, 3, 4)))
    for call in (
        lambda: Moments.of(a).with_batch(b[:, :3]),
        lambda: frechet_distance(Moments.of(a), Moments.of(b[:, :3])),
    ):
        with pytest.raises(ValueError, match="of 4 and of 3 dimensions"):
            call()
    with pytest.raises(ValueError, match=r"\(10, 4\) and \(10, 3\)"):
        kernel_distance(a, b[:, :3])
    with pytest.raises(ValueError, match="at least 2 samples of each"):
        kernel_distance(a[:1], b)
