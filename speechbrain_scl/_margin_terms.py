"""The margin-contrastive loss of a block of anchors, in three pieces.

In the symbols of ``speechbrain_scl.losses.SupConMarginLoss``, with A_ia = 1
where there is no attention, the loss of anchor i is

    L_i = sum_{p in P(i)} (log D_ip - s'_ip) / |P(i)|

    s_ia  = cos(theta_ia) / tau        the logit of a pair
    s'_ip = cos(theta_ip + m) / tau    of a positive with its margin
    N_i   = sum_{a not in P(i)} A_ia exp(s_ia)              the negatives
    D_ip  = N_i + sum_{q in P(i)} exp(s_iq)

With a margin in the denominator, s'_iq stands there for q = p or for all q.
With attention on the logits, A_ia multiplies s_ia and s'_ip instead of the
exponential. What is called attention below is A_ia there, and log A_ia where
it acts on the negatives: each multiplies, or adds to, a logit.
"""

import math
from typing import NamedTuple

import torch


class Options(NamedTuple):
    """The options of ``SupConMarginLoss`` that the equations hold."""

    margin: float
    temperature: float
    margin_type: str
    margin_in_denominator: str
    attention_on: str


class Negatives(NamedTuple):
    """N_i = exp(top) sum_a exps_ia."""

    log_sum: torch.Tensor  # log N_i, [rows, 1]
    top: torch.Tensor  # [rows, 1]
    exps: torch.Tensor  # [rows, others], 0 where there is no negative
    logits: torch.Tensor | None  # s_ia, [rows, others], kept for A's slope


def negatives_of(logits, attention, columns, options, keep_logits):
    """N_i = sum_a A_ia exp(s_ia), or sum_a exp(A_ia s_ia).

    Arguments
    ---------
    logits : torch.Tensor
        s_ia, [rows, others]; its memory is used up.
    attention : torch.Tensor or None
        The same shape.
    columns : Columns
        Knows which of them are no negatives.
    options : Options
        The options.
    keep_logits : bool
        Whether ``slopes_of`` will need them.

    Returns
    -------
    Negatives
    """
    kept = None
    if attention is not None and options.attention_on == "logits":
        kept = logits.clone() if keep_logits else None
        logits.mul_(attention)
    elif attention is not None:
        logits.add_(attention)
    columns.hide(logits)
    # Leaving exp(logit - top) in the large matrix.
    top = logits.amax(1, keepdim=True)
    # An anchor without a negative: -inf - -inf would be NaN.
    top.clamp_min_(torch.finfo(top.dtype).min)
    exps = logits.sub_(top).exp_()
    log_sum = exps.sum(1, keepdim=True).log_().add_(top)
    return Negatives(log_sum, top, exps, kept)


class Positives(NamedTuple):
    """L_i and what follows from it."""

    losses: torch.Tensor  # L_i, [rows, 1]
    slopes: torch.Tensor  # of L_i in cos(theta_ip), [rows, positives]
    # of L_i in A_ip, [rows, positives]; None where it does not act on them
    pairs: torch.Tensor | None
    log_d: torch.Tensor  # log of the harmonic mean of D_ip over p, [rows, 1]


def positives_of(cos, sin, attention, no_pair, log_n, options):
    """L_i = sum_p (log D_ip - s'_ip) / |P(i)|, and its slope in cos(theta_ip).

        d L_i / d s'_ip = -1 / |P(i)|     and, where s_iq (s'_iq) is in D_ip,
        d L_i / d s_iq  = exp(s_iq) sum_p 1 / (|P(i)| D_ip)

    Arguments
    ---------
    cos, sin : torch.Tensor
        Of theta_ip, [rows, positives].
    attention : torch.Tensor or None
        The same shape; only what acts on the logits.
    no_pair : torch.Tensor
        Which of the entries are no positives, the same shape.
    log_n : torch.Tensor
        log N_i, [rows, 1].
    options : Options
        The options.

    Returns
    -------
    Positives
    """
    tau = options.temperature
    # 1 / |P(i)| at each positive of anchor i, 0 elsewhere.
    share = no_pair.logical_not().to(cos.dtype)
    share /= share.sum(1, keepdim=True)

    cos_margin, slope_margin = add_margin(cos, sin, options)
    plain, margined = cos / tau, cos_margin / tau
    if attention is not None:
        plain, margined = plain * attention, margined * attention

    plain.masked_fill_(no_pair, -math.inf)
    gain = (margined * share).sum(1, keepdim=True)
    if options.margin_in_denominator == "positive":
        others = _logsumexp_of_others(plain)
        margined.masked_fill_(no_pair, -math.inf)
        log_d = log_n.logaddexp(others).logaddexp(margined)
        inverse_d = (-log_d).masked_fill_(no_pair, -math.inf)
        grad_margined = (margined - log_d).exp_() * share
        grad_plain = (plain + _logsumexp_of_others(inverse_d)).exp_()
        grad_plain *= share.amax(1, keepdim=True)
        grad_margined -= share
        losses = (log_d * share).sum(1, keepdim=True) - gain
        log_d = -(inverse_d + share.log()).logsumexp(1, keepdim=True)
    else:
        in_all = options.margin_in_denominator == "all_positives"
        inside = margined.masked_fill_(no_pair, -math.inf) if in_all else plain
        log_d = log_n.logaddexp(inside.logsumexp(1, keepdim=True))
        grad_plain, grad_margined = inside.sub_(log_d).exp_(), -share
        if in_all:
            grad_margined += grad_plain
            grad_plain.zero_()
        losses = log_d - gain

    slopes = torch.addcmul(grad_plain, grad_margined, slope_margin).div_(tau)
    pairs = None
    if attention is not None:
        slopes *= attention
        pairs = (grad_plain * cos + grad_margined * cos_margin) / tau
    return Positives(losses, slopes, pairs, log_d)


def slopes_of(negatives, attention, log_d, options, wants_pairs):
    """d L_i / d s_ia = A_ia exp(s_ia) sum_p 1 / (|P(i)| D_ip), in the cosine.

    Arguments
    ---------
    negatives : Negatives
        Their memory is used up.
    attention : torch.Tensor or None
        [rows, others].
    log_d : torch.Tensor
        Of ``Positives``.
    options : Options
        The options.
    wants_pairs : bool
        Whether the slope in A_ia is wanted.

    Returns
    -------
    slopes, pairs : torch.Tensor
        In cos(theta_ia) and in A_ia (or None), [rows, others]; 0 where there
        is no negative.
    """
    tau = options.temperature
    slopes = negatives.exps.mul_((negatives.top - log_d).exp_().div_(tau))
    pairs = None
    if attention is not None and options.attention_on == "logits":
        pairs = (slopes * negatives.logits).mul_(tau) if wants_pairs else None
        slopes.mul_(attention)
    elif wants_pairs:
        pairs = (slopes / attention.exp()).mul_(tau)
    return slopes, pairs


def add_margin(cos, sin, options):
    """cos(theta + m), monotone over the whole circle, and its slope in cos.

    The slope holds cos / sin(theta), infinite at theta = 0; what reaches the
    embedding is that times the chord, so that a floor under the sine touches
    identical embeddings only.

    Arguments
    ---------
    cos, sin : torch.Tensor
        Of theta.
    options : Options
        The options.

    Returns
    -------
    margined, slope : torch.Tensor
        The shape of cos.
    """
    if options.margin_type == "cosine":
        return cos - options.margin, torch.ones_like(cos)
    cos_m, sin_m = math.cos(options.margin), math.sin(options.margin)
    margined = (cos * cos_m).sub_(sin, alpha=sin_m)
    floor = torch.finfo(cos.dtype).eps
    slope = (cos / sin.clamp_min(floor)).mul_(sin_m).add_(cos_m)
    past_pi = cos < -cos_m
    margined = torch.where(past_pi, cos + (cos_m - 1.0), margined)
    return margined, slope.masked_fill_(past_pi, 1.0)


def _logsumexp_of_others(x):
    """log sum_{q != p} exp(x_q) along dim 1, without cancellation.

    Sums from the left and from the right meet around the one left out.
    """
    none = torch.full_like(x[:, :1], -math.inf)
    left = torch.cat([none, x[:, :-1]], 1).logcumsumexp(1)
    right = torch.cat([none, x.flip(1)[:, :-1]], 1).logcumsumexp(1).flip(1)
    return left.logaddexp(right)
