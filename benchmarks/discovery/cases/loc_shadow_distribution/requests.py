def get(url):
    return f"local {url}"
