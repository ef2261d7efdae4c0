"""Pictures of scored trials and of a training run."""

import io
import re

import numpy as np
from scipy.special import ndtri

from speechbrain_scl.files import atomic_write

# Told apart by the colour-blind (Okabe and Ito 2008)
TARGET, IMPOSTOR = "#0072b2", "#d55e00"
_DET_RANGE = (0.0005, 0.8)  # rates on the axes of the DET plot
_POINTS = 5000  # of a curve
_PANELS = {
    "loss": ["classification", "contrastive"],
    "balancing weight": ["weight_classification", "weight_contrastive"],
    "validation EER (%)": ["EER"],
}


def axes(width, height, rows=1):
    """Axes of a new figure of this size in inches, one below the other."""
    # Whoever draws nothing need not wait for it.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return list(figure.subplots(rows, squeeze=False)[:, 0])


def det(lists):
    """Detection error trade-off of lists (name -> what ``results.measure``
    returns) on normal-deviate axes; circles are EERs, squares minDCFs."""
    (axis,) = axes(5.5, 5.5)
    for i, (name, (found, counts)) in enumerate(lists.items()):
        miss, false_alarm, thresholds = counts.rates
        curve = np.stack([false_alarm, miss])
        best = np.searchsorted(thresholds, found["min_dcf_threshold"])
        # A rate of zero is shown on the axis.
        cost = np.clip(curve[:, best], *_DET_RANGE)
        curve = _deviate(curve[:, :: max(1, len(miss) // _POINTS)])
        color = f"C{i}"
        axis.plot(*curve, label=plain(name), lw=1.5, color=color)
        axis.plot(*_deviate([found["eer"]] * 2), "o", color=color)
        axis.plot(*_deviate(cost), "s", color=color, clip_on=False)
    ticks = np.array([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8])
    ticks = _deviate(ticks), [f"{100 * tick:g}" for tick in ticks]
    limits = _deviate(_DET_RANGE)
    axis.set(xlim=limits, ylim=limits)
    axis.set(xlabel="false alarms (%)", ylabel="misses (%)")
    axis.set_xticks(*ticks)
    axis.set_yticks(*ticks)
    p_target = found["p_target"]
    axis.set_title(f"circle: EER, square: minDCF (p_target {p_target})")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return axis.figure


def _deviate(rate):
    return ndtri(np.clip(rate, 1e-5, 1 - 1e-5))


def plain(name):
    """A name as matplotlib shows it: no formula, and not left out."""
    name = name.replace("$", r"\$")
    return f"\u200b{name}" if name.startswith("_") else name


def histogram(counts, thresholds, axis=None):
    """Densities of target and impostor scores, and thresholds between them (what
    is said of one -> the score); on an axis of its own, or this one."""
    axis = axis or axes(5.5, 3.4)[0]
    bins = np.linspace(*counts.scores[[0, -1]], 61)
    for kind, color, trials in (
        ("target", TARGET, counts.targets),
        ("impostor", IMPOSTOR, counts.impostors),
    ):
        axis.hist(
            counts.scores,
            bins,
            weights=trials,
            density=True,
            alpha=0.6,
            color=color,
            label=f"{trials.sum():,} {kind} trials",
        )
    for style, (label, at) in zip(("-", "--"), thresholds.items()):
        axis.axvline(at, color="black", lw=1, ls=style, label=label)
    axis.set(xlabel="score", ylabel="density")
    axis.legend(fontsize=8)
    return axis.figure


def training_curves(epochs):
    """Losses, balancing weights and error rate over the epochs of
    ``read_training_log``: what is shown -> figure; empty without epochs."""
    from matplotlib.ticker import MaxNLocator

    panels = _PANELS if epochs else {}
    if epochs and not any("classification" in x for x in epochs.values()):
        # One objective alone: its loss is all there is.
        panels = {"loss": ["loss"], "validation EER (%)": ["EER"]}
    figures = {}
    for title, names in panels.items():
        (axis,) = axes(4.2, 2.9)
        for color, name in zip((TARGET, IMPOSTOR), names):
            at = [e for e, values in epochs.items() if name in values]
            factor = 100 if name == "EER" else 1
            axis.plot(
                at,
                [factor * epochs[e][name] for e in at],
                marker="." if len(at) < 30 else None,
                color=color,
                label=name.split("_")[-1],
            )
        if len(names) > 1:
            axis.legend(fontsize=8, frameon=False)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        figures[title] = axis.figure
    return figures


def thresholds(found, p_target=0.01):
    """Those of EER and minDCF, as ``histogram`` takes them."""
    return {
        f"EER {100 * found['eer']:.2f} %": found["eer_threshold"],
        f"minDCF (p {p_target})": found["min_dcf_threshold"],
    }


def save(figure, path):
    """Writes a figure as a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    with atomic_write(path, binary=True) as file:
        file.write(content.getvalue())


def svg(figure, text):
    """A figure as an <svg> element in the colours of the page around it; ``text``
    is for those who do not see it."""
    from markupsafe import Markup
    from matplotlib import rc_context

    content = io.StringIO()
    # Text stays text: readers can search it, and it is small.
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    drawn = content.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    # Several pictures share a page, where a name may occur once.
    drawn = re.sub(
        r' id="([^"]+)"',
        lambda found: found[0] if f"#{found[1]}" in drawn else "",
        drawn,
    )
    drawn = drawn.replace("#000000", "currentColor").replace("#ffffff", "none")
    label = Markup('<svg role="img" aria-label="{}"').format(text)
    return Markup(drawn.replace("<svg", label, 1))
