"""The data classes of `envpack.values` are data classes to everybody."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from envpack.values import dataclass, field, replace


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A point."""

    x: int
    y: int = 0

    @property
    def sum(self) -> int:
        return self.x + self.y


@dataclass(frozen=True, slots=True)
class Only:
    name: str


@dataclass(eq=False, slots=True)
class Bag:
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Open:
    names: dict[str, int] = field(default_factory=dict)
    note: str = "none"


def test_values_compare_hash_and_print_like_data_classes() -> None:
    assert Point(1, 2) == Point(1, y=2) != Point(2, 1)
    assert (Point(1) < Point(1, 1) <= Point(2)) is True
    assert {Point(1), Point(1, 0)} == {Point(1)}
    assert repr(Point(1)) == "Point(x=1, y=0)"
    assert Only("a") == Only("a") != Only("b")
    assert (Only("a") == "a", hash(Only("a")) == hash(Only("a"))) == (False, True)
    with pytest.raises(TypeError):
        Only("a") < Only("b")  # type: ignore[operator]  # noqa: B015
    match Point(3, 4):
        case Point(x, y):
            assert (x, y, Point(3, 4).sum) == (3, 4, 7)


@pytest.mark.parametrize("value", [Point(1), Only("a"), Open({"a": 1})])
def test_frozen_values_refuse_changes_and_can_be_copied(value: object) -> None:
    name = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError, match=name):
        setattr(value, name, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(value, name)
    assert pickle.loads(pickle.dumps(value)) == copy.copy(value) == copy.deepcopy(value) == value


def test_slots_leave_no_room_for_other_attributes() -> None:
    assert not hasattr(Point(1), "__dict__")
    with pytest.raises(AttributeError):
        Bag().other = 1  # type: ignore[attr-defined]


def test_defaults_are_made_anew_for_each_object() -> None:
    first, second = Bag(), Bag()
    first.names.append("a")
    assert (first.names, second.names, first == second) == (["a"], [], False)
    assert Open().names is not Open().names


def test_the_standard_library_takes_them_for_data_classes() -> None:
    assert dataclasses.is_dataclass(Point)
    assert [(item.name, item.default) for item in dataclasses.fields(Point)][1] == ("y", 0)
    assert dataclasses.asdict(Open({"a": 1})) == {"names": {"a": 1}, "note": "none"}
    assert dataclasses.replace(Point(1), y=5) == replace(Point(1), y=5) == Point(1, 5)


@pytest.mark.parametrize("wrong", [lambda: Point(), lambda: Point(1, 2, 3), lambda: Point(1, z=2)])
def test_wrong_arguments_are_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"Point\.__init__|argument"):
        wrong()  # type: ignore[operator]
