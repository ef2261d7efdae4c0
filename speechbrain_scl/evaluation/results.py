"""From scored trials to what metrics.json holds, and to a table of it."""

import numpy as np

from speechbrain_scl.data.splits import FEWEST_TEST_SPEAKERS
from speechbrain_scl.evaluation.bootstrap import bootstrap
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.metrics import (
    Counts,
    act_dcf,
    ascending,
    cllr,
    eer,
    eer_rocch,
    min_cllr,
    min_dcf,
)


def measure(
    trials,
    speaker_of,
    p_target=0.01,
    n_resamples=200,
    calibrated=False,
    conditions=(),
):
    """What metrics.json holds for a scored list (``Trials``), and its ``Counts``
    for pictures. ``speaker_of`` gives the speaker of a name; ``n_resamples`` of
    the speakers the intervals (0: none); ``conditions`` are parts to measure by
    themselves."""
    scores, labels, enrol, test, *parts = ascending(
        trials.scores,
        trials.labels,
        *trial_speakers(trials, speaker_of),
        *(which for _, which in conditions),
    )
    counts = Counts.of(scores, labels)
    n_speakers = int(max(enrol.max(), test.max())) + 1
    remarks = []
    found = {**rates(counts, p_target), "eer_ci": None, "min_dcf_ci": None}
    found.update(p_target=p_target, n_speakers=n_speakers, remarks=remarks)
    if n_resamples and n_speakers < FEWEST_TEST_SPEAKERS:
        remarks.append(
            f"no interval: {n_speakers} test speakers, and fewer than "
            f"{FEWEST_TEST_SPEAKERS} say nothing about others"
        )
    elif n_resamples:
        resampled = bootstrap(
            scores, labels, enrol, test, n_resamples, p_target
        )
        for name, values in zip(("eer_ci", "min_dcf_ci"), resampled):
            found[name] = np.nanpercentile(values, [2.5, 97.5]).tolist()
    if found["eer"] > 0.5:
        remarks.append(
            "targets score lower than impostors: are the labels (1 for the "
            "same speaker) or the order of the columns the wrong way round?"
        )
    if calibrated:
        found["act_dcf"] = act_dcf(counts, p_target=p_target)
        found["cllr"] = cllr(counts)
        found["min_cllr"] = min_cllr(counts)
        if not any(counts.reaching(Calibration.threshold(p_target))):
            remarks.append(
                f"at p_target = {p_target} no score reaches the calibrated "
                "threshold, so that every trial is rejected"
            )
    if conditions:
        found["conditions"] = {
            name: _part(scores, labels, which == i, p_target)
            for (names, _), which in zip(conditions, parts)
            for i, name in enumerate(names)
        }
    return found, counts


def _part(scores, labels, chosen, p_target):
    """The rates of a part of the list; None without both kinds of trials."""
    scores, labels = scores[chosen], labels[chosen]
    n_targets = int(labels.sum())
    if 0 < n_targets < len(labels):
        return rates(Counts.of(scores, labels), p_target)
    nothing = dict.fromkeys(rates(Counts.of([0, 1], [0, 1])))
    return {**nothing, "n_trials": len(labels), "n_targets": n_targets}


def rates(counts, p_target=0.01):
    """EER and minDCF of ``Counts``, with their thresholds."""
    rate, at_eer = eer(counts)
    cost, at_cost = min_dcf(counts, p_target=p_target)
    return {
        "eer": rate,
        "eer_threshold": at_eer,
        "eer_rocch": eer_rocch(counts),
        "min_dcf": cost,
        "min_dcf_threshold": at_cost,
        "n_trials": counts.n_targets + counts.n_impostors,
        "n_targets": counts.n_targets,
    }


def trial_speakers(trials, speaker_of):
    """The speakers of each trial's two sides, numbered from 0 on: int32 [T]."""
    numbers, sides = {}, []
    for names in (trials.enrol_ids, trials.test_ids):
        found = map(speaker_of, names)
        found = [numbers.setdefault(x, len(numbers)) for x in found]
        sides.append(np.array(found, dtype=np.int32))
    return sides[0][trials.enrol_index], sides[1][trials.test_index]


def table(metrics):
    """Metrics (list name -> figures) as text: a row per list and per condition."""
    first = next(iter(metrics.values()))
    costs = {"act_dcf": "actDCF", "cllr": "Cllr", "min_cllr": "minCllr"}
    costs = {key: name for key, name in costs.items() if key in first}
    rows = [
        ["trial list", "EER %", "(95 %)", "minDCF", "(95 %)", *costs.values()]
        + ["trials", "speakers"]
    ]
    for name, found in metrics.items():
        parts = found.get("conditions", {}).items()
        for title, part in [(name, found), *((f"  {x}", y) for x, y in parts)]:
            row = [title, _number(part["eer"], 100, 2)]
            row.append(_interval(part.get("eer_ci"), 100, 2))
            row.append(_number(part["min_dcf"], 1, 4))
            row.append(_interval(part.get("min_dcf_ci"), 1, 3))
            row += [_number(part[x], 1, 3) if x in part else "" for x in costs]
            row += [f"{part['n_trials']:,}", str(part.get("n_speakers", ""))]
            rows.append(row)
    first_width, *widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join([row[0].ljust(first_width), *map(str.rjust, row[1:], widths)])
        for row in rows
    ]
    lines.append(
        f"minDCF at p_target = {first['p_target']}; intervals over speakers"
    )
    for name, found in metrics.items():
        lines += [f"{name}: {remark}" for remark in found.get("remarks", ())]
    return "\n".join(map(str.rstrip, lines))


def _number(value, factor, digits):
    return "-" if value is None else f"{factor * value:.{digits}f}"


def _interval(values, factor, digits):
    found = [_number(x, factor, digits) for x in values or ()]
    return f"({'-'.join(found)})" if found else ""
