"""Access and refresh tokens: simplejwt's, with what it leaves open closed.

Refresh tokens that follow one another are a family (the claim ``family`` is the first one's ``jti``). Each is good for
one use; one that comes a second time was copied, and then the whole family ends (RFC 6819, 5.2.2.3).
"""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Now
from rest_framework import serializers
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.utils import get_md5_hash_password

from farm.models import User

FAMILY = "family"
#: their own annotations are wrong (they do take strings)
RefreshToken: Any = tokens.RefreshToken
UntypedToken: Any = tokens.UntypedToken


class ObtainSerializer(TokenObtainPairSerializer):
    """A name and a password for the first pair of a family."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        # django-axes marks the request when somebody is locked out, and looks for its mark on Django's own
        context: Any = self.context
        context["request"] = context["request"]._request
        pair: dict[str, str] = super().validate(attrs)
        return pair

    @classmethod
    def get_token(cls, user: Any) -> Any:
        token: Any = super().get_token(user)
        token[FAMILY] = token[api_settings.JTI_CLAIM]
        return token


class RefreshSerializer(serializers.Serializer[Any]):
    """A refresh token for the next pair of its family."""

    refresh = serializers.CharField()
    access = serializers.CharField(read_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        try:
            token = RefreshToken(attrs["refresh"])
        except TokenError:
            _end_family_if_used(attrs["refresh"])
            raise
        _require_owner(token)
        access = str(token.access_token)
        _, first = token.blacklist()
        if not first:  # somebody else used it between our look and this
            raise InvalidToken({"detail": "This token was used already."})
        token.set_jti()
        token.set_exp()
        token.set_iat()
        token.outstand()
        return {"access": access, "refresh": str(token)}


def _require_owner(token: Any) -> None:
    """Raises InvalidToken when its owner is gone, may no longer log in, or has another password now."""
    user = User.objects.filter(pk=token.get(api_settings.USER_ID_CLAIM), is_active=True).first()
    if user is None or token.get(api_settings.REVOKE_TOKEN_CLAIM) != get_md5_hash_password(user.password):
        raise InvalidToken({"detail": "This token's owner must log in again."})


def _end_family_if_used(raw: str) -> None:
    """``raw`` is not accepted. If that is because it was used before, nobody may go on with what came of it."""
    try:
        used = UntypedToken(raw)  # ours, and not expired
    except TokenError:
        return
    jti = used[api_settings.JTI_CLAIM]
    if not BlacklistedToken.objects.filter(token__jti=jti).exists():
        return
    family = used.get(FAMILY, jti)
    open_ones = OutstandingToken.objects.filter(
        user=used.get(api_settings.USER_ID_CLAIM), blacklistedtoken=None, expires_at__gt=Now()
    )
    for row in open_ones:
        if family in (row.jti, RefreshToken(row.token, verify=False).get(FAMILY)):
            BlacklistedToken.objects.get_or_create(token=row)
