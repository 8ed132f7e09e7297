"""Settings of the stage `review`."""

from __future__ import annotations

from pydantic import Field

from buffycoat.core.settings import Settings


class FindSuspects(Settings):
    """From where on an image is one that a person should look at; it changes no label."""

    quantile: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="Suspect if at least this share of the training images has a lower energy, or a smaller distance of"
        " the embedding to the nearest class. 0.99 is a list's length, not a test: it takes about one training image in"
        " a hundred by each, and more of others where those differ. An image is suspect too if at least this share of"
        " the training images has a higher probability.",
    )


class Review(Settings):
    """Settings of the stage."""

    find_suspects: FindSuspects = FindSuspects()
