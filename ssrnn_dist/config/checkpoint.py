"""The section of a run that says when it is saved, and what stays.

Each field is read somewhere; its unit is in its name; imports pydantic only."""

import re

from pydantic import Field, model_validator

from ssrnn_dist.config.base import PositiveInt, Section, outlives_no_process


class CheckpointSection(Section):
    """When a run is saved, and which checkpoints stay."""

    every_steps: PositiveInt = Field(200, description="steps between checkpoints; the last step is always saved")
    every_seconds: float | None = Field(None, gt=0, description="also once so many seconds have passed; null: no")
    keep: PositiveInt = Field(2, description="newest checkpoints that stay")
    keep_every_steps: PositiveInt | None = Field(None, description="checkpoints at its multiples stay, too; null: none")
    asynchronous: bool = Field(True, description="written in the background while training goes on")
    uri: str | None = Field(
        None, description="an fsspec URL with the place of a second copy, <uri>/<name>/checkpoints; null: none"
    )

    @model_validator(mode="after")
    def uri_is_a_plain_url(self) -> "CheckpointSection":
        uri = self.uri or "any://place"
        if re.search(r"://[^/@]*:[^/@]*@", uri):
            raise ValueError("uri: a password in the URL; one without is allowed: keys come from the environment")
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", uri) or "::" in uri:
            raise ValueError(f"uri: {uri!r}; an fsspec URL such as s3://bucket/folder is allowed, or null")
        if outlives_no_process(uri):
            raise ValueError(f"uri: {uri}, which is gone with its process; s3://bucket/folder is allowed, or null")
        return self
