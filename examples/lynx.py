"""Rates of births and deaths of hares and lynxes, from 21 years of furs.

The Hudson's Bay Company counted furs from 1900 to 1920 (Elton and Nicholson 1942, in thousands).
Both populations follow the equations of Lotka and Volterra, whose coefficients are unknown. The
counts scatter by factors, so the logarithms are the solution.

    python examples/lynx.py
"""

import jax.numpy as jnp
import numpy as np

from downslope.recipes.equation import Equation, derivative, interval

HARES = [30, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22, 25.4, 27.1, 40.3, 57, 76.6, 52.3, 19.5,
         11.2, 7.6, 14.6, 16.2, 24.7]  # fmt: skip
LYNXES = [4, 6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1, 7.4, 8, 12.3, 19.5, 45.7, 51.1, 29.7,
          15.8, 9.7, 10.1, 8.6]  # fmt: skip


def lotka_volterra(u, t, c):
    """Residuals of both equations for the logarithms of hares and lynxes."""
    hares, lynxes = jnp.exp(u(t))
    slope = derivative(u, t, 0)
    births = c["births"] - c["hunting"] * lynxes
    return jnp.stack([slope[0] - births, slope[1] - (c["feeding"] * hares - c["deaths"])])


def main(seconds: float = 20.0) -> None:
    """Estimate the coefficients and print them."""
    years = np.arange(21.0)[:, None]
    equation = Equation(
        lotka_volterra,
        interval(0, 20),
        data=(years, np.log(np.stack([HARES, LYNXES], axis=1))),
        num_outputs=2,
        coefficients={"births": 0.5, "hunting": 0.02, "deaths": 0.5, "feeding": 0.02},
    )
    found = equation.solve(seconds=seconds, first_order_share=0, hidden=(24, 24))
    print(found.describe())


if __name__ == "__main__":
    main()
