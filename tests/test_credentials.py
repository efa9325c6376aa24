"""What clients and agents show for themselves, from the environment and from files."""

from pathlib import Path

import pytest

from orchestrator.credentials import NoCredential, authorization


@pytest.mark.parametrize("text", ["tok-1", "tok-1\n", " tok-1 \r\n"])
def test_a_token(tmp_path: Path, text: str) -> None:
    """From a variable or a file, without the space around it."""
    (tmp_path / "token").write_text(text)
    for environ in ({"ORCHESTRATOR_TOKEN": text}, {"ORCHESTRATOR_API_KEY_FILE": str(tmp_path / "token")}):
        assert authorization(environ) == {"Authorization": "Bearer tok-1"}


@pytest.mark.parametrize("text", ["tok-1\ntok-2", "tok-1 tok-2", "tok-\u00e9", "tok\0", "{\n}"])
def test_what_is_no_token(tmp_path: Path, text: str) -> None:
    """Is told of by the name of where it came from, and never shown."""
    (tmp_path / "token").write_text(text)
    for name in ("ORCHESTRATOR_TOKEN", "ORCHESTRATOR_TOKEN_FILE"):
        with pytest.raises(NoCredential, match=name.removesuffix("_FILE")) as no:
            authorization({name: str(tmp_path / "token") if name.endswith("_FILE") else text})
        assert "tok" not in str(no.value).replace("token", "")


def test_none() -> None:
    """Nothing set is no credential, and an empty file is none either."""
    assert authorization({}) == authorization({"ORCHESTRATOR_TOKEN": ""}) == {}
