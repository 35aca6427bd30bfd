"""What the theory says when it cannot answer."""


class NoClosedFormError(NotImplementedError):
    """No rule brings this Gaussian average to a closed form."""


class DomainError(ValueError):
    """A matrix is no covariance: some correlation lies beyond ±1, or some variance below zero."""


class NoTheoryError(ValueError):
    """The combination has no closed theory; the message says which and why."""
