"""Special functions in a form that a compiler can vectorise: no branches, no library calls.

In the subset of Python of theory.generation.native.
"""

from math import copysign, floor, ldexp, pi, sqrt


def arcsin(x: float) -> float:
    """arcsin(x) for |x| ≤ 1, within 4e-16 and within two units in the last place; NaN outside.

    With z = x² below 1/2 and z = (1 − |x|)/2 above, arcsin √z = √z (1 + z p(z)), where p is the
    polynomial that interpolates at the Chebyshev nodes of [0, 1/4] (relative error 4e-18), its even
    and its odd part apart, so that they run side by side; above 1/2, arcsin x = π/2 − 2 arcsin √z.
    """
    a = abs(x)
    small = a < 0.5
    z = x * x if small else 0.5 * (1.0 - a)
    r = a if small else sqrt(z)
    y = z * z
    p = 0.02877844261259304
    p = p * y + 0.017419357964884856
    p = p * y + 0.010324318288744113
    p = p * y + 0.013971235301124539
    p = p * y + 0.022372173002005596
    p = p * y + 0.04464285714637338
    p = p * y + 0.16666666666666669
    q = -0.014881409392818066
    q = q * y + 0.00545087818772055
    q = q * y + 0.011478952690257387
    q = q * y + 0.017352391265909227
    q = q * y + 0.030381944137085216
    q = q * y + 0.07499999999998425
    p = p + z * q
    s = r + r * (z * p)
    s = s if small else 1.5707963267948966 - 2.0 * s
    return copysign(s, x)


def arctan2(y: float, x: float) -> float:
    """The angle of the point (x, y), within 1e-15; 0 at the origin."""
    a = abs(y)
    b = abs(x)
    r = arcsin(min(a, b) / sqrt(a * a + b * b + 1e-300))
    r = r if a <= b else 0.5 * pi - r
    r = r if x >= 0.0 else pi - r
    return r if y >= 0.0 else -r


def two_to(power: float) -> float:
    """2^n of a whole number n; machine code puts n into the exponent's bits."""
    return ldexp(1.0, int(power))


def exp(x: float) -> float:
    """e^x within two units in the last place: 2^n times Taylor's polynomial on |r| ≤ ln(2)/2."""
    y = -708.0 if x < -708.0 else x
    y = 709.0 if y > 709.0 else y
    n = floor(y * 1.4426950408889634 + 0.5)
    r = y - n * 0.6931471803691238 - n * 1.9082149292705877e-10
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * two_to(n)


def erf_given(x: float, gauss: float) -> float:
    """erf(x/√2) within 5e-16, given gauss = exp(−x²/2).

    erfc(y) exp(y²) is a polynomial in (y − 2.5)/(y + 2.5), fitted for y in [0, 6] by least squares
    with the weight exp(−y²).
    """
    a = abs(x)
    t = (a - 3.5355339059327378) / (a + 3.5355339059327378)
    p = 4.6636011495286034e-07
    p = p * t + 4.726680858518574e-06
    p = p * t + 1.9386063460496475e-05
    p = p * t + 3.197486445079098e-05
    p = p * t + -2.3433359173474227e-05
    p = p * t + -0.00012259410302735985
    p = p * t + 0.0002310420600682881
    p = p * t + 0.0008767140597102497
    p = p * t + -0.0026422054938296676
    p = p * t + -0.003993682531549114
    p = p * t + 0.03992253959501855
    p = p * t + -0.12503305253577401
    p = p * t + 0.25171319319825725
    p = p * t + -0.37173673394960627
    p = p * t + 0.21080636406114642
    r = 1.0 - gauss * p
    return r if x >= 0.0 else -r
