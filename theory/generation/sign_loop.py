"""The sign moment of four fields as a loop, in the subset of theory.generation.native."""

from math import nan, pi, sqrt

from theory.gaussian.plackett import (
    COUNTS,
    LEAST,
    REACH,
    SINGULAR,
    SLACK,
    explained_of,
    half_of,
    integrand_of,
    legendre,
    volume_of,
)

NAN = nan
RULES = tuple(
    float(number)
    for reach, count in zip((*REACH[:-1], 2.0), COUNTS, strict=True)
    for number in (reach, count, *legendre(count)[0], *legendre(count)[1])
)
"""One quadrature after the other: up to which h it is enough, its length, nodes, weights."""


def sign_moment(
    rho12: float, rho13: float, rho14: float, rho23: float, rho24: float, rho34: float
) -> float:  # fmt: skip
    """A_4 as by theory.gaussian.plackett; NaN where the correlations are those of no Gaussian."""
    v1 = volume_of(rho23, rho24, rho34)
    v2 = volume_of(rho13, rho14, rho34)
    v3 = volume_of(rho12, rho14, rho24)
    v4 = volume_of(rho12, rho13, rho23)
    volume = min(min(v1, v2), min(v3, v4))
    a = rho12
    b = rho13
    c = rho14
    d = rho23
    e = rho24
    f = rho34
    if volume == v4:
        a = rho14
        b = rho24
        c = rho34
        d = rho12
        e = rho13
        f = rho23
    else:
        if volume == v3:
            a = rho13
            b = rho23
            c = rho34
            d = rho12
            e = rho14
            f = rho24
        else:
            if volume == v2:
                b = rho23
                c = rho24
                d = rho13
                e = rho14
    explained = explained_of(a, b, c, d, e, f)
    ratio = explained / volume if volume > SINGULAR else 1.0
    radius = sqrt(min(max(ratio, LEAST), 1.0))
    half = half_of(radius)
    place = 0
    while RULES[place] < half:
        place = place + 2 + 2 * int(RULES[place + 1])
    count = int(RULES[place + 1])
    total = 0.0
    for i in range(count):
        node = RULES[place + 2 + i]
        value = integrand_of(node, half, radius, volume, explained, a, b, c, d, e, f)
        total += RULES[place + 2 + count + i] * value
    gaussian = min(volume, volume - explained) >= -SLACK
    return 4.0 / (pi * pi) * half / radius * total if gaussian else NAN
