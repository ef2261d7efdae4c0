"""Figures in sentences: what they mean, and what they do not."""

import math

from speechbrain_scl.evaluation.pages.rendering import interval, rate

# Of Cllr, from which on a better calibration is worth the effort
_LOST = 0.2


def headline(metrics):
    """The result of a run in a sentence or two.

    Arguments
    ---------
    metrics : dict
        List name -> what ``report.measure`` returned.

    Returns
    -------
    str
    """
    rates = {
        name: found["eer"]
        for name, found in metrics.items()
        if found["eer"] is not None
    }
    if not rates:
        return "No list has trials of both kinds, so there is no error rate."
    if len(metrics) == 1:
        ((_, found),) = metrics.items()
        return error_rate(found)
    best, worst = min(rates, key=rates.get), max(rates, key=rates.get)
    return (
        f"The equal error rate runs from {rate(rates[best])} % ({best}) to "
        f"{rate(rates[worst])} % ({worst}) over {len(rates)} trial lists."
    )


def error_rate(found):
    """An equal error rate, and how far it can be trusted.

    Arguments
    ---------
    found : dict
        What ``report.measure`` returned.

    Returns
    -------
    str

    Example
    -------
    >>> error_rate({"eer": 0.04, "eer_ci": [0.03, 0.06], "n_speakers": 40})
    'The equal error rate is 4.00 %: with the threshold where both errors \
are equally frequent, about one pair of the same speaker in 25 is rejected \
and one pair of different speakers in 25 accepted. It was measured on 40 \
speakers; with others like them it would lie between 3.00 and 6.00 % in 95 \
cases of 100.'
    """
    if found["eer"] is None:
        return "There are not trials of both kinds, so no error rate."
    text = f"The equal error rate is {rate(found['eer'])} %"
    if found["eer"]:
        share = round(1 / found["eer"])
        text += (
            ": with the threshold where both errors are equally frequent, "
            f"about one pair of the same speaker in {share} is rejected and "
            f"one pair of different speakers in {share} accepted."
        )
    else:
        text += ": a threshold parts these trials without an error."
    if found["eer_ci"]:
        ends = interval(found["eer_ci"]).replace(" to ", " and ")
        text += (
            f" It was measured on {found['n_speakers']} speakers; with others "
            f"like them it would lie between {ends} % in 95 cases of 100."
        )
    else:
        text += (
            f" How far that carries beyond these {found['n_speakers']} "
            "speakers was not estimated."
        )
    return text


def calibration(found):
    """Whether the scores can be taken at their word.

    Arguments
    ---------
    found : dict
        What ``report.measure`` returned.

    Returns
    -------
    str
    """
    if "cllr" not in found:
        return (
            "The scores are not calibrated: they rank pairs, and a decision "
            "needs a threshold from speakers other than these."
        )
    cllr, least = found["cllr"], found["min_cllr"]
    text = (
        "The scores are log-likelihood ratios. Their cost Cllr is "
        f"{cllr:.3f} bits, {least:.3f} with the best calibration: "
    )
    if cllr >= 1:
        return text + "worse than not listening at all, which costs 1 bit."
    if cllr - least > _LOST * cllr:
        lost = (cllr - least) / cllr
        return text + (
            f"{100 * lost:.0f} % is lost to the calibration, whose speakers "
            "or recordings do not resemble these."
        )
    return text + "they are well calibrated."


def decision(found, trials):
    """What deciding at the stated prior comes to.

    Arguments
    ---------
    found : dict
        What ``report.measure`` returned.
    trials : Trials
        The list, with its scores.

    Returns
    -------
    str
        Empty where the scores are not calibrated.
    """
    if "cllr" not in found:
        return ""
    p_target = found["p_target"]
    threshold = math.log((1 - p_target) / p_target)
    reached, labels = trials.scores >= threshold, trials.labels
    n_taken, n_wrong = (int((reached & x).sum()) for x in (labels, ~labels))
    n_targets = int(labels.sum())
    text = (
        f"At a prior of {100 * p_target:g} % targets a score of "
        f"{threshold:.2f} says “same speaker”: "
    )
    if not n_taken:
        return text + (
            f"none of the {n_targets:,} target trials reaches it, so that "
            "this system never does at this prior. A larger p_target or a "
            "better encoder would."
        )
    text += (
        f"{n_taken:,} of {n_targets:,} target trials and {n_wrong:,} of "
        f"{len(trials) - n_targets:,} impostor trials reach it."
    )
    if found["act_dcf"] > 1:
        text += " Rejecting everyone would cost less (actDCF above 1)."
    return text


def remark(text):
    """What a measurement points out, as a sentence.

    Arguments
    ---------
    text : str
        Of the ``remarks`` in metrics.json.

    Returns
    -------
    str

    Example
    -------
    >>> remark("no interval: 2 test speakers")
    'No interval: 2 test speakers.'
    """
    return text[:1].upper() + text[1:] + "." * (text[-1:] not in ".?!")


def difference(name, reference, ratio):
    """A variant against the one it is compared with, overall.

    Arguments
    ---------
    name, reference : str
        The two.
    ratio : sequence of float
        Of the error rates, and the ends of its 95 % interval.

    Returns
    -------
    str

    Example
    -------
    >>> difference("full", "aam", [0.9, 0.85, 0.97])
    'full has 10.0 % less EER than aam (ratio 0.900, 95 % interval 0.850 to \
0.970), more than the choice of test speakers explains.'
    """
    value, low, high = ratio
    explained = (
        "more than the choice of test speakers explains"
        if _differs(ratio)
        else "which the choice of test speakers could explain"
    )
    return (
        f"{name} has {100 * abs(1 - value):.1f} % "
        f"{'less' if value < 1 else 'more'} EER than {reference} (ratio "
        f"{value:.3f}, 95 % interval {low:.3f} to {high:.3f}), {explained}."
    )


def verdict(reference, ratios):
    """Several variants against the one they are compared with, in short.

    Arguments
    ---------
    reference : str
        The one.
    ratios : dict
        Variant -> ratio of its error rate, and the ends of its 95 % interval.

    Returns
    -------
    str

    Example
    -------
    >>> verdict("aam", {"a": [0.9, 0.8, 1.1], "b": [0.8, 0.7, 0.9]})
    'Fewer errors than aam by more than the choice of test speakers \
explains: b.'
    >>> verdict("aam", {"a": [0.9, 0.8, 1.1]})
    'None differs from aam by more than the choice of test speakers explains.'
    """
    parts = []
    for amount, sign in (("Fewer", -1), ("More", 1)):
        names = [
            name
            for name, ratio in ratios.items()
            if _differs(ratio) and sign * (ratio[0] - 1) > 0
        ]
        if names:
            parts.append(
                f"{amount} errors than {reference} by more than the choice of "
                f"test speakers explains: {', '.join(names)}."
            )
    return " ".join(parts) or (
        f"None differs from {reference} by more than the choice of test "
        "speakers explains."
    )


def _differs(ratio):
    """Is 1 outside of the interval?"""
    _, low, high = ratio
    return not low <= 1 <= high
