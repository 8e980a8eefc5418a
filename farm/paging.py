"""How lists are cut into pages. A module of its own: DRF imports it while it is itself being imported."""

from __future__ import annotations

from rest_framework.pagination import CursorPagination


class Pages(CursorPagination):
    """``{next, previous, results}``: a cursor does not slip when rows arrive meanwhile."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"
    ordering: tuple[str, ...] = ("-created_at", "pk")
