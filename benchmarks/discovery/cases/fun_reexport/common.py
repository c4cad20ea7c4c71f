import toolz
import yaml

flat = toolz.concat
