import numpy as np
from skimage.filters import gaussian
from skimage.util import apply_parallel

image = np.ones((8, 8))
print(apply_parallel(gaussian, image, chunks=(4, 4), extra_keywords={"sigma": 1}).shape)
