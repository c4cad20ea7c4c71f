from astropy.io import ascii

PAGE = """
<table>
<tr><th>a</th></tr>
<tr><td>1</td></tr>
</table>
"""
print(ascii.read(PAGE, format="html")["a"][0])
