from .names import title
