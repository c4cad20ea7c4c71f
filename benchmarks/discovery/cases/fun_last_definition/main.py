import cryptography.fernet
import markdown_it
import yaml


def render(text):
    return cryptography.fernet.Fernet(text)


def render(text):
    return markdown_it.MarkdownIt().render(text)


def digest(text):
    return render(text)


def other(text):
    return yaml.safe_load(text)
