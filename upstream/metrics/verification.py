"""What takes the place of EER and minDCF in utils/metric_stats.py."""

import torch


def _error_rates(positive_scores, negative_scores):
    """Rates of misses and false alarms at all scores and halfway between.

    Arguments
    ---------
    positive_scores : torch.tensor
        The scores from entries of the same class.
    negative_scores : torch.tensor
        The scores from entries of different classes.

    Returns
    -------
    thresholds : torch.tensor
        In ascending order.
    p_miss : torch.tensor
        The share of positive scores that are not above each threshold.
    p_fa : torch.tensor
        The share of negative scores that are above each threshold.
    """
    # Computing candidate thresholds
    thresholds, _ = torch.sort(torch.cat([positive_scores, negative_scores]))
    thresholds = torch.unique(thresholds)

    # Adding intermediate thresholds
    intermediate_thresholds = (thresholds[0:-1] + thresholds[1:]) / 2
    thresholds, _ = torch.sort(torch.cat([thresholds, intermediate_thresholds]))

    # Counting in sorted scores; comparisons with NaN are false
    valid = ~thresholds.isnan()
    rates = []
    for scores, above in ((positive_scores, False), (negative_scores, True)):
        ordered = (
            scores[~scores.isnan()].to(thresholds.dtype).double().sort()[0]
        )
        count = torch.searchsorted(ordered, thresholds.double(), right=True)
        count = (len(ordered) - count if above else count) * valid
        rates.append(count.float() / scores.shape[0])
    return thresholds, rates[0], rates[1]


def EER(positive_scores, negative_scores):
    """Computes the EER (and its threshold).

    Arguments
    ---------
    positive_scores : torch.tensor
        The scores from entries of the same class.
    negative_scores : torch.tensor
        The scores from entries of different classes.

    Returns
    -------
    EER : float
        The EER score.
    threshold : float
        The corresponding threshold for the EER score.

    Example
    -------
    >>> positive_scores = torch.tensor([0.6, 0.7, 0.8, 0.5])
    >>> negative_scores = torch.tensor([0.4, 0.3, 0.2, 0.1])
    >>> val_eer, threshold = EER(positive_scores, negative_scores)
    >>> val_eer
    0.0
    """
    thresholds, FRR, FAR = _error_rates(positive_scores, negative_scores)

    # The first threshold where the rates are closest; where rounding to single
    # precision has made that distance larger than it is, the last one.
    distance = (FAR - FRR).abs()
    exact = (FAR.double() - FRR.double()).abs()
    closest = torch.nonzero(distance == distance.min()).flatten()
    min_index = 0
    if len(closest) > 0:
        reached = closest[exact[closest] <= distance[closest].double()]
        min_index = reached[0] if len(reached) > 0 else closest[-1]

    # It is possible that eer != fpr != fnr. We return (FAR  + FRR) / 2 as EER.
    EER = (FAR[min_index].item() + FRR[min_index].item()) / 2

    return float(EER), float(thresholds[min_index])


def minDCF(
    positive_scores, negative_scores, c_miss=1.0, c_fa=1.0, p_target=0.01
):
    """Computes the minDCF metric normally used to evaluate speaker verification
    systems. The min_DCF is the minimum of the following C_det function computed
    within the defined threshold range:

    C_det =  c_miss * p_miss * p_target + c_fa * p_fa * (1 -p_target)

    where p_miss is the missing probability and p_fa is the probability of having
    a false alarm.

    Arguments
    ---------
    positive_scores : torch.tensor
        The scores from entries of the same class.
    negative_scores : torch.tensor
        The scores from entries of different classes.
    c_miss : float
         Cost assigned to a missing error (default 1.0).
    c_fa : float
        Cost assigned to a false alarm (default 1.0).
    p_target: float
        Prior probability of having a target (default 0.01).

    Returns
    -------
    minDCF : float
        The minDCF score.
    threshold : float
        The corresponding threshold for the minDCF score.

    Example
    -------
    >>> positive_scores = torch.tensor([0.6, 0.7, 0.8, 0.5])
    >>> negative_scores = torch.tensor([0.4, 0.3, 0.2, 0.1])
    >>> val_minDCF, threshold = minDCF(positive_scores, negative_scores)
    >>> val_minDCF
    0.0
    """
    thresholds, p_miss, p_fa = _error_rates(positive_scores, negative_scores)

    c_det = c_miss * p_miss * p_target + c_fa * p_fa * (1 - p_target)
    c_min, min_index = torch.min(c_det, dim=0)

    return float(c_min), float(thresholds[min_index])
