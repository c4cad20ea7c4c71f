import zoneinfo
from datetime import datetime

zoneinfo.reset_tzpath(to=())
print(datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo")).utcoffset())
