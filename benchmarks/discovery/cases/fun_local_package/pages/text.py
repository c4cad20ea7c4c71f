from .parse import soup


def plain(html):
    return soup(html).get_text()
