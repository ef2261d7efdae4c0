"""Templates to pages, and pictures that take the page's colours."""

import re

import jinja2
from markupsafe import Markup

from speechbrain_scl.evaluation import plots
from speechbrain_scl.files import atomic_write

MISSING = "–"


def write_page(path, template, **content):
    """Fills a template; whatever is no markup is escaped.

    Arguments
    ---------
    path : str
        The file.
    template : str
        Its name, in ``templates``.
    **content
        What the template names.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("speechbrain_scl.evaluation.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(rate=rate, cost=cost, interval=interval)
    environment.globals.update(cost=cost)
    with atomic_write(path) as file:
        file.write(environment.get_template(template).render(content))


def rate(value):
    """An error rate, in per cent.

    Arguments
    ---------
    value : float or None
        In [0, 1].

    Returns
    -------
    str

    Example
    -------
    >>> rate(0.0421)
    '4.21'
    """
    return MISSING if value is None else f"{100 * value:.2f}"


def cost(value):
    """A detection cost or a threshold.

    Arguments
    ---------
    value : float or None
        The number.

    Returns
    -------
    str

    Example
    -------
    >>> cost(0.5), cost(None)
    ('0.500', '–')
    """
    return MISSING if value is None else f"{value:.3f}"


def interval(values, spell=rate):
    """A confidence interval.

    Arguments
    ---------
    values : list of float or None
        Its ends.
    spell : callable
        A number to text.

    Returns
    -------
    str
        Empty without an interval.

    Example
    -------
    >>> interval([0.031, 0.054])
    '3.10 to 5.40'
    """
    return " to ".join(map(spell, values)) if values else ""


def picture(figure, text):
    """A figure as an <svg> element in the colours of the page around it.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
        Drawn in black on white.
    text : str
        What it shows, for those who do not see it.

    Returns
    -------
    markupsafe.Markup
    """
    svg = plots.svg(figure)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Several pictures share a page, where a name may occur once.
    svg = re.sub(
        r' id="([^"]+)"',
        lambda found: found[0] if f"#{found[1]}" in svg else "",
        svg,
    )
    svg = svg.replace("#000000", "currentColor").replace("#ffffff", "none")
    label = Markup('<svg role="img" aria-label="{}"').format(text)
    return Markup(svg.replace("<svg", label, 1))
