"""Applications that answer what is not valid in their own way, and describe themselves so."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI


class OwnErrorsApp(FastAPI):
    """An application that answers 400 where the framework answers 422."""

    def openapi(self) -> dict[str, Any]:
        """Return the description, without the framework's errors."""
        if self.openapi_schema is None:
            description = super().openapi()
            for operations in description["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                description["components"]["schemas"].pop(name, None)
        return self.openapi_schema or {}
