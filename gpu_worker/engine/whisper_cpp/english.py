"""Models that know English alone, whose names end with `.en`. Pure."""

from schemas.languages import AUTO
from schemas.options import Task, TranscribeOptions

ENGLISH = "en"
"""Their only language."""


def beyond_english(options: TranscribeOptions) -> str | None:
    """Return the sentence for what a model of English alone cannot do; None where it can."""
    if options.language not in (AUTO, ENGLISH):
        return f"The model speaks English only, so that `language={options.language}` needs another one."
    if options.task is Task.TRANSLATE:
        return "The model speaks English only, so that `task=translate` needs another one."
    return None
