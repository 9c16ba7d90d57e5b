"""Who asks, and whether he may: the one object that gateways ask.

A request is let in by two steps and one question. `begin`, before its body is read: which key does
it claim, is its time right, are the key's limits kept? `finish`, with the body: is it proved? Then
`allow`: may this principal do this?
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hostler.core import Clock, Code, HostlerError
from hostler.gateway.access.audit import Audit
from hostler.gateway.access.keyring import Keyring, Parse
from hostler.gateway.access.keys import Key, Keys, token_hash
from hostler.gateway.access.policy import Principal, authorize
from hostler.gateway.access.rates import Meter
from hostler.gateway.config import Config
from hostler.protocols.sagemaker import sigv4

__all__ = ["Access", "Claim", "check_access"]

_BEARER: Final = b"bearer "
_TOKEN_BYTES_MAX: Final = 1024
_SERVICES: Final = frozenset(("sagemaker", "application-autoscaling", "monitoring"))
_HASHED_AT_ONCE: Final = 256 * 1024

_NO_KEYS: Final = Keys({}, {}, {})


def check_access(config: Config, access: object | None) -> None:
    """Raises: INVALID_ARGUMENT where the settings ask for keys and nobody would look at them."""
    if config.keys_file and access is None:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            "gateway.keys_file is set, but this gateway was given no Access to ask (admit)",
        )
    if config.audit_file and access is None:
        raise HostlerError(
            Code.INVALID_ARGUMENT,
            "gateway.audit_file needs gateway.keys_file: without keys nobody is known by name",
        )


class Claim:
    """Who a request says it is from. `key`: None for one that nobody has.

    `signed`: what is still to be proved, None where the claim is proved already.
    """

    __slots__ = ("key", "signed")

    def __init__(self, key: Key | None, signed: sigv4.Signed | None) -> None:
        self.key = key
        self.signed = signed

    @property
    def key_id(self) -> str:
        """The key that was named, "" for none."""
        if self.signed is not None:
            return self.signed.access_key
        return "" if self.key is None else self.key.id

    @property
    def region(self) -> str:
        """The AWS region that was signed for, "" where nothing was signed."""
        return "" if self.signed is None else self.signed.region


class Access:
    """The keys, their limits and the audit log, from `start` to `stop`. Loop thread only.

    `parse`: reads the keys file's text, `config.parse_document`. `refusals`: requests and calls
    that were not let in, or not allowed what they asked, as the gateways count them.
    """

    def __init__(self, config: Config, parse: Parse, clock: Clock) -> None:
        self.refusals = 0
        self._config = config
        self._now = clock.now
        self._wall = clock.wall
        self._keys = _NO_KEYS
        self._meters: dict[str, Meter] = {}
        self._users = 0
        self._keyring = Keyring(Path(config.keys_file), parse, self.adopt)
        self._verifier = sigv4.Verifier(
            _SERVICES,
            skew_s=config.sigv4_skew_s,
            unsigned_payload=config.sigv4_unsigned_payload,
        )
        self._audit: Audit | None = None
        self._every = config.audit_invocations
        if config.audit_file:
            self._audit = Audit(
                Path(config.audit_file),
                clock,
                lines_max=config.audit_lines_max,
                bytes_max=config.audit_file_bytes_max,
            )

    async def start(self) -> None:
        """Read the keys file and open the audit log, for the first gateway that starts.

        Raises: HostlerError naming the file that cannot be used, and why.
        """
        if self._users:
            self._users += 1
            return
        await self._keyring.start(self._config.keys_poll_s)
        if self._audit is not None:
            try:
                await asyncio.to_thread(self._audit.start)
            except BaseException:
                await self._keyring.stop()
                raise
        self._users = 1

    async def stop(self) -> None:
        """With the last gateway that stops: read no more, and write the audit log to its end."""
        self._users -= 1
        if self._users:
            return
        await self._keyring.stop()
        if self._audit is not None:
            await asyncio.to_thread(self._audit.stop)

    def adopt(self, keys: Keys) -> None:
        """Let these keys be in force from now on; whoever has spent his limits has spent them."""
        meters: dict[str, Meter] = {}
        for key in keys.by_id.values():
            if key.rate is None and key.quota is None:
                continue
            meter = self._meters.get(key.id)
            if meter is None or (meter.rate, meter.quota) != (key.rate, key.quota):
                meter = Meter(key.rate, key.quota)
            meters[key.id] = meter
        self._keys, self._meters = keys, meters

    # -- who -------------------------------------------------------------------------------

    def begin(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: Mapping[bytes, bytes],
        certificate: str = "",
    ) -> Claim:
        """Which key a request claims; what can be refused now is not read.

        `headers`: by lower-case name, those that came twice joined by commas. `certificate`: the
        common name of the client's, if it has shown one. Raises: UNAUTHENTICATED; THROTTLED with
        the time to wait; both with AWS's name in `details["aws"]`.
        """
        authorization = headers.get(b"authorization")
        if authorization is None:
            token = headers.get(b"x-api-key")
            if token is not None:
                return self._bearer(token)
            if certificate:
                return self._shown(certificate)
            raise _missing(query)
        if authorization[:7].lower() == _BEARER:
            return self._bearer(authorization[7:].strip())
        if not authorization.startswith(b"AWS4-"):
            raise _unauthenticated(
                "IncompleteSignatureException",
                "Authorization must be 'Bearer <token>' or an AWS Signature Version 4",
            )
        signed = self._verifier.open(method, raw_path, query, headers, self._wall())
        key = self._keys.by_id.get(signed.access_key)
        if key is None or key.secret is None:
            return Claim(None, signed)
        meter = self._meters.get(key.id)
        if meter is not None:
            # Only looked at: what is forged in somebody's name must not be counted as his.
            _check_excess(key, meter.excess(self._now(), self._wall()))
        return Claim(key, signed)

    def finish(self, claim: Claim, body: bytes | bytearray | memoryview) -> Principal:
        """The principal, proved. `body`: as it was sent. Raises: as `begin`."""
        if claim.signed is None:
            return self.prove(claim, b"")
        if len(body) <= _HASHED_AT_ONCE:
            digest = hashlib.sha256(body)
        else:
            digest = hashlib.sha256()
            view = memoryview(body)
            for start in range(0, len(view), _HASHED_AT_ONCE):
                digest.update(view[start : start + _HASHED_AT_ONCE])
        return self.prove(claim, digest.hexdigest().encode())

    def prove(self, claim: Claim, body_sha256: bytes) -> Principal:
        """As `finish`, from the SHA-256 of the body as it was sent, in hex."""
        key = claim.key
        if claim.signed is not None:
            secret = None if key is None else key.secret
            self._verifier.check(claim.signed, secret, body_sha256)
            if key is not None:
                self._admit(key)
        assert key is not None  # a claim without one does not pass `check`
        return key.principal

    def bearer(self, token: str | bytes | None, certificate: str = "") -> Principal:
        """The principal of a call that carries a bearer token, or has shown a certificate.

        `token`: None where it carries none. Raises: UNAUTHENTICATED, THROTTLED.
        """
        if token is None:
            if not certificate:
                raise _missing(b"")
            claim = self._shown(certificate)
        else:
            claim = self._bearer(token if isinstance(token, bytes) else token.encode())
        assert claim.key is not None
        return claim.key.principal

    def again(self, principal: Principal) -> Principal:
        """One more request of somebody who was let in before: with his key as it is now.

        Raises: UNAUTHENTICATED where that is gone, THROTTLED.
        """
        key = self._keys.by_id.get(principal.key_id)
        if key is None:
            raise _unauthenticated(
                "UnrecognizedClientException",
                f"key '{principal.key_id}' is gone from the keys file",
            )
        self._admit(key)
        return key.principal

    def _bearer(self, token: bytes) -> Claim:
        key = None
        if 0 < len(token) <= _TOKEN_BYTES_MAX:
            key = self._keys.by_token.get(token_hash(token))
        if key is None:
            raise _unauthenticated(
                "UnrecognizedClientException",
                "the bearer token is not that of any key; `hostler keys create` makes one",
            )
        self._admit(key)
        return Claim(key, None)

    def _shown(self, certificate: str) -> Claim:
        key = self._keys.by_certificate.get(certificate)
        if key is None:
            raise _unauthenticated(
                "UnrecognizedClientException",
                f"the certificate of '{certificate[:64]}' is not that of any key, and the request "
                "has no Authorization",
            )
        self._admit(key)
        return Claim(key, None)

    def _admit(self, key: Key) -> None:
        """Whether a key that has been proved is in force, and has not asked too much."""
        reason = key.refusal(self._wall())
        if reason is not None:
            raise _unauthenticated("UnrecognizedClientException", reason)
        meter = self._meters.get(key.id)
        if meter is not None:
            _check_excess(key, meter.take(self._now(), self._wall()))

    # -- what ------------------------------------------------------------------------------

    def allow(self, principal: Principal, action: str, resource: str) -> None:
        """Let him do it. Raises: PERMISSION_DENIED, worded as AWS does, naming all three."""
        if authorize(principal, action, resource):
            return
        raise sigv4.refusal(
            Code.PERMISSION_DENIED,
            "AccessDeniedException",
            f"User: {principal.name} is not authorized to perform: {action} on resource: "
            f"{resource[:256]} because {principal.decide(action, resource).reason}",
        )

    # -- the audit log ---------------------------------------------------------------------

    def note(
        self, outcome: str, where: Mapping[str, str], principal: Principal | None, reason: str = ""
    ) -> None:
        """Write to the audit log, if there is one.

        `outcome`: done, failed or refused. `where`: action, resource, remote, request_id and what
        else tells requests apart; never secrets or bodies.
        """
        if self._audit is None:
            return
        who = {} if principal is None else {"principal": principal.name, "key": principal.key_id}
        line = {"outcome": outcome, **who, **where}
        if reason:
            line["reason"] = reason
        self._audit.write(line)

    @property
    def audits(self) -> bool:
        """Changes and refusals are written down."""
        return self._audit is not None

    @property
    def audits_all(self) -> bool:
        """So is everything else."""
        return self._every and self._audit is not None


def _unauthenticated(name: str, message: str) -> HostlerError:
    return sigv4.refusal(Code.UNAUTHENTICATED, name, message)


def _missing(query: bytes) -> HostlerError:
    if b"X-Amz-Signature=" in query:
        return _unauthenticated(
            "IncompleteSignatureException",
            "presigned URLs are not taken: send the signature in the Authorization header",
        )
    return _unauthenticated(
        "MissingAuthenticationTokenException",
        "Missing Authentication Token: send 'Authorization: Bearer <token>', 'x-api-key: <token>' "
        "or an AWS Signature Version 4",
    )


def _check_excess(key: Key, excess: tuple[str, float] | None) -> None:
    if excess is None:
        return
    what, wait_s = excess
    raise sigv4.refusal(
        Code.THROTTLED,
        "ThrottlingException",
        f"Rate exceeded: key '{key.id}' may send {what}; try again in {wait_s:.3g} s",
        retry_after_s=wait_s,
    )
