"""Pictures of scored trials."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtri

from speechbrain_scl.evaluation.metrics import eer, error_rates, min_dcf

matplotlib.use("Agg")
# In an SVG, text stays text: readers can search it, and it is small.
matplotlib.rcParams["svg.fonttype"] = "none"

# Told apart by the colour-blind (Okabe and Ito 2008)
TARGET, IMPOSTOR = "#0072b2", "#d55e00"
_DET_RANGE = (0.0005, 0.8)  # rates on the axes of the DET plot
_POINTS = 5000  # of a curve


def det(lists, p_target=0.01):
    """Detection error trade-off of every list, on normal-deviate axes.

    Arguments
    ---------
    lists : dict
        List name -> Trials with scores.
    p_target : float
        The prior of the minDCF points (squares; circles are the EERs).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axis = figure.subplots()
    ticks = np.array([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8])
    for name, trials in lists.items():
        scored = trials.scores, trials.labels
        miss, false_alarm, thresholds = error_rates(*scored)
        shown = slice(None, None, max(1, len(miss) // _POINTS))
        (line,) = axis.plot(
            _deviate(false_alarm[shown]),
            _deviate(miss[shown]),
            label=plain(name),
            lw=1.5,
        )
        rate, _ = eer(*scored)
        _, threshold = min_dcf(*scored, p_target)
        best = np.searchsorted(thresholds, threshold)
        color = line.get_color()
        axis.plot(_deviate(rate), _deviate(rate), "o", color=color)
        axis.plot(
            # A rate of zero is shown on the axis.
            _deviate(np.clip(false_alarm[best], *_DET_RANGE)),
            _deviate(np.clip(miss[best], *_DET_RANGE)),
            "s",
            color=color,
            clip_on=False,
        )
    axis.set_xticks(_deviate(ticks), [f"{100 * t:g}" for t in ticks])
    axis.set_yticks(_deviate(ticks), [f"{100 * t:g}" for t in ticks])
    axis.set_xlim(*_deviate(np.array(_DET_RANGE)))
    axis.set_ylim(*_deviate(np.array(_DET_RANGE)))
    axis.set_xlabel("false alarms (%)")
    axis.set_ylabel("misses (%)")
    axis.set_title(f"circle: EER, square: minDCF (p_target {p_target})")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def plain(name):
    """A name as matplotlib shows it: no formula, and not left out.

    Arguments
    ---------
    name : str
        Of a list or a system.

    Returns
    -------
    str
    """
    name = name.replace("$", r"\$")
    return f"\u200b{name}" if name.startswith("_") else name


def score_histogram(scores, labels, p_target=0.01):
    """Densities of target and impostor scores, and the thresholds between.

    Arguments
    ---------
    scores, labels : numpy.ndarray
        [T], float and bool.
    p_target : float
        The prior of the minDCF threshold.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    draw_scores(figure.subplots(), scores, labels, p_target)
    return figure


def draw_scores(axis, scores, labels, p_target=0.01):
    """Draws what ``score_histogram`` shows.

    Arguments
    ---------
    axis : matplotlib.axes.Axes
        Where.
    scores, labels : numpy.ndarray
        [T], float and bool.
    p_target : float
        The prior of the minDCF threshold.
    """
    bins = np.linspace(scores.min(), scores.max(), 61)
    for kind, color, chosen in (
        ("target", TARGET, labels),
        ("impostor", IMPOSTOR, ~labels),
    ):
        axis.hist(
            scores[chosen],
            bins,
            density=True,
            alpha=0.6,
            color=color,
            label=f"{chosen.sum():,} {kind} trials",
        )
    rate, at_eer = eer(scores, labels)
    _, at_dcf = min_dcf(scores, labels, p_target)
    axis.axvline(at_eer, color="black", lw=1, label=f"EER {100 * rate:.2f} %")
    axis.axvline(
        at_dcf, color="black", lw=1, ls="--", label=f"minDCF (p {p_target})"
    )
    axis.set_xlabel("score")
    axis.set_ylabel("density")
    axis.legend(fontsize=8)


def png(figure):
    """A figure as a PNG file's content.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
        The figure.

    Returns
    -------
    bytes
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def svg(figure):
    """A figure as an <svg> element.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
        The figure.

    Returns
    -------
    str
    """
    content = io.StringIO()
    figure.savefig(content, format="svg")
    text = content.getvalue()
    return text[text.index("<svg") :]


def _deviate(rate):
    """The standard normal quantile."""
    return ndtri(np.clip(rate, 1e-5, 1 - 1e-5))
