"""Every mistake a user can make, as one sentence.

Library code raises these and never prints; the command line shows the sentence and exits with code 2.
A message names the file, line or option and the way out.

    RetrieverError
    ├── DataError       a corpus, query or judgment file that is missing, empty or mangled
    │   └── BadRecordError  the last of these, of which the record alone could be left out
    ├── RecipeError     an unknown recipe, an unknown key, a value out of range, keys that contradict each other
    ├── ModelError      a folder that holds no model, or a model that does not fit the job
    ├── IndexFolderError  an index folder that is missing, damaged, or built by another model
    │   └── OtherModelError  the last of these
    ├── OutputError     a place that cannot be written: it exists already, or the disk is full
    │   └── BusyError   an index that another process is writing
    └── ServerError     a server that cannot start, cannot be reached, or refuses a request
"""


class RetrieverError(Exception):
    """Base of all errors a user can cause and mend."""


class DataError(RetrieverError):
    """A corpus, query or judgment file is missing, empty or mangled."""


class BadRecordError(DataError):
    """A record cannot be used, and could be left out."""


class RecipeError(RetrieverError):
    """A recipe is unknown, or one of its keys or values is wrong."""


class ModelError(RetrieverError):
    """A folder holds no model, or the model does not fit the job."""


class IndexFolderError(RetrieverError):
    """An index folder is missing, damaged, or was built by another model."""


class OtherModelError(IndexFolderError):
    """An index was built by another model than the one that is to search it."""


class OutputError(RetrieverError):
    """An output cannot be written: it exists already, or the disk is full."""


class BusyError(OutputError):
    """An index cannot be written now: another process is writing it."""


class ServerError(RetrieverError):
    """A server cannot start, cannot be reached, or refuses a request.

    Args:
        sentence: What is wrong and the way out.
        status: Of HTTP, if a server answered.
        kind: The server's name of the error.
        request_id: Under which the server's log has more.
    """

    def __init__(self, sentence: str, status: int | None = None, kind: str = "", request_id: str = "") -> None:
        super().__init__(sentence)
        self.status, self.kind, self.request_id = status, kind, request_id


def refuse_text(name: str, given: object) -> None:
    """See that texts are not given as one, whose letters would be taken for them.

    Args:
        name: What they are, in the plural.
        given: What was given.

    Raises:
        DataError: It is one text.
    """
    if isinstance(given, str):
        raise DataError(f"The {name} are the text {given!r}: give a list of {name}.")
