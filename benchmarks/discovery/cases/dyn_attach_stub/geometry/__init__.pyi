from .lists import ordered

__all__ = ["ordered"]
