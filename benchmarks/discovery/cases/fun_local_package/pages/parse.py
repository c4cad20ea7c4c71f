import bs4


def soup(html):
    return bs4.BeautifulSoup(html, "html.parser")
