"""Volume -> tokens at three scales."""
