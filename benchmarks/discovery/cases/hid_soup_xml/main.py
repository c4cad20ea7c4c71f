import bs4

document = bs4.BeautifulSoup("<a><b>1</b></a>", features="xml")
print(document.b.string)
