import html5lib

tree = html5lib.parse("<p>a</p>", treebuilder="lxml", namespaceHTMLElements=False)
print(tree.getroot().find(".//p").text)
