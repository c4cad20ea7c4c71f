from functools import partialmethod

import html5lib
import bs4
import statsmodels


class Page:
    def parse(self, text, parser):
        return bs4.BeautifulSoup(text, parser).get_text()

    lenient = partialmethod(parse, parser="html5lib")


def fetch(text):
    return Page().lenient(f"<p>{text}")


def other():
    return html5lib, statsmodels
