"""The description of the API (OpenAPI 3.1): a table of calls, the types of what they say and answer, and examples."""

from orchestrator.web.openapi.calls import CALLS
from orchestrator.web.openapi.document import description

__all__ = ["CALLS", "description"]
