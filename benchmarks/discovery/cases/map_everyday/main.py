import yaml
from bs4 import BeautifulSoup
from dateutil import tz
from google.protobuf import json_format

print(yaml.safe_load("1"), BeautifulSoup("<b>1</b>", "html.parser").b.text, tz.UTC.tzname(None), json_format.__name__)
