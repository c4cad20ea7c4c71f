class Backend:
    def parse(self, text):
        from dateutil.parser import parse

        return parse(text)

    def draw(self):
        from bokeh.plotting import figure

        return figure()


print(Backend().parse("2020-01-02").day)
