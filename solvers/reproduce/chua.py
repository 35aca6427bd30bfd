"""Chua, Lei & Lee: how fine-tuning allows for effective meta-learning."""

from solvers.reproduce.row import Statement

TITLE = (
    "Chua, Lei & Lee 2021, how fine-tuning allows for effective meta-learning (arXiv:2105.02221)"
)
STATEMENTS: tuple[Statement, ...] = ()
