"""Special functions in a form that a compiler can vectorise: no branches, no library calls.

In the subset of Python of theory.generation.native.
"""

from math import pi, sqrt


def arcsin(x: float) -> float:
    """arcsin(x) for |x| ≤ 1, within 4e-16 and within two units in the last place; NaN outside.

    With z = x² below 1/2 and z = (1 − |x|)/2 above, arcsin √z = √z (1 + z p(z)), where p is the
    polynomial that interpolates at the Chebyshev nodes of [0, 1/4] (relative error 4e-18); above
    1/2, arcsin x = π/2 − 2 arcsin √z.
    """
    a = abs(x)
    small = a < 0.5
    z = x * x if small else 0.5 * (1.0 - a)
    r = a if small else sqrt(z)
    p = 0.02877844261259304
    p = p * z + -0.014881409392818066
    p = p * z + 0.017419357964884856
    p = p * z + 0.00545087818772055
    p = p * z + 0.010324318288744113
    p = p * z + 0.011478952690257387
    p = p * z + 0.013971235301124539
    p = p * z + 0.017352391265909227
    p = p * z + 0.022372173002005596
    p = p * z + 0.030381944137085216
    p = p * z + 0.04464285714637338
    p = p * z + 0.07499999999998425
    p = p * z + 0.16666666666666669
    s = r + r * (z * p)
    s = s if small else 1.5707963267948966 - 2.0 * s
    return s if x >= 0.0 else -s


def arctan2(y: float, x: float) -> float:
    """The angle of the point (x, y), within 1e-15; 0 at the origin."""
    a = abs(y)
    b = abs(x)
    r = arcsin(min(a, b) / sqrt(a * a + b * b + 1e-300))
    r = r if a <= b else 0.5 * pi - r
    r = r if x >= 0.0 else pi - r
    return r if y >= 0.0 else -r
