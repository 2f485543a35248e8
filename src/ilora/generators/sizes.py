"""Which size a picture gets before a generator encodes it."""

import math


def nearest(height: int, width: int, *, resolution: int, step: int) -> tuple[int, int]:
    """Sides [px] as multiples of ``step`` with about the area of ``resolution`` squared and the nearest aspect ratio.

    Of the four sizes around the exact one, that with the least error of the aspect ratio.
    """
    scale = resolution / math.sqrt(height * width)

    def around(side: int) -> list[int]:
        exact = side * scale / step
        return [step * max(1, count) for count in (math.floor(exact), math.ceil(exact))]

    sizes = [(rows, columns) for rows in around(height) for columns in around(width)]
    return min(sizes, key=lambda size: abs(math.log(size[0] * width / (size[1] * height))))
