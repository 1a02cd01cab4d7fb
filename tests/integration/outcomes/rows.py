"""The whole table. To add an outcome, add a row to one of its parts."""

from __future__ import annotations

from tests.integration.outcomes.canvases import CANVASES
from tests.integration.outcomes.endings import ENDINGS
from tests.integration.outcomes.publishings import PUBLISHINGS

ROWS = (*ENDINGS, *PUBLISHINGS, *CANVASES)
