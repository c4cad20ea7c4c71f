from bs4 import BeautifulSoup as Soup

print(Soup("<i>x</i>", "html.parser").i.text)
