"""Recurrences x_{i+1} = F_i(x_i) solved in parallel rounds: the loop that samplers and `pcm.scan` share."""

from pcm_jax.recurrence.certificate import Certificate, defect_sum, last_change
from pcm_jax.recurrence.gradient import differentiable
from pcm_jax.recurrence.linearization import History, Linearization, secant
from pcm_jax.recurrence.loop import run
from pcm_jax.recurrence.problem import Evaluation, Recurrence
from pcm_jax.recurrence.state import LoopConfig, Solved, Start
from pcm_jax.recurrence.update import linearise, same_operator
from pcm_jax.recurrence.window import Place, Window, take_rows

__all__ = [
    "Certificate",
    "Evaluation",
    "History",
    "Linearization",
    "LoopConfig",
    "Place",
    "Recurrence",
    "Solved",
    "Start",
    "Window",
    "defect_sum",
    "differentiable",
    "last_change",
    "linearise",
    "run",
    "same_operator",
    "secant",
    "take_rows",
]
