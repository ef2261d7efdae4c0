"""What a verification run leaves behind."""

import numpy as np

from speechbrain_scl.evaluation.bootstrap import resample
from speechbrain_scl.evaluation.metrics import (
    act_dcf,
    cllr,
    eer,
    eer_rocch,
    min_cllr,
    min_dcf,
)
from speechbrain_scl.values import FEWEST_TEST_SPEAKERS


def measure(
    trials,
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
        The list, with its scores.
    speaker_of : callable
        An utterance's or enrolment model's name to its speaker's.
    p_target : float
        Prior of the detection cost.
    n_resamples : int
        Of the speaker-level bootstrap; 0 for no interval.
    calibrated : bool
        Whether the scores are log-likelihood ratios.
    conditions : Conditions or None
        Parts of the list to measure by themselves.

    Returns
    -------
    dict
        What metrics.json holds for the list.
    """
    *speakers, n_speakers = trial_speakers(trials, speaker_of)
    scores, labels = trials.scores, trials.labels
    found = _rates(scores, labels, p_target)
    found.update(
        eer_ci=None,
        min_dcf_ci=None,
        p_target=p_target,
        n_speakers=n_speakers,
    )
    remarks = []
    if n_resamples and n_speakers < FEWEST_TEST_SPEAKERS:
        remarks.append(
            f"no interval: {n_speakers} test speakers, and fewer than "
            f"{FEWEST_TEST_SPEAKERS} say nothing about others"
        )
    elif n_resamples:
        resampled = resample(
            [scores], labels, *speakers, n_speakers, n_resamples, p_target
        )
        for name, values in zip(("eer_ci", "min_dcf_ci"), resampled[:, 0]):
            found[name] = np.nanpercentile(values, [2.5, 97.5]).tolist()
    if found["eer"] is not None and found["eer"] > 0.5:
        remarks.append(
            "targets score lower than impostors: are the labels (1 for the "
            "same speaker) or the order of the columns the wrong way round?"
        )
    found["remarks"] = remarks
    if calibrated:
        found["act_dcf"] = act_dcf(scores, labels, p_target)
        found["cllr"] = cllr(scores, labels)
        found["min_cllr"] = min_cllr(scores, labels)
    if conditions:
        found["conditions"] = {
            name: _rates(scores[chosen], labels[chosen], p_target)
            for name, chosen in conditions.parts(trials)
        }
    return found


def _rates(scores, labels, p_target):
    """EER and minDCF with their thresholds; None without both classes."""
    n_targets = int(labels.sum())
    found = {"n_trials": len(labels), "n_targets": n_targets}
    names = (
        "eer",
        "eer_threshold",
        "eer_rocch",
        "min_dcf",
        "min_dcf_threshold",
    )
    if 0 < n_targets < len(labels):
        values = (
            *eer(scores, labels),
            eer_rocch(scores, labels),
            *min_dcf(scores, labels, p_target),
        )
    else:
        values = (None,) * len(names)
    return {**dict(zip(names, values)), **found}


def speakers_of_names(trials, speaker_of):
    """The speakers of each side's names, numbered.

    Arguments
    ---------
    trials : Trials
        The list.
    speaker_of : callable
        An utterance's or enrolment model's name to its speaker's.

    Returns
    -------
    enrol, test : numpy.ndarray
        int32, as many as the side has names.
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
    return *sides, len(numbers)


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
    enrol, test, n_speakers = speakers_of_names(trials, speaker_of)
    return enrol[trials.enrol_index], test[trials.test_index], n_speakers


def table(metrics):
    """The figures as text.

    Arguments
    ---------
    metrics : dict
        List name -> what ``measure`` returned.

    Returns
    -------
    str
        A row per list, and one per condition below it.
    """
    header = ["trial list", "EER %", "(95 %)", "minDCF", "(95 %)"]
    first = next(iter(metrics.values()))
    calibrated = "cllr" in first
    if calibrated:
        header += ["actDCF", "Cllr", "minCllr"]
    header += ["trials", "speakers"]
    rows = [header]
    for name, found in metrics.items():
        row = [
            name,
            _number(found["eer"], 100, 2),
            _interval(found["eer_ci"], 100, 2),
            _number(found["min_dcf"], 1, 4),
            _interval(found["min_dcf_ci"], 1, 3),
        ]
        if calibrated:
            keys = ("act_dcf", "cllr", "min_cllr")
            row += [_number(found[key], 1, 3) for key in keys]
        rows.append([*row, f"{found['n_trials']:,}", str(found["n_speakers"])])
        for condition, part in found.get("conditions", {}).items():
            rows.append(
                [f"  {condition}", _number(part["eer"], 100, 2), ""]
                + [_number(part["min_dcf"], 1, 4), ""]
                + [""] * (3 * calibrated)
                + [f"{part['n_trials']:,}", ""]
            )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    lines.append(
        f"minDCF at p_target = {first['p_target']}; intervals over speakers"
    )
    lines += [
        f"{name}: {remark}"
        for name, found in metrics.items()
        for remark in found.get("remarks", ())
    ]
    return "\n".join(lines)


def _number(value, factor, digits):
    return "-" if value is None else f"{factor * value:.{digits}f}"


def _interval(values, factor, digits):
    if not values:
        return ""
    low, high = (_number(value, factor, digits) for value in values)
    return f"({low}-{high})"
