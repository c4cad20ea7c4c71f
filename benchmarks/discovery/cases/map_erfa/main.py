import astropy_iers_data
import erfa

print(erfa.jd2cal(2451545.0, 0.0)[0], bool(astropy_iers_data.IERS_A_FILE))
