"""What a database URL asks of TLS, in Prisma's words or libpq's, and the context that comes of it.

Prisma has `sslmode` (disable, prefer, require), `sslaccept` (strict, accept_invalid_certs), `sslcert` (the authority to
trust) and `sslidentity` (the client's certificate, PKCS#12). libpq has `sslmode` (also verify-ca and verify-full),
`sslrootcert` (the authority) and `sslcert` with `sslkey` (the client's certificate, PEM).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from crossfade.errors import DsnError


class Verify(StrEnum):
    """How much of the server's certificate is checked."""

    NOTHING = "nothing"
    AUTHORITY = "authority"
    HOST_TOO = "host_too"


@dataclass(frozen=True, slots=True)
class Tls:
    """What both families of parameters come to; `mode` is `disable`, `prefer` or `require`."""

    mode: str
    verify: Verify
    authority: str | None
    certificate: str | None
    key: str | None
    identity: str | None
    password: str | None = field(repr=False)

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Tls:
        """Read the parameters of a URL, already checked and normalised."""
        mode, strictness, key = params.get("sslmode", "prefer"), params.get("sslaccept"), params.get("sslkey")
        verify = Verify.NOTHING
        if mode == "verify-full" or (strictness == "strict" and mode != "disable"):
            # To be strict about a certificate, there has to be one.
            mode, verify = "require", Verify.HOST_TOO
        elif mode == "verify-ca" or (mode == "require" and "sslrootcert" in params and strictness is None):
            mode, verify = "require", Verify.AUTHORITY
        return cls(
            mode=mode,
            verify=verify,
            # Alone `sslcert` is Prisma's, beside `sslkey` it is libpq's.
            authority=params.get("sslrootcert") or (None if key else params.get("sslcert")),
            certificate=params.get("sslcert") if key else None,
            key=key,
            identity=params.get("sslidentity"),
            password=params.get("sslpassword"),
        )

    def for_asyncpg(self) -> bool | str | ssl.SSLContext:
        """The `ssl` argument of asyncpg.

        Raises:
            DsnError: a certificate file cannot be used.
        """
        if self.mode == "disable":
            return False
        if self.identity is not None and self.certificate is None:
            raise DsnError(
                "asyncpg cannot use sslidentity (PKCS#12); add the same certificate in PEM form as sslcert and sslkey"
            )
        if self.mode == "prefer":
            return "prefer"
        authority = None if self.verify is Verify.NOTHING else self.authority
        try:
            context = ssl.create_default_context(cafile=authority)
            context.check_hostname = self.verify is Verify.HOST_TOO
            if self.verify is Verify.NOTHING:
                context.verify_mode = ssl.CERT_NONE
        except OSError as error:
            raise DsnError(f"cannot use the certificate authority {authority}: {error}") from error
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, self.password)
            except OSError as error:
                raise DsnError(f"cannot use the certificate {self.certificate}: {error}") from error
        return context

    def for_prisma(self) -> dict[str, str]:
        """The parameters that Prisma's engine understands.

        Raises:
            DsnError: there is a client certificate in PEM form only.
        """
        if self.certificate is not None and self.identity is None:
            raise DsnError(
                "Prisma's engine takes a client certificate only as PKCS#12; add it as sslidentity"
            )
        query = {"sslmode": self.mode}
        if self.mode != "disable":
            query["sslaccept"] = "accept_invalid_certs" if self.verify is Verify.NOTHING else "strict"
        given = {"sslcert": self.authority, "sslidentity": self.identity, "sslpassword": self.password}
        return query | {name: value for name, value in given.items() if value is not None}

    def for_libpq(self) -> dict[str, str]:
        """The parameters that psql and pg_dump understand."""
        match self.verify:
            case Verify.NOTHING:
                query = {"sslmode": self.mode}
            case Verify.AUTHORITY:
                query = {"sslmode": "verify-ca", "sslrootcert": self.authority or "system"}
            case Verify.HOST_TOO:
                query = {"sslmode": "verify-full", "sslrootcert": self.authority or "system"}
        if self.certificate is not None and self.key is not None:
            query |= {"sslcert": self.certificate, "sslkey": self.key}
            if self.password is not None:
                query["sslpassword"] = self.password
        return query
