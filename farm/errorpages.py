"""How errors look: ``{code, message, extra}`` to programs, a page or a notice to people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from farm.errors import understood


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def answer(
    request: HttpRequest, status: int, code: str, message: str, extra: dict[str, Any] | None = None
) -> HttpResponse:
    """One error, in the form that the caller understands."""
    if is_api(request):
        return JsonResponse({"code": code, "message": message, "extra": extra or {}}, status=status)
    context = {"status": status, "message": message}
    if getattr(request, "htmx", False):  # a notice; the page stays as it is
        response = render(request, "parts/notice.html", context, status=status)
        response["HX-Retarget"], response["HX-Reswap"] = "#notices", "innerHTML"
        return response
    return render(request, "error.html", context, status=status)


class FarmErrorMiddleware:
    """A FarmError that leaves a page's view becomes an answer for people (DRF has its own handler)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        error = understood(exception)
        return answer(request, error.status, error.code, error.message, error.extra) if error else None


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 400, "bad_request", "The request could not be understood.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 403, "forbidden", "You may not do this here.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 404, "not_found", "There is nothing here, or you may not see it.")


def server_error(request: HttpRequest) -> HttpResponse:
    return answer(request, 500, "error", "Something went wrong in the farm. The staff can see the details in the log.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return answer(request, 403, "csrf", "This form is out of date. Load the page again.", {"reason": reason})


def locked_out(request: HttpRequest, credentials: Any = None, *_: Any, **__: Any) -> HttpResponse:
    """django-axes calls this after too many wrong passwords."""
    return answer(request, 429, "locked_out", "Too many wrong passwords. Try again in a quarter of an hour.")
