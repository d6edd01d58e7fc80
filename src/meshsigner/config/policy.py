"""What an identified caller may have, and who signs it: the section `policy`."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from meshsigner.config.backends import BackendNames
from meshsigner.config.fields import InOrder, Section, duration_from, render_duration
from meshsigner.config.sections import Lifetime
from meshsigner.policy import LIFETIME_PER_BACKDATE

_DAY = timedelta(days=1)


class SignerRule(Section):
    """Who signs for some callers; a rule without conditions is for all."""

    cert_signer: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Callers that ask for this signer by name (Istio's metadata key CertSigner, "
        "ISTIO_META_CERT_SIGNER). Default: none, callers that name no signer.",
    )
    cluster: str | None = Field(
        default=None,
        description="Callers of this cluster, by its id. Default: none, of any.",
    )
    namespace: str | None = Field(
        default=None,
        description="Callers of this namespace. Default: none, of any.",
    )
    service_account: str | None = Field(
        default=None,
        description="Callers with this service account. Default: none, with any.",
    )
    backends: BackendNames = Field(
        min_length=1,
        description="Who signs for them, by name: the first that can, the others when it cannot.",
    )


class PolicySection(Section):
    """What an identified caller may have."""

    default_lifetime: Lifetime = Field(
        default=_DAY,
        description="Given when a caller asks for none. Default: 24h (istiod's "
        "DEFAULT_WORKLOAD_CERT_TTL).",
    )
    maximum_lifetime: Lifetime = Field(
        default=timedelta(days=90),
        description="The longest that is given. Default: 90d (istiod's MAX_WORKLOAD_CERT_TTL).",
    )
    over_maximum: Literal["reject", "clamp"] = Field(
        default_factory=lambda earlier: (
            "clamp" if earlier.get("maximum_lifetime", _DAY) < _DAY else "reject"
        ),
        description="What a longer wish gets: `reject` (istiod) or `clamp` (istio-csr). "
        "Default: reject; clamp when the maximum is under 24h, which every Istio client asks for.",
    )
    backdate: Annotated[timedelta, *duration_from("0s", "1h")] = Field(
        default=timedelta(minutes=2),
        description="How far NotBefore lies in the past, for clocks that differ. Both lifetimes "
        "must be at least 10 times this: ztunnel renews at half of the validity and would "
        "renew in a loop. Default: 2m (istiod's ClockSkewGracePeriod).",
    )
    key_algorithms: Annotated[frozenset[Literal["rsa", "p256", "p384", "ed25519"]], InOrder] = (
        Field(
            default=frozenset({"rsa", "p256", "p384"}),
            min_length=1,
            description="Kinds of public key that a CSR may carry. Default: p256, p384, rsa (what "
            "Istio's clients can make).",
        )
    )
    min_rsa_bits: int = Field(
        default=2048,
        ge=2048,
        le=16_384,
        description="Shortest RSA modulus, bits. Default: 2048 (the least istio-agent makes).",
    )
    max_rsa_bits: int = Field(
        default=4096,
        ge=2048,
        le=16_384,
        description="Longest RSA modulus, bits. Default: 4096 (longer ones cost the verifier).",
    )

    signers: tuple[SignerRule, ...] = Field(
        default=(),
        description="Which of `backends` signs for whom: the first rule whose conditions are all "
        "met. A caller that names a signer gets only a rule with that cert_signer; a name that "
        "no rule has is refused. Default: none, all backends sign for all, in their order.",
    )

    def signer_problems(self, backends: tuple[str, ...]) -> list[str]:
        """Say which rules name a backend that does not exist.

        Args:
            backends: Names of those that do.
        """
        known = ", ".join(backends) or "none: `backends` is empty"
        return [
            f"in signers[{number}] only backends that exist ({known}), not {name}"
            for number, rule in enumerate(self.signers)
            for name in rule.backends
            if name not in backends
        ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [*self._lifetime_problems()]
        if self.min_rsa_bits > self.max_rsa_bits:
            problems.append("min_rsa_bits at most max_rsa_bits")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _lifetime_problems(self) -> list[str]:
        least = self.backdate * LIFETIME_PER_BACKDATE
        found = [
            f"{name} at least 10 times backdate, so {render_duration(least)} or more "
            f"(it is {render_duration(lifetime)})"
            for name, lifetime in (
                ("default_lifetime", self.default_lifetime),
                ("maximum_lifetime", self.maximum_lifetime),
            )
            if lifetime < least
        ]
        if self.default_lifetime > self.maximum_lifetime:
            found.append(
                f"default_lifetime ({render_duration(self.default_lifetime)}) at most "
                f"maximum_lifetime ({render_duration(self.maximum_lifetime)})",
            )
        return found
