"""A section of the page: a model's samples, or a robot's episode, after as many rounds as its slider says."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from experiments.gallery import charts
from experiments.gallery.follow import TUNED, best

NAMES = {
    "digits": "Digits",
    "fashion": "Fashion-MNIST",
    "emoji32": "Emoji",
    "latent": "Latent emoji",
    "pusht": "Push-T",
    "metaworld": "Meta-World",
}
"""In the page's order."""
ABOUT = {
    "digits": "8 x 8 pixels.",
    "fashion": "28 x 28 pixels.",
    "emoji32": "32 x 32 pixels in colour.",
    "latent": "A latent model with classifier-free guidance of scale 2; its samples are decoded to 32 x 32 pixels, "
    "error and bound are of the latents. No prior ships with it.",
    "pusht": "A diffusion policy pushes the grey T onto the green one. A decision is a plan of places for the blue "
    "pusher, sampled by diffusion.",
    "metaworld": "A diffusion policy moves an arm; it is told where the hand and the objects are. A decision is a plan "
    "of moves of the hand, sampled by diffusion.",
}


class Section:
    """One of NAMES, from its JSON and pictures in `results`."""

    def __init__(self, name: str, results: Path) -> None:
        self.name, self.results = name, results
        self.result: dict[str, Any] = json.loads((results / f"gallery_{name}.json").read_text())
        task = self.result["config"].get("task", name)
        self.title = NAMES[name] if task == name else f"{NAMES[name]}: {task}"
        self.best = best(self.result["errors"])

    def html(self) -> str:
        """The section, complete without a script; the slider is for those who have one."""
        result, name, title = self.result, self.name, html.escape(self.title)
        robot = "plans" in result
        rows = self._plans() if robot else self._strips()
        chart = charts.convergence(result, self.title)
        return f"""<section id="{name}" aria-labelledby="{name}-title" data-rounds="{result["rounds"]}">
<h2 id="{name}-title">{title}</h2>
<p>{ABOUT[name]} {self._cost()}</p>
{self._film() if robot else ""}
<div class="controls">
<button type="button"><span class="what">Play</span><span class="hidden"> the rounds of {title}</span></button>
<label for="{name}-round">Round<span class="hidden"> of {title}</span></label>
<input type="range" id="{name}-round" min="1" max="{result["rounds"]}" step="1" value="{min(2, result["rounds"])}">
<output for="{name}-round"></output>
</div>
<div class="body"><div class="{"panels" if robot else "rows"}">
{rows}
</div>
<figure class="curves">{chart}<figcaption>lines: error, dashes: bound, dots: tolerance</figcaption></figure>
</div>
</section>"""

    def _cost(self) -> str:
        result = self.result
        needed = [
            f"{method}&nbsp;{count}".replace(" ", "&nbsp;") if count else f"{method} more than are shown"
            for method, count in result["needed"].items()
        ]
        unit = "the decision below" if "plans" in result else "every sample"
        text = (
            f"Sequential {result['solver']} calls the network {result['steps']} times, one after another. Rounds until "
            f"{unit} is certified within {result['tol']:g}: {', '.join(needed)}."
        )
        for method, errors in result["errors"].items():
            pairs = enumerate(zip(errors, result["bounds"][method], strict=True), 1)
            broken = [str(at) for at, (error, bound) in pairs if bound is not None and bound < error]
            if broken:
                text += f" The bound of {method} is below the error after {', '.join(broken)} rounds."
        return text if TUNED in result["errors"] else f"{text} No adapter shipped when this was drawn."

    def _strips(self) -> str:
        """The sequential samples, and under them those of each method: a picture with a line for each round."""
        result = self.result
        height, width = result["line"]
        whole = _pixels(self.results / result["picture"])
        lines = whole.reshape(-1, height, *whole.shape[1:])
        images, rounds = result["config"]["images"], result["rounds"]
        alt = f"{images} samples of {self.title} by the sequential sampler"
        parts = [
            f'<figure class="row"><figcaption><b>sequential</b><span class="value">{result["steps"]} steps</span>'
            f'</figcaption><img class="strip" src="{_data(lines[0])}" alt="{html.escape(alt)}"></figure>'
        ]
        for place, method in enumerate(result["errors"]):
            mine = lines[1 + place * rounds : 1 + (place + 1) * rounds]
            alt = f"{images} samples of {self.title} by {method}, rounds 1 to {rounds} from top to bottom"
            subject = f"{images} samples of {self.title} by {method}"
            parts.append(
                f'<figure class="row" {self._numbers(method)}>{self._caption(method)}'
                f'<div class="view" style="--shape: {width} / {height}"><img class="strip" '
                f'src="{_data(mine.reshape(-1, *whole.shape[1:]))}" alt="{html.escape(alt)}" '
                f'data-subject="{html.escape(subject)}"></div></figure>'
            )
        return "\n".join(parts)

    def _plans(self) -> str:
        """A scene for each method, with its plan."""
        result, scene = self.result, f"{self.name}-scene"
        pixels = _pixels(self.results / result["scene"])
        source, size = _data(pixels, quality=85), len(pixels)
        parts = [
            '<svg class="hidden" aria-hidden="true"><defs>'
            f'<image id="{scene}" href="{source}" width="{size}" height="{size}"/></defs></svg>'
        ]
        for method in result["errors"]:
            about = f"{self.title}: the plan by {method}, over the scene and the sequential plan"
            drawing = charts.plans(result, method, scene, size, about)
            parts.append(f'<figure class="panel" {self._numbers(method)}>{self._caption(method)}{drawing}</figure>')
        return "\n".join(parts)

    def _numbers(self, method: str) -> str:
        """What the script reads."""
        errors, bounds = (json.dumps(self.result[key][method]) for key in ("errors", "bounds"))
        chosen = " data-best" if method == self.best else ""
        return f"data-errors='{errors}' data-bounds='{bounds}'{chosen}"

    def _caption(self, method: str) -> str:
        error, bound = self.result["errors"][method][-1], self.result["bounds"][method][-1]
        known = "none yet" if bound is None else shown(bound)
        return (
            f'<figcaption style="--color: {charts.COLORS[method]}"><b>{html.escape(method)}</b>'
            f'<span class="value"><span>error {shown(error)}</span> <span>bound {known}</span></span></figcaption>'
        )

    def _film(self) -> str:
        """Frames of the episode, rounds of its decisions, and which of them is followed."""
        result = self.result
        size = result["line"][0]
        film = _pixels(self.results / result["picture"])
        frames = []
        for place, step in enumerate(result["frames"]):
            source = _data(film[:, place * size : (place + 1) * size], quality=80)
            alt = f"{self.title} after step {step}"
            frames.append(
                f'<figure><img src="{source}" alt="{html.escape(alt)}"><figcaption>step {step}</figcaption></figure>'
            )
        counts, followed = result["decisions"], result["config"]["decision"]
        ending = "ends in success" if result["success"] else f"ends with a score of {result['score']:.2f}"
        mean, best = sum(counts) / len(counts), html.escape(self.best)
        return f"""<div class="film">{"".join(frames)}</div>
<p>Episode {result["config"]["number"]} takes {result["acts"]} steps and {ending}.{self._rate()}
Its {len(counts)} decisions took {min(counts)} to {max(counts)} rounds of {best}, {mean:.1f} on average:</p>
<figure>{charts.decisions(counts, result["steps"], followed, self.title)}
<figcaption>rounds of each decision, dots: {result["steps"]} sequential steps; the dark one is followed
below</figcaption></figure>
<p>Decision {followed + 1} after each round: the pale band is the sequential plan, dots are the {result["executed"]}
actions that are carried out; what leaves the picture is cut off. Error and bound are of the whole plan, in units of the
actions, which reach from -1 to 1.</p>"""

    def _rate(self) -> str:
        """How often the policy succeeds, so that the episode shown is not taken for the rule."""
        path = self.results / f"robots_eval_{self.name}.json"
        if not path.exists():
            return ""
        tasks = json.loads(path.read_text())["tasks"]
        rate = next(m["success"] for m in tasks[self.result["config"]["task"]] if m["method"] == self.result["solver"])
        return f" The policy succeeds in {100 * rate:.0f}% of this task's test episodes."


def shown(value: float) -> str:
    """Two digits."""
    return f"{float(f'{value:.2g}'):g}"


def _pixels(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as picture:
        return np.asarray(picture)


def _data(pixels: np.ndarray, *, quality: int | None = None) -> str:
    """A WebP inside the page, without loss unless a quality is given."""
    how: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality}
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, format="WebP", method=6, **how)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
