from bs4 import BeautifulSoup
from settings import PARSER

print(BeautifulSoup("<p>a<p>b", PARSER).find_all("p")[1].text)
