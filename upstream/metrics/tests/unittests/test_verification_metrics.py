"""Tests of EER and minDCF against every threshold, one at a time.

Authors
 * YOUR NAME 2026
"""

import pytest
import torch


def rates_one_by_one(positive, negative):
    """Thresholds, misses and false alarms as their definitions say."""
    thresholds = torch.unique(torch.cat([positive, negative]))
    between = (thresholds[:-1] + thresholds[1:]) / 2
    thresholds = torch.cat([thresholds, between]).sort().values
    p_miss = [(positive <= t).float().mean() for t in thresholds]
    p_fa = [(negative > t).float().mean() for t in thresholds]
    return thresholds, torch.stack(p_miss), torch.stack(p_fa)


@pytest.mark.parametrize("values", ["continuous", "ties", "one", "nan"])
@pytest.mark.parametrize("sizes", [(1, 1), (7, 30), (40, 40)])
def test_EER_and_minDCF(device, values, sizes):
    from speechbrain.utils.metric_stats import EER, minDCF

    generator = torch.Generator().manual_seed(sum(sizes))
    for _ in range(20):
        positive, negative = (
            torch.randn(size, generator=generator) + shift
            for size, shift in zip(sizes, (1.0, 0.0))
        )
        if values == "ties":
            positive, negative = positive.round(), negative.round()
        elif values == "one":
            positive, negative = positive * 0, negative * 0
        elif values == "nan":
            negative[0] = float("nan")
        thresholds, p_miss, p_fa = rates_one_by_one(positive, negative)
        best, expected = 0, None
        for i in range(len(thresholds)):
            distance = (p_fa[i] - p_miss[i]).abs().item()
            if expected is None or distance < expected:
                best = i
                expected = abs(p_fa[i].item() - p_miss[i].item())
        given = positive.to(device), negative.to(device)
        eer, threshold = EER(*given)
        assert eer == (p_fa[best].item() + p_miss[best].item()) / 2
        assert threshold == pytest.approx(float(thresholds[best]), nan_ok=True)
        cost = p_miss * 0.01 + p_fa * (1 - 0.01)
        min_dcf, threshold = minDCF(*given)
        assert min_dcf == pytest.approx(cost.min().item())
        best = thresholds[cost.argmin()].item()
        assert threshold == pytest.approx(best, nan_ok=True)
