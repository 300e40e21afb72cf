"""What can fail while something trains. Apart from what trains, since that needs torch."""


class TrainingError(RuntimeError):
    """The loss left the finite numbers."""


class NotConverged(ArithmeticError):
    """The marginals of the plan miss their weights by more than was asked."""
