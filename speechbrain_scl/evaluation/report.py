"""What a verification run leaves behind."""

import os

import matplotlib
import numpy as np
from scipy.special import erfinv

from speechbrain_scl.evaluation.bootstrap import bootstrap
from speechbrain_scl.evaluation.metrics import (
    act_dcf,
    cllr,
    eer,
    error_rates,
    min_cllr,
    min_dcf,
)
from speechbrain_scl.files import written_aside

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

_SHOWN = (0.0005, 0.8)  # rates on the axes of the DET plot


def measure(
    trials,
    scores,
    speaker_of,
    p_target=0.01,
    n_resamples=200,
    calibrated=False,
    conditions=None,
):
    """The figures of one scored trial list.

    Arguments
    ---------
    trials : Trials
        The list.
    scores : numpy.ndarray
        [T].
    speaker_of : callable
        An utterance's or enrolment model's name to its speaker's.
    p_target : float
        Prior of the detection cost.
    n_resamples : int
        Of the speaker-level bootstrap; 0 for no interval.
    calibrated : bool
        Whether the scores are log-likelihood ratios.
    conditions : dict or None
        Name -> bool [T]: parts of the list to measure by themselves.

    Returns
    -------
    dict
        What metrics.json holds for the list.

    Raises
    ------
    UserError
        Scores that are not finite.
    """
    enrol, test, n_speakers = trial_speakers(trials, speaker_of)
    found = _rates(scores, trials.labels, p_target)
    found.update(
        eer_ci=None,
        min_dcf_ci=None,
        p_target=p_target,
        n_speakers=n_speakers,
    )
    if n_resamples:
        resampled = bootstrap(
            scores, trials.labels, enrol, test, n_resamples, p_target
        )
        for name, values in zip(("eer_ci", "min_dcf_ci"), resampled):
            found[name] = np.nanpercentile(values, [2.5, 97.5]).tolist()
    if calibrated:
        found["act_dcf"] = act_dcf(scores, trials.labels, p_target)
        found["cllr"] = cllr(scores, trials.labels)
        found["min_cllr"] = min_cllr(scores, trials.labels)
    if conditions:
        found["conditions"] = {
            name: _rates(scores[chosen], trials.labels[chosen], p_target)
            for name, chosen in conditions.items()
        }
    return found


def _rates(scores, labels, p_target):
    """EER and minDCF with their thresholds; None without both classes."""
    n_targets = int(labels.sum())
    found = {"n_trials": len(labels), "n_targets": n_targets}
    names = ("eer", "eer_threshold", "min_dcf", "min_dcf_threshold")
    if 0 < n_targets < len(labels):
        values = (*eer(scores, labels), *min_dcf(scores, labels, p_target))
    else:
        values = (None,) * len(names)
    return {**dict(zip(names, values)), **found}


def trial_speakers(trials, speaker_of):
    """The speakers of each trial's two sides, numbered.

    Arguments
    ---------
    trials : Trials
        The list.
    speaker_of : callable
        An utterance's or enrolment model's name to its speaker's.

    Returns
    -------
    enrol, test : numpy.ndarray
        [T] int32.
    n_speakers : int
        How many there are.
    """
    numbers = {}
    sides = (
        np.array(
            [numbers.setdefault(speaker_of(n), len(numbers)) for n in names],
            dtype=np.int32,
        )
        for names in (trials.enrol_ids, trials.test_ids)
    )
    enrol, test = sides
    return enrol[trials.enrol_index], test[trials.test_index], len(numbers)


def write_scores(path, trials, scores):
    """Writes ``<label> <enrolment> <test> <score>`` lines.

    Arguments
    ---------
    path : str
        The file.
    trials : Trials
        The list.
    scores : numpy.ndarray
        [T].
    """
    with written_aside(path) as file:
        file.writelines(
            f"{int(label)} {trials.enrol_ids[e]} {trials.test_ids[t]} "
            f"{score:.6f}\n"
            for label, e, t, score in zip(
                trials.labels, trials.enrol_index, trials.test_index, scores
            )
        )


def table(metrics):
    """The figures as text.

    Arguments
    ---------
    metrics : dict
        List name -> what ``measure`` returned.

    Returns
    -------
    str
    """
    width = max(map(len, [*metrics, "trial list"]))
    lines = [
        f"{'trial list':<{width}}  EER %  (95 % interval)  minDCF     trials"
        "  speakers"
    ]
    for name, found in metrics.items():
        interval = ""
        if found["eer_ci"]:
            low, high = (100 * x for x in found["eer_ci"])
            interval = f"({low:.2f}-{high:.2f})"
        lines.append(
            f"{name:<{width}}  {100 * found['eer']:5.2f}  {interval:>15}  "
            f"{found['min_dcf']:6.4f}  {found['n_trials']:9d}  "
            f"{found['n_speakers']:8d}"
        )
    p_target = next(iter(metrics.values()))["p_target"]
    lines.append(f"minDCF at p_target = {p_target}; intervals over speakers")
    return "\n".join(lines)


def plot_det(path, scored, p_target=0.01):
    """Detection error trade-off of every list, on normal-deviate axes.

    Arguments
    ---------
    path : str
        The PNG file.
    scored : dict
        List name -> (scores, labels).
    p_target : float
        The prior of the minDCF points (squares; circles are the EERs).
    """
    figure, axis = plt.subplots(figsize=(5.5, 5.5))
    ticks = np.array([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8])
    for name, (scores, labels) in scored.items():
        miss, false_alarm, thresholds = error_rates(scores, labels)
        shown = slice(None, None, max(1, len(miss) // 5000))
        (line,) = axis.plot(
            _deviate(false_alarm[shown]),
            _deviate(miss[shown]),
            label=name,
            lw=1.5,
        )
        rate, _ = eer(scores, labels)
        _, threshold = min_dcf(scores, labels, p_target)
        best = np.searchsorted(thresholds, threshold)
        color = line.get_color()
        axis.plot(_deviate(rate), _deviate(rate), "o", color=color)
        axis.plot(
            # A rate of zero is shown on the axis.
            _deviate(np.clip(false_alarm[best], *_SHOWN)),
            _deviate(np.clip(miss[best], *_SHOWN)),
            "s",
            color=color,
            clip_on=False,
        )
    axis.set_xticks(_deviate(ticks), [f"{100 * t:g}" for t in ticks])
    axis.set_yticks(_deviate(ticks), [f"{100 * t:g}" for t in ticks])
    axis.set_xlim(*_deviate(np.array(_SHOWN)))
    axis.set_ylim(*_deviate(np.array(_SHOWN)))
    axis.set_xlabel("false alarms (%)")
    axis.set_ylabel("misses (%)")
    axis.set_title(f"circle: EER, square: minDCF (p_target {p_target})")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    aside = f"{path}.aside.png"
    figure.savefig(aside, dpi=150)
    plt.close(figure)
    os.replace(aside, path)


def _deviate(rate):
    """The standard normal quantile."""
    rate = np.clip(rate, 1e-5, 1 - 1e-5)
    return np.sqrt(2) * erfinv(2 * rate - 1)
