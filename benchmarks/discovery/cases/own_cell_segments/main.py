"""Segment bright blobs of a synthetic micrograph and measure them."""

import io
import logging

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage as ndi
from skimage import filters, measure, morphology
from skimage.segmentation import watershed

log = logging.getLogger("cells")
PROPERTIES = ("label", "area", "eccentricity", "centroid")


def micrograph(size=96):
    rows, columns = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    for row, column, radius in ((20, 22, 9), (30, 32, 8), (60, 70, 12), (75, 20, 7)):
        image += np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * (radius / 1.5) ** 2))
    return np.clip(image, 0, 1)


def segment(image):
    mask = morphology.opening(image > filters.threshold_otsu(image), morphology.disk(2))
    distance = ndi.distance_transform_edt(mask)
    peaks = (distance == ndi.maximum_filter(distance, size=9)) & mask
    markers, count = ndi.label(peaks)
    log.info("%d markers", count)
    return watershed(-distance, markers, mask=mask)


def table_of(labels):
    table = pd.DataFrame(measure.regionprops_table(labels, properties=PROPERTIES))
    return table.rename(columns={"centroid-0": "row", "centroid-1": "column"}).sort_values("area", ascending=False)


def as_png(labels):
    grey = (labels * (255 // max(1, labels.max()))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).resize((48, 48)).save(buffer, format="PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    labels = segment(micrograph())
    table = table_of(labels)
    print(len(table) >= 3, bool((table["area"].diff().dropna() <= 0).all()))
    print(as_png(labels)[:4])
