"""The whole configuration, as one checked value, and what may be found in it."""

from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from meshsigner.config.backends import (
    BackendName,
    BackendSection,
    KindSections,
    loaded_sections,
    own_sections,
)
from meshsigner.config.client_certificates import ClientCertificates
from meshsigner.config.clusters import Clusters
from meshsigner.config.controllers import Controllers
from meshsigner.config.cpus import available_cpus
from meshsigner.config.fields import Section, TrustDomainName
from meshsigner.config.inventory import Inventory
from meshsigner.config.policy import PolicySection
from meshsigner.config.remote_clusters import RemoteClusters
from meshsigner.config.sections import (
    Admin,
    InventorySqlite,
    IssuerDirectory,
    IssuerSelfMade,
    Limits,
    Listen,
    Logging,
)

ENVIRONMENT_PREFIX = "MESHSIGNER_"
AGENT_PREFIX = "MESHSIGNER_AGENT_"  # of another configuration, not of a section
LEVEL_SEPARATOR = "__"
MAX_WORKERS = 256


class _Environment(EnvSettingsSource):
    """Reads the environment; a list or section that is no JSON is left as the text it is.

    The check of the whole then reports it beside all other problems, where the
    library would stop at the first.
    """

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read JSON, or leave the text as it is."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class Settings(BaseSettings):
    """A whole configuration: a file's content, overruled by the environment."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        env_nested_delimiter=LEVEL_SEPARATOR,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by _Environment
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env file is read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - secrets are paths
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over what the file says."""
        return _Environment(settings_cls), init_settings


class Config(Settings):
    """All settings of one server: a file's content, overruled by the environment."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX)

    trust_domain: TrustDomainName = Field(
        description="Trust domain of the mesh (Istio's meshConfig.trustDomain); `@` stands for "
        "`.` as in Istio.",
    )
    clusters: Clusters = Field(description="The clusters whose callers are served.")
    remote_clusters: RemoteClusters | None = Field(
        default=None,
        description="Further clusters, added and removed while the server runs by Secrets with "
        "their kubeconfigs, as Istio's multi-cluster has them. Default: none.",
    )
    issuer: IssuerDirectory | IssuerSelfMade | None = Field(
        default=None,
        discriminator="type",
        description="The CA that signs, where one in a directory is all there is: `directory` or "
        "`self_made`. Either this or `backends` must be set. Default: none, for an identity has "
        "no default.",
    )
    backends: dict[BackendName, BackendSection] = Field(
        default={},
        description="Who signs, by name: any number of backends, each of a kind that `meshsigner "
        "backends` lists. Which of them signs for whom is said in `policy.signers`. Default: "
        "none, for `issuer` is one.",
    )
    listen: Listen = Field(description="The port where workloads ask for certificates.")
    client_certificates: ClientCertificates | None = Field(
        default=None,
        description="Whose certificates prove a caller, and where they are shown. Default: none, "
        "tokens alone.",
    )
    workers: int = Field(
        default_factory=available_cpus,
        ge=1,
        le=MAX_WORKERS,
        description="Worker processes of `meshsigner serve`, all on that port. With `sqlite` each "
        "has a file of its own in the inventory. The bounds in `limits` hold for each of them. "
        "Default: one a CPU that the process may use, by its CPU set and its control group's "
        "quota.",
    )
    inventory: Inventory = Field(
        default=InventorySqlite(),
        description="Where issued certificates are written down: `sqlite` or `postgres`.",
    )
    controllers: Controllers = Field(
        default=Controllers(),
        description="What one of all processes, elected by a Lease, keeps in the cluster: the "
        "roots in every namespace, istiod's serving certificate.",
    )
    admin: Admin = Field(default=Admin(), description="The port for probes and metrics.")
    policy: PolicySection = Field(
        default=PolicySection(),
        description="What an identified caller may have.",
    )
    limits: Limits = Field(default=Limits(), description="Bounds that protect the server.")
    logging: Logging = Field(default=Logging(), description="What is written to standard error.")

    @field_validator("remote_clusters", mode="after")
    @classmethod
    def _remote_ids_are_free(
        cls, remote: RemoteClusters | None, info: ValidationInfo
    ) -> RemoteClusters | None:
        """Expect that no remote cluster has a name of a configured one."""
        taken = remote.taken_names(info.data.get("clusters", ())) if remote else []
        if taken:
            msg = f"ids that no cluster in `clusters` has ({', '.join(taken)} are taken)"
            raise ValueError(msg)
        return remote

    @field_validator("backends", mode="after")
    @classmethod
    def _somebody_signs(
        cls, backends: dict[str, Section], info: ValidationInfo
    ) -> dict[str, Section]:
        """Expect one of `issuer` and `backends`, unless what was said of them is wrong itself."""
        if "issuer" in info.data and (info.data["issuer"] is None) == (not backends):
            msg = "either issuer or backends: who signs has no default, and they exclude each other"
            raise ValueError(msg)
        return backends

    @field_validator("policy", mode="after")
    @classmethod
    def _signers_exist(cls, policy: PolicySection, info: ValidationInfo) -> PolicySection:
        """Expect that a rule names backends that there are."""
        if "backends" in info.data:
            problems = policy.signer_problems(tuple(info.data["backends"]))
            if problems:
                raise ValueError("; ".join(problems))
        return policy


def prefix_of(whole: type[Settings]) -> str:
    """Return what the environment variables of a configuration begin with."""
    return whole.model_config["env_prefix"]


def sections_in(annotation: object) -> list[type[BaseModel]]:
    """List the sections that a field of this type may hold."""
    if isinstance(annotation, KindSections):
        return own_sections()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [] if annotation is Section else [annotation]
    return [section for part in get_args(annotation) for section in sections_in(part)]


def tag_of(section: type[BaseModel]) -> str | None:
    """Return the value of `type` that chooses this section, None when nothing does."""
    field = section.model_fields.get("type")
    return str(get_args(field.annotation)[0]) if field is not None else None


def holds_kinds(sections: list[type[BaseModel]], name: str) -> bool:
    """Tell whether a field of one of these sections holds sections of installed kinds by name."""
    return any(
        name in section.model_fields and _is_of_kinds(section.model_fields[name].annotation)
        for section in sections
    )


def _is_of_kinds(annotation: object) -> bool:
    inner = get_args(annotation)
    return isinstance(annotation, KindSections) or any(map(_is_of_kinds, inner))


def sections_at(location: tuple[int | str, ...], whole: type[Settings]) -> list[type[BaseModel]]:
    """List the sections that may stand at a place, as pydantic names places.

    Args:
        location: The place.
        whole: In which configuration.
    """
    found: list[type[BaseModel]] = [whole]
    named = False  # the next part is a name that somebody chose
    for part in location:
        if isinstance(part, int):
            continue
        if named:
            named = False
            continue
        if holds_kinds(found, part):
            found, named = loaded_sections(), True
            continue
        tagged = [section for section in found if tag_of(section) == part]
        found = tagged or [
            inner
            for section in found
            if part in section.model_fields
            for inner in sections_in(section.model_fields[part].annotation)
        ]
    return found
