import contextlib

simplejson = None
with contextlib.suppress(ImportError):
    import simplejson

import markdown_it

print(markdown_it.MarkdownIt().render("*a*").strip())
