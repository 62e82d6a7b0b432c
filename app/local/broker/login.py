"""Login of a connection: SASL PLAIN, before any other request is answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hmac import compare_digest

from kio.schema.errors import ErrorCode
from kio.schema.sasl_authenticate.v0 import request as proof_v0_request
from kio.schema.sasl_authenticate.v0 import response as proof_v0
from kio.schema.sasl_authenticate.v1 import request as proof_request
from kio.schema.sasl_authenticate.v1 import response as proof_response
from kio.schema.sasl_handshake.v1 import request as handshake_request
from kio.schema.sasl_handshake.v1 import response as handshake_response

from app.local.broker.api import Api

MECHANISM = "PLAIN"
_REFUSAL = "the user name or the password is wrong"


@dataclass(frozen=True, slots=True)
class User:
    name: str
    password: str = field(repr=False)


class Login:
    """The login of one connection.

    Version 0 of the handshake is not served: bytes without a header follow it, which no client of ours sends.
    """

    def __init__(self, user: User) -> None:
        self._user = user
        self._begun = False
        self.done = False
        self.refused = False
        """The connection must be closed after the answer."""

    def apis(self) -> Iterable[Api]:
        yield Api(handshake_request.SaslHandshakeRequest, self.handshake)
        yield Api(proof_v0_request.SaslAuthenticateRequest, self.authenticate_v0)
        yield Api(proof_request.SaslAuthenticateRequest, self.authenticate)

    async def handshake(
        self, request: handshake_request.SaslHandshakeRequest
    ) -> handshake_response.SaslHandshakeResponse:
        known = request.mechanism == MECHANISM
        self._begun = known and not self.done
        error = ErrorCode.none if self._begun else ErrorCode.illegal_sasl_state
        if not known:
            error = ErrorCode.unsupported_sasl_mechanism
        return handshake_response.SaslHandshakeResponse(error_code=error, mechanisms=(MECHANISM,))

    async def authenticate_v0(
        self, request: proof_v0_request.SaslAuthenticateRequest
    ) -> proof_v0.SaslAuthenticateResponse:
        error, message = self._check(request.auth_bytes)
        return proof_v0.SaslAuthenticateResponse(error_code=error, error_message=message, auth_bytes=b"")

    async def authenticate(
        self, request: proof_request.SaslAuthenticateRequest
    ) -> proof_response.SaslAuthenticateResponse:
        error, message = self._check(request.auth_bytes)
        return proof_response.SaslAuthenticateResponse(
            error_code=error, error_message=message, auth_bytes=b""
        )

    def _check(self, proof: bytes) -> tuple[ErrorCode, str | None]:
        if not self._begun:
            self.refused = True
            return ErrorCode.illegal_sasl_state, "the handshake is missing"
        self._begun = False
        wanted = b"\0".join((self._user.name.encode(), self._user.password.encode()))
        # the name of the user to act for comes before the first zero byte; it may be empty
        acting_for, _, given = proof.partition(b"\0")
        right = compare_digest(given, wanted) and acting_for in (b"", self._user.name.encode())
        self.done, self.refused = right, not right
        return (ErrorCode.none, None) if right else (ErrorCode.sasl_authentication_failed, _REFUSAL)
