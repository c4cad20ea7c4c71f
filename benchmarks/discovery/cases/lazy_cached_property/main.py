from functools import cached_property


class Lab:
    @cached_property
    def units(self):
        import astropy.units

        return astropy.units


print(Lab().units.km.to("m"))
