"""Clients of their own: what is true of `__main__`, and of an interpreter that ends."""

from __future__ import annotations

from pathlib import Path

from tests.executor.helpers import run_script


def test_classes_of_main_are_the_same_classes_when_they_come_back(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        from dataclasses import dataclass, replace
        from envpack_executor import ContextExecutor

        @dataclass
        class Point:
            x: int

            def moved(self):
                return replace(self, x=self.x + 1)

        class Wrong(Exception):
            pass

        def move(point):
            assert isinstance(point, Point)
            return point.moved()

        def fail():
            raise Wrong("in main")

        if __name__ == "__main__":
            with ContextExecutor(max_workers=1) as executor:
                moved = executor.submit(move, Point(1)).result()
                error = executor.submit(fail).exception()
                bound = executor.submit(Point(5).moved).result()
                print(moved, type(moved) is Point, repr(error), type(error) is Wrong, bound == Point(6))
        """,
    )
    assert printed == "Point(x=2) True Wrong('in main') True True\n"


def test_no_main_guard_is_needed(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        from envpack_executor import ContextExecutor
        print("once")
        with ContextExecutor(max_workers=2) as executor:
            print(sum(executor.map(lambda number: number * number, range(10))))
        """,
    )
    assert printed == "once\n285\n"


def test_what_calls_print_reaches_the_output_of_the_client(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        from envpack_executor import ContextExecutor
        with ContextExecutor(max_workers=1) as executor:
            executor.submit(print, "hello from a call").result()
        """,
    )
    assert printed == "hello from a call\n"


def test_calls_accepted_before_the_interpreter_ends_are_finished(tmp_path: Path) -> None:
    run_script(
        tmp_path,
        """
        import pathlib
        from envpack_executor import ContextExecutor
        executor = ContextExecutor(max_workers=2)
        for number in range(50):
            executor.submit(pathlib.Path(f"call-{number}").write_text, str(number))
        """,
    )
    assert {int(path.read_text()) for path in tmp_path.glob("call-*")} == set(range(50))


def test_a_long_call_is_finished_while_the_interpreter_ends_and_starts_no_threads(tmp_path: Path) -> None:
    source = """
        import time
        from envpack_executor import ContextExecutor

        executor = ContextExecutor(1, history=None)
        executor.submit(time.sleep, 1.5).add_done_callback(lambda future: print(future.result(), flush=True))
        executor.shutdown(wait=False)
    """
    assert run_script(tmp_path, source) == "None\n"


def test_no_call_is_taken_while_the_interpreter_ends(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        import atexit
        from envpack_executor import ContextExecutor
        executor = ContextExecutor(max_workers=1)
        executor.submit(int).result()

        @atexit.register
        def late():
            try:
                executor.submit(int)
            except RuntimeError as error:
                print(error)
        """,
    )
    assert printed == "cannot schedule new futures after interpreter shutdown\n"


def test_an_executor_inside_a_call_works_and_ends_with_it(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        """
        from envpack_executor import ContextExecutor

        def nested(number):
            from envpack_executor import ContextExecutor
            with ContextExecutor(max_workers=1) as inner:
                return inner.submit(int, number).result()

        with ContextExecutor(max_workers=1) as executor:
            print(executor.submit(nested, "17").result())
        """,
    )
    assert printed == "17\n"
