"""Pictures as bytes: encoding our own, and checking and reducing those of others."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
MIN_SIDE = 16  # smaller ones are spacers and counters, and hold less than one patch
MAX_ASPECT = 8
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
KEPT_FORMATS = ("JPEG", "PNG")
JPEG_QUALITY = 95
# What a header may say without the bytes carrying a camera's or a person's data.
HARMLESS_INFO = {
    *("jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression"),
    *("dpi", "gamma", "srgb"),
}


class Rejected(Exception):
    """An image or text that cannot be used; the message is a short reason, fit for counting."""


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 (height, width, 3) as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def checked_image(data: bytes, side: int) -> bytes:
    """An image from outside as a PNG or JPEG that is known to decode, without its metadata.

    One whose shorter side exceeds `side` is reduced to it; none is enlarged. A plain RGB JPEG or
    PNG that needs neither reducing nor turning is kept byte for byte.

    Raises:
        Rejected: it is too large, too small, too elongated, or does not decode.
    """
    if len(data) > MAX_BYTES:
        raise Rejected("too many bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        # Only the header has been read so far: a bomb is refused before it unpacks.
        if image.width * image.height > MAX_PIXELS:
            raise Rejected("too many pixels")
        if min(image.size) < MIN_SIDE:
            raise Rejected("too small")
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise Rejected("too elongated")
        image.load()
        upright = ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Rejected("too many pixels") from None
    # Pillow's decoders raise all of these on damaged files.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, MemoryError):
        raise Rejected("not an image") from None
    plain = image.mode == "RGB" and not image.info.keys() - HARMLESS_INFO
    if plain and image.format in KEPT_FORMATS and min(image.size) <= side:
        return data
    return _reduced(upright, side, "PNG" if image.format == "PNG" else "JPEG")


def _reduced(image: Image.Image, side: int, format: str) -> bytes:
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        opaque = image.convert("RGBA")
        image = Image.new("RGBA", image.size, "white")
        image.alpha_composite(opaque)
    image = image.convert("RGB")
    if min(image.size) > side:
        scale = side / min(image.size)
        size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format, **({"quality": JPEG_QUALITY} if format == "JPEG" else {}))
    return buffer.getvalue()
