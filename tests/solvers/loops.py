"""The methods as their papers write them, loops over NumPy states: what the tables are compared with.

Every loop takes marginals alpha, sigma `[T + 1]`, the network's noise prediction eps(x, row) and the first state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy.integrate import quad

Eps = Callable[[np.ndarray, int], np.ndarray]


def _snr(alpha, sigma):
    with np.errstate(divide="ignore"):
        return np.log(alpha / sigma)


def dpm_solver(alpha, sigma, eps: Eps, x, *, order=2, kind="midpoint", data=True, sde=False, z=None, lower=False):
    """arXiv 2211.01095 algorithm 2, equation 18 (SDE-DPM-Solver++ 2M); arXiv 2206.00927 for the noise prediction.

    D1 and D2 are as in the authors' code.
    """
    snr, steps, said = _snr(alpha, sigma), len(alpha) - 1, []
    for i in range(steps):
        h = snr[i + 1] - snr[i]
        noise = eps(x, i)
        said.append((x - sigma[i] * noise) / alpha[i] if data else noise)
        p = min(order, i + 1)
        if i == steps - 1 and (lower or sigma[-1] == 0):
            p = 1
        if lower and i == steps - 2:
            p = min(p, 2)
        d0 = said[-1]
        d1 = d2 = 0.0 * d0
        if p > 1:
            r0 = (snr[i] - snr[i - 1]) / h
            d1 = (said[-1] - said[-2]) / r0
        if p > 2:
            r1 = (snr[i - 1] - snr[i - 2]) / h
            older = (said[-2] - said[-3]) / r1
            d1, d2 = d1 + r0 / (r0 + r1) * (d1 - older), (d1 - older) / (r0 + r1)
        g = 2 * h if sde else h
        if data:
            q = -np.expm1(-g)
            linear = 1 - q / g if np.isfinite(g) else 1.0
            half = 0.5 * q if p == 2 and kind == "midpoint" else linear
            curve = 0.5 - linear / g if p > 2 else 0.0
            x = sigma[i + 1] / sigma[i] * (np.exp(-h) if sde else 1.0) * x + alpha[i + 1] * (
                q * d0 + half * d1 + curve * d2
            )
            amount = sigma[i + 1] * np.sqrt(-np.expm1(-2 * h))
        else:
            q = np.expm1(h)
            linear = q / h - 1
            half = 0.5 * q if p == 2 and kind == "midpoint" else linear
            curve = linear / h - 0.5 if p > 2 else 0.0
            factor = 2.0 if sde else 1.0
            x = alpha[i + 1] / alpha[i] * x - factor * sigma[i + 1] * (q * d0 + half * d1 + curve * d2)
            amount = sigma[i + 1] * np.sqrt(np.expm1(2 * h))
        if sde:
            x = x + amount * z[i]
    return x


def unipc(alpha, sigma, eps: Eps, x, *, order=2, kind="bh2", data=True, lower=True):
    """arXiv 2302.04867, algorithms 5 and 6: the corrected state is kept, predictions are made at the predicted one."""
    snr, steps, said = _snr(alpha, sigma), len(alpha) - 1, []

    def phi(k, z):
        return (
            quad(lambda t: math.exp((1 - t) * z) * t ** (k - 1) / math.factorial(k - 1), 0, 1)[0] if k else math.exp(z)
        )

    def update(start, i, p, last):
        """From the corrected state of i; last: the prediction at i + 1, for the corrector."""
        h = snr[i + 1] - snr[i]
        z = -h if data else h
        ratio, scale = (sigma[i + 1] / sigma[i], alpha[i + 1]) if data else (alpha[i + 1] / alpha[i], sigma[i + 1])
        base = ratio * start - scale * np.expm1(z) * said[i]
        b = z if kind == "bh1" else np.expm1(z)
        r = [(snr[i - m] - snr[i]) / h for m in range(1, p)]
        differences = [said[i - m] - said[i] for m in range(1, p)]
        if last is not None:
            r, differences = [*r, 1.0], [*differences, last - said[i]]
        if not r:
            return base
        # sum_m rho_m r_m^{n - 1} = n! z phi_{n + 1}(z) / B; one point alone takes 1/2.
        rho = [0.5]
        if len(r) > 1:
            rows = range(1, len(r) + 1)
            wanted = [math.factorial(n) * z * phi(n + 1, z) / b for n in rows]
            rho = np.linalg.solve([[point ** (n - 1) for point in r] for n in rows], wanted)
        return base - scale * b * sum(w / point * d for w, point, d in zip(rho, r, differences, strict=True))

    predicted, corrected, before = x, x, 0
    for i in range(steps):
        noise = eps(predicted, i)
        now = (predicted - sigma[i] * noise) / alpha[i] if data else noise
        if i:
            corrected = update(corrected, i - 1, before, now)
        said.append(now)
        before = min(order, i + 1, steps - i if lower else order)
        predicted = update(corrected, i, before, None)
    return predicted


def adams(alpha, sigma, eps: Eps, x, *, order, logarithm):
    """LMS (k-diffusion) and DEIS's log-rho (arXiv 2204.13902, equation 15): integrals of Lagrange polynomials."""
    s, said = sigma / alpha, []
    v = np.log if logarithm else (lambda t: t)
    for i in range(len(alpha) - 1):
        said.append(eps(x, i))
        p = min(order, i + 1)
        y = x / alpha[i]
        for j in range(p):

            def lagrange(t, i=i, j=j, p=p):
                others = [k for k in range(p) if k != j]
                return math.prod((v(t) - v(s[i - k])) / (v(s[i - j]) - v(s[i - k])) for k in others)

            y = y + quad(lagrange, s[i], s[i + 1], epsabs=1e-13, epsrel=1e-12)[0] * said[i - j]
        x = alpha[i + 1] * y
    return x


def pndm(level, times, eps_at, x, *, prk):
    """arXiv 2202.09778, algorithm 2. level(t), eps_at(x, t); times with the last state's None behind them."""

    def phi(x, e, t, end):
        (a, s), (b, r) = level(t), level(end)
        return b / a * x + (r - b / a * s) * e

    said, start = [], 0
    if prk:
        for t, end in itertools.pairwise(times[:4]):
            middle = (t + end) / 2
            e1 = eps_at(x, t)
            e2 = eps_at(phi(x, e1, t, middle), middle)
            e3 = eps_at(phi(x, e2, t, middle), middle)
            e4 = eps_at(phi(x, e3, t, end), end)
            said.append(e1)
            x = phi(x, (e1 + 2 * e2 + 2 * e3 + e4) / 6, t, end)
        start = 3
    else:
        e1 = eps_at(x, times[0])
        x = phi(x, (e1 + eps_at(phi(x, e1, times[0], times[1]), times[1])) / 2, times[0], times[1])
        said.append(e1)
        start = 1
    for t, end in itertools.pairwise(times[start:]):
        said.append(eps_at(x, t))
        e = said[::-1]
        if len(e) == 2:
            mean = (3 * e[0] - e[1]) / 2
        elif len(e) == 3:
            mean = (23 * e[0] - 16 * e[1] + 5 * e[2]) / 12
        else:
            mean = (55 * e[0] - 59 * e[1] + 37 * e[2] - 9 * e[3]) / 24
        x = phi(x, mean, t, end)
    return x


def dpm2(s, denoise, y, *, z=None):
    """`sample_dpm_2` and, with noise `[T]`, `sample_dpm_2_ancestral` of k-diffusion; denoise(y, s)."""
    for i in range(len(s) - 1):
        up = 0.0 if z is None else s[i + 1] * np.sqrt(1 - (s[i + 1] / s[i]) ** 2)
        down = np.sqrt(s[i + 1] ** 2 - up**2)
        d = (y - denoise(y, s[i])) / s[i]
        if down == 0:
            y = y + d * (down - s[i])
            continue
        middle = np.exp((np.log(s[i]) + np.log(down)) / 2)
        between = y + d * (middle - s[i])
        y = y + (between - denoise(between, middle)) / middle * (down - s[i])
        if z is not None:
            y = y + up * z[i]
    return y


def edm(s, denoise, x, z, *, heun, gamma, s_noise, step_scale=1.0):
    """arXiv 2206.00364, algorithm 2; with a step scale AlphaFold 3's algorithm 18. x is not yet raised."""
    for i in range(len(s) - 1):
        t = s[i] * (1 + gamma[i])
        x = x + s_noise * np.sqrt(t**2 - s[i] ** 2) * z[i]
        d = (x - denoise(x, t)) / t
        following = x + step_scale * (s[i + 1] - t) * d
        if heun and s[i + 1] > 0:
            following = x + (s[i + 1] - t) / 2 * (d + (following - denoise(following, s[i + 1])) / s[i + 1])
        x = following
    return x
