from google.protobuf import any_pb2 as _any_pb2
from meshsigner._proto.envoy.config.core.v3 import base_pb2 as _base_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Secret(_message.Message):
    __slots__ = ("name", "tls_certificate", "validation_context")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TLS_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    tls_certificate: TlsCertificate
    validation_context: CertificateValidationContext
    def __init__(self, name: _Optional[str] = ..., tls_certificate: _Optional[_Union[TlsCertificate, _Mapping]] = ..., validation_context: _Optional[_Union[CertificateValidationContext, _Mapping]] = ...) -> None: ...

class TlsCertificate(_message.Message):
    __slots__ = ("certificate_chain", "private_key", "private_key_provider")
    CERTIFICATE_CHAIN_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    certificate_chain: _base_pb2.DataSource
    private_key: _base_pb2.DataSource
    private_key_provider: PrivateKeyProvider
    def __init__(self, certificate_chain: _Optional[_Union[_base_pb2.DataSource, _Mapping]] = ..., private_key: _Optional[_Union[_base_pb2.DataSource, _Mapping]] = ..., private_key_provider: _Optional[_Union[PrivateKeyProvider, _Mapping]] = ...) -> None: ...

class PrivateKeyProvider(_message.Message):
    __slots__ = ("provider_name", "typed_config", "fallback")
    PROVIDER_NAME_FIELD_NUMBER: _ClassVar[int]
    TYPED_CONFIG_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    provider_name: str
    typed_config: _any_pb2.Any
    fallback: bool
    def __init__(self, provider_name: _Optional[str] = ..., typed_config: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., fallback: _Optional[bool] = ...) -> None: ...

class CertificateValidationContext(_message.Message):
    __slots__ = ("trusted_ca", "crl", "custom_validator_config")
    TRUSTED_CA_FIELD_NUMBER: _ClassVar[int]
    CRL_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_VALIDATOR_CONFIG_FIELD_NUMBER: _ClassVar[int]
    trusted_ca: _base_pb2.DataSource
    crl: _base_pb2.DataSource
    custom_validator_config: _base_pb2.TypedExtensionConfig
    def __init__(self, trusted_ca: _Optional[_Union[_base_pb2.DataSource, _Mapping]] = ..., crl: _Optional[_Union[_base_pb2.DataSource, _Mapping]] = ..., custom_validator_config: _Optional[_Union[_base_pb2.TypedExtensionConfig, _Mapping]] = ...) -> None: ...

class SPIFFECertValidatorConfig(_message.Message):
    __slots__ = ("trust_domains",)
    class TrustDomain(_message.Message):
        __slots__ = ("name", "trust_bundle")
        NAME_FIELD_NUMBER: _ClassVar[int]
        TRUST_BUNDLE_FIELD_NUMBER: _ClassVar[int]
        name: str
        trust_bundle: _base_pb2.DataSource
        def __init__(self, name: _Optional[str] = ..., trust_bundle: _Optional[_Union[_base_pb2.DataSource, _Mapping]] = ...) -> None: ...
    TRUST_DOMAINS_FIELD_NUMBER: _ClassVar[int]
    trust_domains: _containers.RepeatedCompositeFieldContainer[SPIFFECertValidatorConfig.TrustDomain]
    def __init__(self, trust_domains: _Optional[_Iterable[_Union[SPIFFECertValidatorConfig.TrustDomain, _Mapping]]] = ...) -> None: ...
