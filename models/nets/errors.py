"""What is wrong with files that networks are made from. Apart from the networks, since these need torch."""


class HuggingFaceError(ValueError):
    """A model of Hugging Face cannot be used; the message names it, and says what is supported."""


class WeightsFileError(ValueError):
    """A weights file cannot be used; the message names the file, the key, and what was expected."""
