"""Real collections beside the checkout, for tests that reproduce counts and published numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real collections are not at {SHARED}")
