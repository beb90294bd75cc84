r"""A solver is data: one row of coefficients for each network call of the sequential sampler.

    f_i     = r_i x_i + s_i clip(u_i x_i + w_i p_i),   p_i = model(m_i x_i, t_i)   (a prediction; mostly r = 0, s = 1)
    x_{i+1} = a_i x_i + b_i f_i + sum_l h_{l,i} f_{i-l} + e_i p_i + c_i z_i        (z_i standard normal, drawn once)

The sequential and the parallel samplers read the same table, so they cannot disagree. Coefficients are computed in
float64 on the host. A method with several calls per step (Heun) has one row for each call, and the state of a row is
what its call sees: what a method computes in between (a corrected state, noise added before the call) is eliminated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from pcm_jax.solvers.clip import Clip
from pcm_jax.types import Array, ArrayLike


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Solver:
    """The table; every column is `[T]`, T the number of sequential network calls.

    variance: what an ancestral (DDPM) step would inject at this step, the unit of tolerances.
    held_data, held_noise: d x_{i+1} / d x_i while the data (noise) prediction is held, slopes for linearisation.
    data_gain: d x_{i+1} / d x_0 while the row's data prediction is x_0 and those of earlier rows are held.
    alpha, sigma: the state of the row is x_i = alpha x_0 + sigma eps; None in a table that does not know.
    history: h, a column for each of `lags`: how many rows ago the prediction was made. memory: (r, s), None if f is the
    data prediction. raw: e, None if it is 0. clip: bound on |data prediction|, or a function of it that is applied to
    every row on its own. start_scale: the first state is this multiple of the sampler's noise.
    """

    time: ArrayLike
    input_scale: ArrayLike
    data_x: ArrayLike
    data_p: ArrayLike
    a: ArrayLike
    b: ArrayLike
    c: ArrayLike
    variance: ArrayLike
    held_data: ArrayLike
    held_noise: ArrayLike
    data_gain: ArrayLike
    name: str = dataclasses.field(metadata={"static": True})
    clip: Clip = dataclasses.field(default=None, metadata={"static": True})
    stochastic: bool = dataclasses.field(default=False, metadata={"static": True})
    lags: tuple[int, ...] = dataclasses.field(default=(), metadata={"static": True})
    start_scale: float = dataclasses.field(default=1.0, metadata={"static": True})
    history: tuple[ArrayLike, ...] = ()
    memory: tuple[ArrayLike, ArrayLike] | None = None
    raw: ArrayLike | None = None
    alpha: ArrayLike | None = None
    sigma: ArrayLike | None = None

    def __len__(self) -> int:
        return int(self.time.shape[0])

    @property
    def depth(self) -> int:
        """k, how many rows back a row looks."""
        return max(self.lags, default=0)

    @property
    def multistep(self) -> bool:
        """Whether a row reads what earlier rows predicted."""
        return bool(self.lags)

    def rows(self, index: ArrayLike) -> Solver:
        """The table's rows at `index` of any shape: each column becomes of that shape."""
        return jax.tree.map(lambda column: jnp.asarray(column)[index], self)

    def first(self, noise: Array) -> Array:
        """The first state, from noise of variance 1."""
        return noise if self.start_scale == 1.0 else self.start_scale * noise

    def network_input(self, x: Array) -> Array:
        """m x."""
        return _expand(self.input_scale, x) * x

    def data(self, x: Array, prediction: Array, free: Array | None = None) -> Array:
        """f, for columns whose shape is a prefix of x's; without the clip where `free`."""
        prediction = prediction.astype(x.dtype)
        f = _expand(self.data_x, x) * x + _expand(self.data_p, x) * prediction
        if self.clip is None:
            return f
        # A clip would turn the network's inf into its bound, and a broken sample into one that looks whole.
        f = jnp.where(jnp.isfinite(prediction), f, jnp.nan)
        f = self.clipped(f) if free is None else jnp.where(_expand(free, x) > 0, f, self.clipped(f))
        return self.remembered(x, f)

    def clipped(self, data: Array) -> Array:
        """A data prediction inside the bound, if there is one."""
        if not callable(self.clip):
            return data if self.clip is None else jnp.clip(data, -self.clip, self.clip)
        lead = jnp.ndim(self.time)
        return self.clip(data.reshape((-1, *data.shape[lead:]))).reshape(data.shape)

    def remembered(self, x: Array, data: Array) -> Array:
        """f = r x + s data: what later rows read."""
        if self.memory is None:
            return data
        return _expand(self.memory[0], x) * x + _expand(self.memory[1], x) * data

    def data_prediction(self, x: Array, f: Array) -> Array:
        """x_0 as the network sees it in x, from f = `data(x, ..)`."""
        if self.memory is not None:
            return (f - _expand(self.memory[0], x) * x) / _expand(self.memory[1], x)
        if self.clip is not None or self.multistep:
            return f
        # `build` has folded u and w into a and b; held_data and data_gain are what a and b were before.
        free = _expand(self.a, x) - _expand(self.held_data, x)
        return (free * x + _expand(self.b, x) * f) / _expand(self.data_gain, x)

    def step(
        self,
        x: Array,
        f: Array,
        *,
        before: Sequence[Array] | Array | None = None,
        z: Array | None = None,
        prediction: Array | None = None,
    ) -> Array:
        """x'. before: f of the k rows before, each like x, oldest first; prediction: p, for a table with `raw`."""
        new = _expand(self.a, x) * x + _expand(self.b, x) * f
        if self.raw is not None:
            assert prediction is not None
            new += _expand(self.raw, x) * prediction.astype(x.dtype)
        return self._from_others(new, before, z)

    def hold(
        self,
        x: Array,
        data: Array,
        *,
        unclipped: Array | None = None,
        before: Sequence[Array] | Array | None = None,
        z: Array | None = None,
    ) -> tuple[Array, Array]:
        """(x', f) of a row whose data prediction is `data`, `unclipped` before the clip, whatever its network says."""
        new = _expand(self.held_data, x) * x + _expand(self.data_gain, x) * data
        if self.raw is not None and unclipped is not None:
            new += _expand(self.raw, x) / _expand(self.data_p, x) * (unclipped - data)
        return self._from_others(new, before, z), self.remembered(x, data)

    def _from_others(self, new: Array, before: Sequence[Array] | Array | None, z: Array | None) -> Array:
        for lag, column in zip(self.lags, self.history, strict=True):
            assert before is not None
            new += _expand(column, new) * before[-lag]
        return new if z is None else new + _expand(self.c, new) * z


def _expand(column: ArrayLike, x: Array) -> Array:
    column = jnp.asarray(column, x.dtype)
    return column.reshape(column.shape + (1,) * (x.ndim - column.ndim))
