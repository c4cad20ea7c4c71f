"""A figure with text in two fonts, rendered to PNG and to PDF without a display."""

import hashlib
import io

import matplotlib.pyplot as plt

figure, axes = plt.subplots()
axes.plot([0, 1, 2], [1, 4, 2], label=r"$\sqrt{x}$")
axes.set_title("Messung", family="serif")
axes.legend()
pixels, pages = io.BytesIO(), io.BytesIO()
figure.savefig(pixels, format="png")
figure.savefig(pages, format="pdf")
print("png", pixels.getvalue()[:8], hashlib.sha256(figure.canvas.buffer_rgba()).hexdigest())
print("pdf", pages.getvalue()[:5])
