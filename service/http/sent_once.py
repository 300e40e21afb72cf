"""Headers that may come once: where there are two, a server in front may have gone by the other one."""

from starlette.datastructures import Headers

from service.errors import FieldError, InvalidField


def sent_once(headers: Headers, name: str) -> str | None:
    """The value of this header; None where it was not sent, InvalidField where it was sent more than once."""
    values = headers.getlist(name)
    if len(values) > 1:
        raise InvalidField([FieldError(name, "was sent more than once; send it once")])
    return values[0] if values else None
