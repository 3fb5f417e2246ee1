"""The types of single values that several sections of the settings share, and what all sections are."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cluster.core.limits import MAX_PER_DAY, MAX_PER_MIN

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
PerMinute = Annotated[int, Field(ge=1, le=MAX_PER_MIN)]
PerDay = Annotated[int, Field(ge=1, le=MAX_PER_DAY)]
PoolName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
"""Serve application name and route prefix: lower-case letters, digits, dots and dashes, at most 63."""
TenantName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""Lower-case letters, digits and dashes, at most 63: it is a file name, a Secret entry and a metric label."""
HostPort = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^\s:/]+):[0-9]{1,5}$")]
"""``host:port``; an IPv6 host in square brackets."""
GptOss = Literal["gpt-oss-120b", "gpt-oss-20b"]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""A model or an alias, as clients name it."""


class Section(BaseModel):
    """A part of the document: frozen, and without keys that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, strict=False)
