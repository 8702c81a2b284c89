"""CatalogService."""

from __future__ import annotations

from control_plane.domain.identifiers import CatalogName
from control_plane.rpc.convert.catalogs import catalog_to_proto, check_to_proto, set_fields, spec_from_proto
from control_plane.rpc.convert.values import required
from control_plane.rpc.interceptors.identity import current_caller
from control_plane.rpc.once import Once
from control_plane.rpc.pagination import Paging
from control_plane.rpc.types import Context
from control_plane.services.catalogs import CatalogService
from floe.v1 import catalog_pb2 as pb
from floe.v1 import catalog_pb2_grpc as pb_grpc
from shared.telemetry.traces import current_traceparent

# A catalog that is new, or elsewhere now, is listed.
_HINTS = ("observations",)


class CatalogServicer(pb_grpc.CatalogServiceServicer):
    def __init__(self, catalogs: CatalogService, once: Once) -> None:
        self._catalogs = catalogs
        self._once = once

    async def CreateCatalog(self, request: pb.CreateCatalogRequest, context: Context) -> pb.CreateCatalogResponse:
        async def create() -> pb.CreateCatalogResponse:
            created = await self._catalogs.create(spec_from_proto(request.catalog))
            return pb.CreateCatalogResponse(catalog=catalog_to_proto(created))

        return await self._once.answer(request, pb.CreateCatalogResponse, create, hints=_HINTS)

    async def GetCatalog(self, request: pb.GetCatalogRequest, context: Context) -> pb.GetCatalogResponse:
        catalog = await self._catalogs.get(CatalogName(required(request.name, field="name")))
        return pb.GetCatalogResponse(catalog=catalog_to_proto(catalog))

    async def ListCatalogs(self, request: pb.ListCatalogsRequest, context: Context) -> pb.ListCatalogsResponse:
        paging = Paging.of(request)
        after = CatalogName(paging.after[0]) if paging.after else None
        rows = await self._catalogs.list(after=after, limit=paging.limit)
        catalogs, token = paging.cut(rows, catalog_to_proto, lambda catalog: (catalog.name,))
        return pb.ListCatalogsResponse(catalogs=catalogs, next_page_token=token)

    async def UpdateCatalog(self, request: pb.UpdateCatalogRequest, context: Context) -> pb.UpdateCatalogResponse:
        async def update() -> pb.UpdateCatalogResponse:
            required(request.catalog.name, field="catalog.name")
            updated = await self._catalogs.update(
                spec_from_proto(request.catalog),
                paths=request.update_mask.paths,
                set_fields=set_fields(request.catalog),
                etag=request.catalog.etag or None,
            )
            return pb.UpdateCatalogResponse(catalog=catalog_to_proto(updated))

        return await self._once.answer(request, pb.UpdateCatalogResponse, update, hints=_HINTS)

    async def DeleteCatalog(self, request: pb.DeleteCatalogRequest, context: Context) -> pb.DeleteCatalogResponse:
        name, etag = CatalogName(required(request.name, field="name")), request.etag or None

        async def delete() -> pb.DeleteCatalogResponse:
            await self._catalogs.delete(name, etag=etag)
            return pb.DeleteCatalogResponse()

        if request.force and not request.validate_only:
            # The cancels stand even if the deletion has to wait; a repeated call must not cancel what came later.
            stored = await self._once.stored(request, pb.DeleteCatalogResponse)
            if stored is not None:
                return stored
            await self._catalogs.cancel_operations(name, by=current_caller(), etag=etag)
        return await self._once.answer(request, pb.DeleteCatalogResponse, delete)

    async def CheckCatalog(self, request: pb.CheckCatalogRequest, context: Context) -> pb.CheckCatalogResponse:
        name = CatalogName(required(request.name, field="name"))
        return check_to_proto(
            await self._catalogs.check(name, refresh=request.refresh, traceparent=current_traceparent())
        )
