"""Makes a Java trust what the machine trusts, where that Java brings certificates of its own."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

from executor.engines.spark.java import Java

# The store holds public certificates only; Java's format wants a password all the same.
_PASSWORD: Final = "changeit"


def write_truststore(java: Java, *, gateway_jar: Path, path: Path) -> Sequence[str]:
    """Write the machine's certificate authorities as a Java trust store; returns the options that make Java use it.

    Empty where the machine has no bundle of certificates. `gateway_jar` is py4j's, through which this Java is driven.
    """
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if bundle is None or not Path(bundle).is_file():
        return []
    port, token = launch_gateway(
        jarpath=str(gateway_jar), java_path=str(java.executable), die_on_exit=True, enable_auth=True
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))
    try:
        _write(gateway, Path(bundle), path)
    finally:
        gateway.shutdown()
    return [
        f"-Djavax.net.ssl.trustStore={path}",
        "-Djavax.net.ssl.trustStoreType=PKCS12",
        f"-Djavax.net.ssl.trustStorePassword={_PASSWORD}",
    ]


def _write(gateway: Any, bundle: Path, path: Path) -> None:
    java = gateway.jvm
    # py4j turns a Java string into a Python one at once: the array is filled from here.
    password = gateway.new_array(java.char, len(_PASSWORD))
    for position, character in enumerate(_PASSWORD):
        password[position] = character
    store = java.java.security.KeyStore.getInstance("PKCS12")
    store.load(None, None)
    factory = java.java.security.cert.CertificateFactory.getInstance("X.509")
    source = java.java.io.FileInputStream(str(bundle))
    try:
        for number, certificate in enumerate(factory.generateCertificates(source)):
            store.setCertificateEntry(f"ca-{number}", certificate)
    finally:
        source.close()
    target = java.java.io.FileOutputStream(str(path))
    try:
        store.store(target, password)
    finally:
        target.close()
