"""Settings of the stage `review`."""

from __future__ import annotations

from pydantic import Field

from buffycoat.core.settings import Settings


class FindSuspects(Settings):
    """From where on an image is one that a person should look at; it changes no label."""

    energy_temperature: float = Field(
        default=1.0, gt=0, description="T of the energy -T logsumexp(z / T) of branch A's logits (arXiv 2010.03759: 1)."
    )
    components: int = Field(
        default=64,
        ge=1,
        description="Principal components of the embeddings that distances are measured in, at most: more than a rare"
        " class has cells, few enough that the shared covariance is well known.",
    )
    energy_quantile: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="Suspect if at least this share of the training images has a lower energy. 0.99 is a list's length,"
        " not a test: it takes about one training image in a hundred, and more of others where those differ.",
    )
    distance_quantile: float = Field(
        default=0.99, gt=0, le=1, description="The same of the distance of the embedding to the nearest class."
    )
    min_disagreement: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Suspect if the Jensen-Shannon divergence of the branches reaches this, bits. 0.8: both are about"
        " 97 % sure, each of another class (0.5: about 89 %).",
    )


class WriteSuspects(Settings):
    """How many suspects the page shows; the CSV has all."""

    most: int = Field(default=24, ge=0, description="Cells shown of each kind of suspicion, at most.")
    thumbnail_px: int = Field(default=120, ge=32, le=400, description="Side of the pictures, pixels.")


class Review(Settings):
    """Settings of the stage."""

    find_suspects: FindSuspects = FindSuspects()
    write_suspects: WriteSuspects = WriteSuspects()
