"""The JSON of an inference request. What it means for a bundle is decided in `service.oip.calls`."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import FieldError, InvalidField, MalformedRequest, TooLarge

MAX_NESTED: Final = 150_000
"""Lists and objects of one request; ten pictures of 112 × 112 have 127,000. Python collects its garbage while it makes
them, so that a million would take half a second in which the process does nothing else."""
MAX_TENSORS: Final = 64
MAX_AXES: Final = 8
MAX_ERRORS: Final = 8
INT64_MAX: Final = 2**63 - 1
"""The largest whole number that the protocol has. JSON knows no end of digits, but a float and Python's text do."""

Size = Annotated[int, Field(ge=0, le=INT64_MAX)]
Name = Annotated[str, Field(max_length=128)]


class Message(BaseModel):
    """An object of the protocol: extended through its `parameters` only, so another key is a mistake."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Parameters(BaseModel):
    """Parameters of others are left alone, as clients send those of other servers too."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class InputParameters(Parameters):
    binary_data_size: Size | None = None
    """Bytes of the tensor behind the JSON; its `data` is left out then."""


class OutputParameters(Parameters):
    binary_data: bool | None = None
    """Whether this output comes behind the JSON; None leaves it to the request."""


class RequestParameters(Parameters):
    binary_data_output: bool = False
    timeout: Annotated[int, Field(gt=0, le=INT64_MAX)] | None = None
    """Microseconds from the headers on."""


class InputTensor(Message):
    name: Name
    shape: Annotated[list[Size], Field(max_length=MAX_AXES)]
    datatype: Name
    parameters: InputParameters = InputParameters()
    data: Any = None


class WantedOutput(Message):
    name: Name
    parameters: OutputParameters = OutputParameters()


class InferRequest(Message):
    id: str | None = None
    parameters: RequestParameters = RequestParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[list[WantedOutput], Field(max_length=MAX_TENSORS)] | None = None


def read_request(data: bytes) -> InferRequest:
    """A request of the protocol.

    Raises MalformedRequest where it is not JSON, TooLarge for too many lists, InvalidField where it is anything else.
    """
    if data.count(b"[") + data.count(b"{") > MAX_NESTED:
        raise TooLarge(f"the JSON has more than {MAX_NESTED} lists and objects; send `data` as one flat list, or bytes")
    try:
        return InferRequest.model_validate_json(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        if found[0]["type"] == "json_invalid":
            raise MalformedRequest(f"the request is not JSON: {found[0]['msg']}") from None
        raise InvalidField(
            [FieldError(".".join(map(str, one["loc"])) or "request", one["msg"]) for one in found[:MAX_ERRORS]]
        ) from None
