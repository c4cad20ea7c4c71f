PARSER = "html5lib"
