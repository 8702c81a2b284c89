"""Catalogs: registered, checked and listed."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from floe.v1 import catalog_pb2 as pb
from floe_client.paging import AsyncPager, Page
from floe_client.transport import Transport, new_request_id

CHECK_TIMEOUT = 180.0
"""An executor tries the catalog meanwhile."""


class AsyncCatalogs:
    """The Iceberg catalogs that are looked after."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self, catalog: pb.Catalog, *, request_id: str | None = None, validate_only: bool = False
    ) -> pb.Catalog:
        request = pb.CreateCatalogRequest(
            catalog=catalog, request_id=request_id or new_request_id(), validate_only=validate_only
        )
        answer = await self._transport.unary("CatalogService/CreateCatalog", request, pb.CreateCatalogResponse)
        return answer.catalog

    async def get(self, name: str) -> pb.Catalog:
        request = pb.GetCatalogRequest(name=name)
        return (await self._transport.unary("CatalogService/GetCatalog", request, pb.GetCatalogResponse)).catalog

    def list(self, *, page_size: int = 0) -> AsyncPager[pb.Catalog]:
        async def fetch(token: str) -> Page[pb.Catalog]:
            request = pb.ListCatalogsRequest(page_size=page_size, page_token=token)
            answer = await self._transport.unary("CatalogService/ListCatalogs", request, pb.ListCatalogsResponse)
            return Page(answer.catalogs, answer.next_page_token)

        return AsyncPager(fetch)

    async def update(
        self,
        catalog: pb.Catalog,
        *,
        update_mask: tuple[str, ...] = (),
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> pb.Catalog:
        """Change the fields of the mask, `*` for all that may change; without a mask those that are set."""
        request = pb.UpdateCatalogRequest(
            catalog=catalog,
            update_mask=FieldMask(paths=update_mask),
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
        )
        answer = await self._transport.unary("CatalogService/UpdateCatalog", request, pb.UpdateCatalogResponse)
        return answer.catalog

    async def delete(
        self,
        name: str,
        *,
        etag: str = "",
        force: bool = False,
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> None:
        request = pb.DeleteCatalogRequest(
            name=name, etag=etag, force=force, request_id=request_id or new_request_id(), validate_only=validate_only
        )
        await self._transport.unary("CatalogService/DeleteCatalog", request, pb.DeleteCatalogResponse)

    async def check(self, name: str, *, refresh: bool = False, timeout: float | None = None) -> pb.CheckCatalogResponse:
        """Have an executor try the catalog now and, with `refresh`, list its tables too."""
        return await self._transport.unary(
            "CatalogService/CheckCatalog",
            pb.CheckCatalogRequest(name=name, refresh=refresh),
            pb.CheckCatalogResponse,
            timeout=max(CHECK_TIMEOUT, self._transport.timeout) if timeout is None else timeout,
        )
