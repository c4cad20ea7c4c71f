import io
from pathlib import Path

from openpyxl import Workbook
from openpyxl.drawing.image import Image

book = Workbook()
book.active.add_image(Image(Path(__file__).with_name("dot.png")), "A1")
buffer = io.BytesIO()
book.save(buffer)
print(buffer.tell() > 1000)
