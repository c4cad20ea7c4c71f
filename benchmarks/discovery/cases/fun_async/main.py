import asyncio

import numpy as np
import yaml


async def parse(text):
    await asyncio.sleep(0)
    return yaml.safe_load(text)


async def gather(texts):
    return await asyncio.gather(*(parse(text) for text in texts))


def unrelated():
    return np.eye(2)
