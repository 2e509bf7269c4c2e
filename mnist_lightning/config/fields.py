"""Types of values that several groups of the configuration have, and what a group is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ImportPath = Annotated[str, Field(alias="_target_", pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)+$")]
Whole = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]


class Group(BaseModel):
    """A group whose class may take further arguments."""

    # strict: "1" is no number and true is no integer, so that a value means what it looks like.
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    target: ImportPath


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
