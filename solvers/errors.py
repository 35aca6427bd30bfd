"""The one-line error of a user."""


class ExperimentError(ValueError):
    """What a user wrote cannot be used: one line that names the key and the remedy."""

    def __init__(self, message: object) -> None:
        line = " ".join(str(message).split())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))
