"""Settings of the stage `bundle`."""

from __future__ import annotations

from pydantic import Field

from buffycoat.core.settings import Settings


class PackBundle(Settings):
    """What a bundle says of itself (`buffycoat run my.yaml -- pack_bundle`)."""

    name: str = Field(default="white blood cells", min_length=1, max_length=200, description="Title of the model card.")
    description: str = Field(
        default="", description="What the images are: stain, scanner, magnification, where from; for the model card."
    )
    licence: str = Field(
        default="", description="Under what terms others may use the bundle; empty: the card says that none is stated."
    )
    contact: str = Field(default="", description="Whom to ask; for the model card.")


class Bundle(Settings):
    """Settings of the stage."""

    pack_bundle: PackBundle = PackBundle()
