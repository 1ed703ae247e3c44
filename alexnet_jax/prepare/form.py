"""The form in which a store keeps its images: their size and encoding."""

from dataclasses import dataclass

from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals.base import Original
from alexnet_jax.prepare.request import Request

STANDARD_SIDE = 256  # pixels, paper §2


@dataclass(frozen=True)
class Form:
    """The size and encoding of the stored images.

    side: pixels.
    resize: True resizes the shorter side to `side` and keeps the centre. False requires images of
      side×side pixels.
    encoding: "raw" or "jpeg".
    skip_bad: True leaves out images that cannot be used, False stops at the first one.
    """

    side: int
    resize: bool
    encoding: str
    skip_bad: bool


def choose_form(request: Request, original: Original) -> Form:
    """Returns the requested form; by default 256 pixels, or unchanged if small and of one size.

    Raises UserError if images of different sizes are to be stored unchanged.
    """
    size, common = request.image_size, original.common_size
    if size is None:
        # CIFAR-10 enlarged to 256 pixels would take 64 times the space and show nothing new.
        small = common is not None and common[0] == common[1] <= STANDARD_SIDE
        size = 0 if small else STANDARD_SIDE
    if size == 0 and (common is None or common[0] != common[1]):
        raise UserError("--image_size=0: the images are not all squares of one size; give a side")
    return Form(
        side=size or common[0],
        resize=size > 0,
        # Images that are kept as they are stay exact: JPEG would change their pixels.
        encoding=request.encoding or ("jpeg" if size else "raw"),
        skip_bad=request.on_bad_image == "skip",
    )
