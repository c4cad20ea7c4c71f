import logging
import logging.config

CONFIG = {
    "version": 1,
    "formatters": {"short": {"()": "tornado.log.LogFormatter", "color": False, "fmt": "%(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "short", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": ["out"]},
}
logging.config.dictConfig(CONFIG)
logging.getLogger("demo").info("ready")
