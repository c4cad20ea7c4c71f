import pytz

ZONE = pytz.utc
