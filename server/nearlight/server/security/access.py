"""Who is calling, and whether they may."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from nearlight.server.errors import Forbidden, Unauthenticated
from nearlight.server.security.scopes import Scope, scope_needed
from nearlight.server.security.tokens import Tokens

_BEARER = "bearer "

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling.

    Args:
        name: of the token; without tokens "cn:" and the client certificate's common name, else the host.
        scope: the most they may do.
    """

    name: str
    scope: Scope


class Access:
    """Lets calls in.

    Args:
        tokens: where they are needed.
        has_certificates: whether callers may show one.
    """

    def __init__(self, tokens: Tokens, *, has_certificates: bool) -> None:
        self._tokens = tokens
        self._has_certificates = has_certificates

    def admit(self, method: str, metadata: Mapping[str, Any], context: Context) -> Identity:
        """Who makes this call.

        Raises:
            Unauthenticated: no token, or an unknown one.
            Forbidden: a token whose scope does not allow the method.
        """
        if not self._tokens.are_needed:
            return Identity(_name_of(context, self._has_certificates), Scope.ADMIN)
        given = str(metadata.get("authorization", ""))
        if not given:
            raise Unauthenticated("no token: send the metadata `authorization: Bearer <token>`")
        is_bearer = given[: len(_BEARER)].lower() == _BEARER
        known = self._tokens.find(given[len(_BEARER) :].strip()) if is_bearer else None
        if known is None:
            raise Unauthenticated("the token is not known here")
        needed = scope_needed(method)
        if known.scope < needed:
            raise Forbidden(
                f"token {known.name!r} has scope {known.scope.word}; {method} needs scope {needed.word}"
            )
        return Identity(known.name, known.scope)


def _name_of(context: Context, has_certificates: bool) -> str:
    """A caller without a token: by client certificate, else by host; a port is not an identity."""
    names = (context.auth_context() or {}).get("x509_common_name") if has_certificates else None
    if names:
        name: bytes = next(iter(names))
        return "cn:" + name.decode(errors="replace")
    peer = str(context.peer())
    return peer if peer.startswith("unix:") else peer.rpartition(":")[0]
