from more_itertools import rstrip


class Stemmer:
    endings = frozenset("s")

    def stem(self, token):
        return "".join(rstrip(token, lambda letter: letter in self.endings))
