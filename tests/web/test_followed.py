"""What is made of files that are replaced: once each time, as it was where that fails; and nobody waits for another."""

import os
from pathlib import Path
from threading import Event

import anyio
import pytest

from orchestrator.web.followed import Followed

pytestmark = pytest.mark.anyio


class Maker:
    """Gives the numbers in two files; counts how often, and may be held up."""

    def __init__(self, folder: Path) -> None:
        self.files, self.made, self.go = (folder / "one", folder / "two"), 0, Event()
        self.go.set()
        self.put("1", "1")

    def put(self, *texts: str) -> None:
        for file, text in zip(self.files, texts, strict=False):
            new = file.with_suffix(".new")
            new.write_text(text)
            os.replace(new, file)

    def followed(self) -> Followed[int]:
        return Followed("numbers", [*map(str, self.files), ""], self)

    def __call__(self) -> int:
        self.made += 1
        self.go.wait(10)
        one, two = (int(file.read_text()) for file in self.files)
        if one != two:
            raise ValueError("they do not belong together")
        return one


async def test_files_that_stay(tmp_path: Path) -> None:
    """Are read once."""
    maker = Maker(tmp_path)
    followed = maker.followed()
    assert [await followed() for _ in range(5)] == [1] * 5
    assert maker.made == 1


async def test_files_that_belong_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Count once all of them are there; what goes wrong until then is told once each time."""
    maker = Maker(tmp_path)
    followed = maker.followed()
    maker.put("2")
    assert [await followed() for _ in range(3)] == [1] * 3
    assert (maker.made, "".join(capsys.readouterr()).count("numbers_not_taken")) == (2, 1)
    maker.put("2", "2")
    assert await followed() == 2
    await anyio.to_thread.run_sync(maker.files[0].unlink)
    assert (await followed(), await followed()) == (2, 2)
    maker.put("3", "3")
    assert await followed() == 3


async def test_who_asks_meanwhile(tmp_path: Path) -> None:
    """Is given what there was, at once."""
    maker = Maker(tmp_path)
    followed = maker.followed()
    maker.put("2", "2")
    maker.go.clear()
    found: list[int] = []

    async def ask() -> None:
        found.append(await followed())

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            assert await followed() == 1
        maker.go.set()
    assert (found, await followed(), maker.made) == ([2], 2, 2)


def test_files_that_cannot_be_used_at_first(tmp_path: Path) -> None:
    """Are an error where they are named."""
    maker = Maker(tmp_path)
    maker.put("1", "2")
    with pytest.raises(ValueError, match="together"):
        maker.followed()
