"""Samples of a laboratory: a table, a service, a smoke test."""

from contextlib import contextmanager
from datetime import date

import click
from flask import Flask, abort, jsonify, request
from sqlalchemy import Date, ForeignKey, String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import StaticPool


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    samples: Mapped[list["Sample"]] = relationship(back_populates="owner")


class Sample(Base):
    __tablename__ = "sample"
    id: Mapped[int] = mapped_column(primary_key=True)
    taken: Mapped[date] = mapped_column(Date)
    owner_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    owner: Mapped[Person] = relationship(back_populates="samples")


engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
app = Flask("samples")


@contextmanager
def session():
    with Session(engine) as opened:
        yield opened
        opened.commit()


@app.post("/samples")
def add():
    body = request.get_json()
    with session() as opened:
        owner = opened.scalar(select(Person).where(Person.name == body["owner"])) or Person(name=body["owner"])
        owner.samples.append(Sample(taken=date.fromisoformat(body["taken"])))
        opened.add(owner)
    return jsonify(ok=True), 201


@app.get("/people/<name>")
def person(name):
    with session() as opened:
        count = opened.scalar(select(func.count(Sample.id)).join(Person).where(Person.name == name))
    return jsonify(samples=count) if count else abort(404)


@app.get("/chart")
def chart():
    import plotly.graph_objects as go

    return go.Figure().to_json()


@click.command()
@click.option("--owner", default="Ada")
def check(owner):
    Base.metadata.create_all(engine)
    client = app.test_client()
    for day in ("2024-01-01", "2024-01-02"):
        client.post("/samples", json={"owner": owner, "taken": day})
    click.echo(client.get(f"/people/{owner}").json)
    click.echo(client.get("/people/nobody").status_code)


if __name__ == "__main__":
    check(standalone_mode=False)
