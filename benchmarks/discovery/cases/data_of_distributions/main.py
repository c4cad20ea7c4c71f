import os.path

import certifi
import matplotlib

fonts = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
print(os.path.exists(certifi.where()), "DejaVuSans.ttf" in os.listdir(fonts))
