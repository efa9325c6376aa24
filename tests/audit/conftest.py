"""Makes this folder's helper importable, since tests are no packages."""

import pytest

pytest.register_assert_rewrite("signed_trail")
