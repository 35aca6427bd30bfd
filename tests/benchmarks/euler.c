/* Soft committee with erf units and a fixed head: the closed equations of Saad and Solla,
   Phys. Rev. E 52, 4225 (1995), with the four-point average by one rank-two update per pair, and
   Euler steps of them. C (N, N) is the covariance of all fields, the K learner units first;
   s = (-w, u). */
#include <math.h>

enum { MOST = 256 };
static const double TWO_PI = 0.63661977236758134308; /* 2/pi */

static double noise(int n, int k, int l, const double *C, const double *s)
{
    double tk[MOST], tl[MOST], root[MOST], sum = 0.0;
    const double *Ck = C + k * n, *Cl = C + l * n;
    double vk = 1.0 + Ck[k], vl = 1.0 + Cl[l], o = Ck[l], det = vk * vl - o * o;
    for (int c = 0; c < n; c++) {
        tk[c] = (vl * Ck[c] - o * Cl[c]) / det;
        tl[c] = (vk * Cl[c] - o * Ck[c]) / det;
        root[c] = 1.0 / sqrt(1.0 + C[c * n + c] - tk[c] * Ck[c] - tl[c] * Cl[c]);
    }
    for (int c = 0; c < n; c++) {
        double row = 0.0, a = root[c], x = tk[c], y = tl[c];
        const double *Cc = C + c * n;
        for (int d = 0; d < n; d++)
            row += s[d] * asin((Cc[d] - x * Ck[d] - y * Cl[d]) * a * root[d]);
        sum += s[c] * row;
    }
    return TWO_PI * TWO_PI * sum / sqrt(det);
}

/* sum_c s_c <g'(x_k) x_j g(x_c)> */
static double drift(int n, int k, int j, const double *C, const double *s)
{
    double v = 1.0 + C[k * n + k], sum = 0.0;
    for (int c = 0; c < n; c++) {
        double kc = C[k * n + c], under = v * (1.0 + C[c * n + c]) - kc * kc;
        sum += s[c] * (C[j * n + c] * v - C[k * n + j] * kc) / sqrt(under);
    }
    return TWO_PI * sum / v;
}

void rate(int K, int n, const double *C, const double *s, double eta, double *out)
{
    for (int k = 0; k < K; k++) {
        for (int l = 0; l <= k; l++)
            out[k * n + l] = out[l * n + k] =
                -eta * (s[k] * drift(n, k, l, C, s) + s[l] * drift(n, l, k, C, s))
                + eta * eta * s[k] * s[l] * noise(n, k, l, C, s);
        for (int j = K; j < n; j++)
            out[k * n + j] = out[j * n + k] = -eta * s[k] * drift(n, k, j, C, s);
    }
    for (int i = K; i < n; i++)
        for (int j = K; j < n; j++)
            out[i * n + j] = 0.0;
}

void euler(int K, int n, double *C, const double *s, double eta, double dt, long steps)
{
    double out[MOST * MOST / 16];
    for (long step = 0; step < steps; step++) {
        rate(K, n, C, s, eta, out);
        for (int i = 0; i < n * n; i++)
            C[i] += dt * out[i];
    }
}
