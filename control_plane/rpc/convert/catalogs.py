"""Catalogs between the public API and the domain."""

from __future__ import annotations

from typing import Final

from control_plane.domain.catalog import Catalog, CatalogType
from control_plane.domain.catalog_spec import CatalogSpec
from control_plane.domain.identifiers import CatalogName
from control_plane.rpc.convert.values import from_enum, to_enum, to_timestamp
from control_plane.services.catalogs import CatalogCheck
from floe.v1 import catalog_pb2 as pb

_TYPE: Final = "CATALOG_TYPE_"


def spec_from_proto(catalog: pb.Catalog) -> CatalogSpec:
    """What the caller wrote. What Floe itself keeps is left out."""
    kind = from_enum(pb.CatalogType, _TYPE, catalog.type, field="catalog.type") if catalog.type else None
    return CatalogSpec(
        name=CatalogName(catalog.name),
        type=CatalogType(kind) if kind else None,
        uri=catalog.uri,
        warehouse=catalog.warehouse,
        properties=dict(catalog.properties),
        secrets=dict(catalog.secrets),
        description=catalog.description,
        max_concurrent_operations=catalog.max_concurrent_operations,
    )


def set_fields(catalog: pb.Catalog) -> list[str]:
    return [field.name for field, _ in catalog.ListFields()]


def catalog_to_proto(catalog: Catalog) -> pb.Catalog:
    return pb.Catalog(
        name=catalog.name,
        type=to_enum(pb.CatalogType, _TYPE, catalog.type),
        uri=catalog.uri,
        warehouse=catalog.warehouse,
        properties=catalog.properties,
        secrets=catalog.secrets,
        description=catalog.description,
        max_concurrent_operations=catalog.max_concurrent_operations,
        generation=catalog.generation,
        last_list_time=to_timestamp(catalog.last_list_time),
        last_list_error=catalog.last_list_error,
        create_time=to_timestamp(catalog.create_time),
        update_time=to_timestamp(catalog.update_time),
        etag=str(catalog.revision),
    )


def check_to_proto(check: CatalogCheck) -> pb.CheckCatalogResponse:
    return pb.CheckCatalogResponse(
        healthy=check.healthy,
        checks=[pb.CatalogCheck(check=f.check, passed=f.passed, detail=f.detail, hint=f.hint) for f in check.findings],
        executor_id=check.executor or "",
        table_count=check.table_count,
    )
