"""The `petals` data set: flowers drawn by code, with nothing to download.

Every picture shows one bloom near the middle of a soft background. The petals, the
centre, position, size, rotation and tilt of the bloom, and the background vary.

Flowers are drawn in continuous coordinates, with random numbers that do not depend on
the image size, so a flower is the same at every size.
"""

import numpy as np

from ddpm_keras.errors import require

# Colours are (red, green, blue) in [0, 1].
MEADOW, NIGHT = (0.27, 0.45, 0.17), (0.05, 0.11, 0.06)
SKY, PALE = (0.55, 0.74, 0.92), (0.78, 0.84, 0.68)
YELLOW, LIME = (0.98, 0.80, 0.14), (0.66, 0.76, 0.22)
BROWN, DARK = (0.40, 0.20, 0.07), (0.16, 0.07, 0.12)

# Colours of the petals' tip and base, two centres that go with them, and the light
# background that sometimes replaces a green one.
PALETTES = (
    ((0.90, 0.10, 0.10), (0.56, 0.01, 0.07), (YELLOW, DARK), PALE),  # Red
    ((1.00, 0.66, 0.78), (0.88, 0.24, 0.50), (YELLOW, LIME), SKY),  # Pink
    ((0.92, 0.20, 0.62), (0.58, 0.02, 0.38), (YELLOW, DARK), PALE),  # Magenta
    ((0.66, 0.38, 0.88), (0.36, 0.10, 0.58), (YELLOW, LIME), PALE),  # Purple
    ((0.38, 0.52, 0.97), (0.15, 0.18, 0.68), (YELLOW, DARK), PALE),  # Blue
    ((1.00, 0.88, 0.20), (0.97, 0.62, 0.05), (BROWN, DARK), SKY),  # Yellow
    ((1.00, 0.60, 0.14), (0.88, 0.26, 0.05), (BROWN, YELLOW), SKY),  # Orange
    ((0.99, 0.98, 0.96), (0.82, 0.83, 0.80), (YELLOW, BROWN), SKY),  # White
    ((1.00, 0.55, 0.72), (1.00, 0.95, 0.92), (YELLOW, LIME), SKY),  # Pink, pale heart
    ((1.00, 0.82, 0.14), (0.75, 0.06, 0.04), (BROWN, DARK), SKY),  # Yellow, red heart
)

# Fewest and most petals, then the outline (rise, fall, fullness, notch) of a petal: its
# half-width at the fraction t of its length is proportional to
# t**rise * (1 - t)**fall; at fullness 1 it just about touches its neighbours; the notch
# is the depth of the cut in the tip. Leaves are drawn as petals too. The names are
# those of the classes.
SHAPES = {
    "round": (4, 8, 1.0, 0.45, 1.15, 0.0),
    "pointed": (5, 9, 1.0, 0.85, 1.20, 0.0),
    "notched": (4, 4, 1.2, 0.60, 0.80, 0.35),  # Hearts, apart from each other
    "narrow": (9, 13, 0.6, 0.30, 0.90, 0.0),  # Like a daisy
}
LEAF = (0.8, 0.90, 0.65, 0.0)

# Each pixel is the mean of SAMPLES x SAMPLES points, for smooth edges.
SAMPLES = 2
LUMINANCE = np.array([[0.299], [0.587], [0.114]], "float32")


def draw_flower(seed, index, img_size, img_channels=3):
    """Draw flower `index` of the data set with this seed, as `draw_flowers` has it.

    Returns:
        A uint8 array of shape `(height, width, img_channels)`, 0 to 255.
    """
    return draw_labelled_flower(seed, index, img_size, img_channels)[0]


def draw_labelled_flower(seed, index, img_size, img_channels=3):
    """Return the flower as `draw_flower` does, and the number of its shape."""
    height, width = _check_format(img_size, img_channels)
    rng = np.random.default_rng([seed, index])
    tip, base, centres, light = PALETTES[rng.integers(len(PALETTES))]
    background = (MEADOW, NIGHT, light)[rng.choice(3, p=(0.5, 0.3, 0.2))]

    y, x = _points(height, width)
    canvas = _background(rng, y, x, background)
    # Move the origin to the middle of the bloom.
    y, x = y - rng.uniform(-0.1, 0.1), x - rng.uniform(-0.1, 0.1)
    _stem(canvas, rng, y, x)
    shape = _bloom(canvas, rng, y, x, (tip, base), centres[rng.integers(2)])

    image = canvas.reshape(height, SAMPLES, width, SAMPLES, 3).mean((1, 3))
    image = np.clip(image, 0, 1)
    if img_channels == 1:
        image = image @ LUMINANCE
    return np.rint(255 * image).astype("uint8"), shape


def draw_flowers(num_images, img_size, img_channels=3, seed=0):
    """Draw the first `num_images` flowers of the data set with this seed.

    Args:
        num_images: Positive int.
        img_size: Int or `(height, width)`, in pixels. The bloom fits the shorter side.
        img_channels: 3 for colour (RGB), 1 for its luminance.
        seed: Non-negative int; another seed gives other flowers.

    Returns:
        A uint8 array of shape `(num_images, height, width, img_channels)`, 0 to 255.
        Image i depends only on `seed` and i.

    Raises:
        ValueError: When `num_images` or a side is not a positive int, or `img_channels`
            not 1 or 3.
    """
    return draw_labelled_flowers(num_images, img_size, img_channels, seed)[0]


def draw_labelled_flowers(num_images, img_size, img_channels=3, seed=0):
    """Draw flowers as `draw_flowers` does, and label them by the shape of their petals.

    Returns:
        The images; and their labels, an int32 array of shape `(num_images,)`, which
        count the names in `SHAPES`.
    """
    positive = isinstance(num_images, (int, np.integer)) and num_images > 0
    require(positive, "`num_images` must be a positive int.", num_images=num_images)
    drawn = [
        draw_labelled_flower(seed, i, img_size, img_channels) for i in range(num_images)
    ]
    images, shapes = zip(*drawn, strict=True)
    return np.stack(images), np.array(shapes, "int32")


def _check_format(img_size, img_channels):
    """Return (height, width)."""
    sides = (img_size, img_size) if np.ndim(img_size) == 0 else tuple(img_size)
    positive = all(isinstance(n, (int, np.integer)) and n > 0 for n in sides)
    require(
        len(sides) == 2 and positive,
        "`img_size` must be a positive int or a pair (height, width) of them.",
        img_size=img_size,
    )
    message = "`img_channels` must be 1 or 3."
    require(img_channels in (1, 3), message, img_channels=img_channels)
    return sides


def _points(height, width):
    """Return y (rows, 1), pointing down, and x (1, columns); shorter side -1 to 1."""
    rows, columns = height * SAMPLES, width * SAMPLES
    y = np.arange(1 - rows, rows, 2, "float32") / min(rows, columns)
    x = np.arange(1 - columns, columns, 2, "float32") / min(rows, columns)
    return y[:, None], x[None, :]


def _paint(canvas, inside, colour):
    """Paint the points where `inside`, the distance into an outline, is positive."""
    # The edge is as soft as the distance between points, 2 / min(rows, columns).
    coverage = np.clip(inside * min(canvas.shape[:2]) / 2 + 0.5, 0, 1)
    canvas += coverage[..., None] * (colour - canvas)


def _background(rng, y, x, colour):
    """Return a canvas (rows, columns, 3) with large out-of-focus spots."""
    canvas = np.full((y.size, x.size, 3), colour, "float32")
    for _ in range(4):
        left, top, radius = rng.uniform((-1, -1, 0.4), (1, 1, 0.8)).astype("float32")
        spot = np.exp(-((x - left) ** 2 + (y - top) ** 2) / radius**2)
        brighter = rng.uniform(-0.5, 0.4) + rng.normal(0, 0.06, 3).astype("float32")
        canvas *= 1 + spot[..., None] * brighter
    return canvas


def _stem(canvas, rng, y, x):
    """Paint a bent stem from the origin downwards."""
    green = np.array(MEADOW, "float32") * rng.uniform(0.6, 1.1)
    middle = rng.uniform(-0.3, 0.3) * y**2
    _paint(canvas, np.minimum(0.05 - np.abs(x - middle), y), green)


def _bloom(canvas, rng, y, x, colours, centre):
    """Paint the leaves, one or two whorls of petals, then the centre.

    Returns:
        The number of the petals' shape in `SHAPES`.
    """
    # A flat bloom seen at a slant is shorter in one direction.
    turn, slant = np.float32(rng.uniform(0, np.pi)), rng.uniform(0.8, 1)
    along = (np.cos(turn) * x + np.sin(turn) * y) / slant
    across = np.cos(turn) * y - np.sin(turn) * x
    radius, angle = np.hypot(along, across), np.arctan2(across, along)
    angle += rng.uniform(0, 2 * np.pi)

    length = rng.uniform(0.7, 0.92)
    shape = int(rng.integers(len(SHAPES)))
    fewest, most, *outline = list(SHAPES.values())[shape]
    count, leaves = int(rng.integers(fewest, most + 1)), int(rng.integers(2, 5))
    green = np.array(MEADOW) * rng.uniform(0.5, 1.1)
    colours = np.array(colours) + rng.normal(0, 0.04, 3)

    _whorl(canvas, rng, radius, angle, 1.3 * length, leaves, LEAF, (green, 0.6 * green))
    _whorl(canvas, rng, radius, angle, length, count, outline, colours)
    if rng.random() < 0.35:
        angle += np.pi / count
        _whorl(canvas, rng, radius, angle, 0.62 * length, count, outline, colours)
    _disc(canvas, radius, angle, length * rng.uniform(0.18, 0.32), centre)
    return shape


def _whorl(canvas, rng, radius, angle, length, count, outline, colours):
    """Paint a ring of `count` petals, with `colours` of tip and base."""
    # Fold the circle so that one formula draws all petals: `side` runs from -1 to 1
    # across the sector of the nearest petal, with its axis at 0.
    sector = angle * (count / (2 * np.pi))
    nearest = np.rint(sector)
    side = 2 * (sector - nearest)
    petal = nearest.astype(int) % count
    lengths = length * rng.uniform(0.93, 1, count).astype("float32")
    light = rng.uniform(0.92, 1.05, count).astype("float32")

    # Coordinates along and across the petal, in units of its length.
    rise, fall, fullness, notch = outline
    radius = radius / lengths[petal]
    across = radius * np.abs(np.sin(side * (np.pi / count)))
    t = radius * np.cos(side * (np.pi / count))
    t = np.clip(t * (1 + notch * np.exp(-((across / 0.12) ** 2))), 0, 1)
    peak = rise / (rise + fall)  # where the petal is widest
    half_width = (t / peak) ** rise * ((1 - t) / (1 - peak)) ** fall
    half_width *= fullness * peak * np.sin(np.pi / count)
    # On the axis beyond the tip both widths are 0, which must not count as inside.
    inside = np.where(t < 1, half_width - across, -1)
    # Petals are bright along the axis and dark at the sides.
    light = light[petal] * (1 - 0.35 * side**2)
    tip, base = np.array(colours, "float32")
    colour = (base + t[..., None] * (tip - base)) * light[..., None]
    _paint(canvas, length * inside, colour)


def _disc(canvas, radius, angle, size, colour):
    """Paint the centre of the bloom and the shadow it casts on the petals."""
    r = radius / size
    canvas *= 1 - 0.5 * np.exp(-(r**2))[..., None]
    light = 1.1 - 0.45 * r**2 + 0.12 * np.cos(9 * r) * np.cos(8 * angle)
    _paint(canvas, size - radius, np.array(colour, "float32") * light[..., None])
