"""Wang, Yip & Li: meta-learning representation in the teacher-student scenario."""

from solvers.reproduce.row import Statement

TITLE = "Wang, Yip & Li 2024, meta-learning in the teacher-student scenario (arXiv:2408.12545)"
STATEMENTS: tuple[Statement, ...] = ()
