from pydantic import BaseModel, ImportString


class Settings(BaseModel):
    codec: ImportString = "msgpack.packb"


settings = Settings(codec="msgpack.packb")
print(settings.codec(1))
