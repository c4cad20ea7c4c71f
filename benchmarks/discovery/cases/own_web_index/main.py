"""Build a small index of saved pages: title, date, links, words."""

import re
import tempfile
from collections import Counter
from pathlib import Path
from urllib.parse import urljoin, urlparse

from bs4 import BeautifulSoup
from dateutil import parser as dates

try:
    import simplejson as json
except ImportError:
    import json

PAGES = {
    "a.html": "<html><title>First</title><time>1 March 2020</time><p>soil and water <a href='b.html'>b</a>",
    "b.html": "<html><title>Second</title><time>2021-04-05</time><p>water and air <a href='http://example.org/x'>x</a>",
}
STOP = {"and", "or", "the"}


def save(folder):
    for name, text in PAGES.items():
        (folder / name).write_text(text)


def entry(path, base="http://localhost/"):
    soup = BeautifulSoup(path.read_text(), features="html.parser")
    links = [urljoin(base, a["href"]) for a in soup.find_all("a", href=True)]
    words = Counter(word for word in re.findall(r"[a-z]+", soup.p.get_text().lower()) if word not in STOP)
    return {
        "title": soup.title.string,
        "date": dates.parse(soup.time.get_text()).date().isoformat(),
        "hosts": sorted({urlparse(link).hostname for link in links}),
        "words": dict(words.most_common(2)),
    }


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder)
        index = {path.name: entry(path) for path in sorted(folder.glob("*.html"))}
    print(json.dumps(index, sort_keys=True))


if __name__ == "__main__":
    main()
