"""Cross-match two small catalogues by position and compare their magnitudes."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.stats import mad_std
from astropy.table import QTable, hstack
from astropy.time import Time

EPOCH = Time("2016-01-01", scale="tdb")


def catalogue(shift_arcsec: float, offset_mag: float) -> QTable:
    ra = (np.array([10.0, 10.2, 10.4, 11.0]) + shift_arcsec / 3600) * u.deg
    dec = np.array([-5.0, -5.1, -4.9, -5.3]) * u.deg
    magnitudes = np.array([14.2, 15.0, 13.1, 17.7]) + offset_mag
    return QTable({"ra": ra, "dec": dec, "mag": magnitudes * u.mag})


def positions(table: QTable) -> SkyCoord:
    return SkyCoord(table["ra"], table["dec"], obstime=EPOCH)


def match(left: QTable, right: QTable, within: u.Quantity) -> QTable:
    index, separation, _ = positions(left).match_to_catalog_sky(positions(right))
    keep = separation < within
    joined = hstack([left[keep], right[index[keep]]], table_names=["a", "b"])
    joined["separation"] = separation[keep].to(u.arcsec)
    return joined


def main() -> None:
    joined = match(catalogue(0.0, 0.0), catalogue(0.3, 0.05), 1 * u.arcsec)
    difference = joined["mag_b"] - joined["mag_a"]
    print(len(joined), joined["separation"].max().round(2))
    print(np.median(difference).round(3), mad_std(difference).round(3))
    print(EPOCH.jyear)


if __name__ == "__main__":
    main()
