"""`floe catalog`: register, look at and check Iceberg catalogs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from floe_client.cli.exits import Exit
from floe_client.cli.groups import group
from floe_client.cli.shell import Shell, command
from floe_client.errors import FieldViolation, InvalidArgument

if TYPE_CHECKING:
    from floe_client.types import Catalog

app = group("Iceberg catalogs that Floe looks after.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The catalog's name.", show_default=False)]


class CatalogKind(StrEnum):
    REST = "rest"
    JDBC = "jdbc"


@command(app, "create", example="floe catalog create lake --uri http://127.0.0.1:8181 --secret token=LAKE_TOKEN")
def create(
    shell: Shell,
    name: Name,
    uri: Annotated[str, typer.Option(help="Where it answers, without user and password.")],
    kind: Annotated[CatalogKind, typer.Option("--type", help="How it is spoken to.")] = CatalogKind.REST,
    warehouse: Annotated[str, typer.Option(help="The warehouse's location or name.")] = "",
    properties: Annotated[
        list[str] | None, typer.Option("--property", metavar="KEY=VALUE", help="A property of the catalog; repeatable.")
    ] = None,
    secrets: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="KEY=NAME",
            help="A property whose value executors find under a secret's name; repeatable.",
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    max_concurrent: Annotated[int, typer.Option(min=0, help="Operations at a time; 0: no limit of its own.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, store nothing.")] = False,
) -> None:
    """Register a catalog."""
    from floe_client.cli.render import as_json, print_json
    from floe_client.types import Catalog, CatalogType

    catalog = Catalog(
        name=name,
        type=CatalogType.Value(f"CATALOG_TYPE_{kind.name}"),
        uri=uri,
        warehouse=warehouse,
        properties=_pairs("--property", properties),
        secrets=_pairs("--secret", secrets),
        description=description,
        max_concurrent_operations=max_concurrent,
    )
    with shell.connect() as client:
        created = client.catalogs.create(catalog, validate_only=dry_run)
    if shell.as_json:
        print_json(as_json(created))
    else:
        print(f"catalog {name} {'would be created' if dry_run else 'created'}")


@command(app, "list", example="floe catalog list -o json")
def list_all(shell: Shell) -> None:
    """List the catalogs."""
    from floe_client.cli.render import age, as_json, print_json, print_table

    with shell.connect() as client:
        catalogs = list(client.catalogs.list())
    if shell.as_json:
        print_json({"catalogs": [as_json(each) for each in catalogs]})
        return
    print_table(
        ("NAME", "TYPE", "URI", "WAREHOUSE", "LISTED", "LAST ERROR"),
        (
            (each.name, _kind(each), each.uri, each.warehouse, age(each.last_list_time), each.last_list_error)
            for each in catalogs
        ),
        empty="no catalogs; `floe catalog create` registers one",
    )


@command(app, "get", example="floe catalog get lake")
def get(shell: Shell, name: Name) -> None:
    """Show one catalog."""
    from floe_client.cli.render import as_json, print_fields, print_json, when

    with shell.connect() as client:
        catalog = client.catalogs.get(name)
    if shell.as_json:
        print_json(as_json(catalog))
        return
    print_fields(
        [
            ("name", catalog.name),
            ("type", _kind(catalog)),
            ("uri", catalog.uri),
            ("warehouse", catalog.warehouse),
            ("description", catalog.description),
            *((f"property {key}", value) for key, value in sorted(catalog.properties.items())),
            *((f"secret {key}", value) for key, value in sorted(catalog.secrets.items())),
            ("at a time", str(catalog.max_concurrent_operations or "")),
            ("generation", str(catalog.generation)),
            ("created", when(catalog.create_time)),
            ("updated", when(catalog.update_time)),
            ("listed", when(catalog.last_list_time)),
            ("last error", catalog.last_list_error),
        ]
    )


@command(app, "check", example="floe catalog check lake --refresh")
def check(
    shell: Shell,
    name: Name,
    refresh: Annotated[bool, typer.Option("--refresh", help="List the catalog's tables too.")] = False,
) -> None:
    """Have an executor try the catalog now; ends with 1 if a check did not pass."""
    from floe_client.cli.render import as_json, print_json, print_table

    with shell.connect() as client:
        checked = client.catalogs.check(name, refresh=refresh)
    if shell.as_json:
        print_json(as_json(checked))
    else:
        print_table(
            ("CHECK", "RESULT", "DETAIL", "WHAT TO DO"),
            ((each.check, "ok" if each.passed else "failed", each.detail, each.hint) for each in checked.checks),
            empty="no checks",
        )
        if checked.HasField("table_count"):
            print(f"{checked.table_count} tables")
    if not checked.healthy:
        raise typer.Exit(Exit.FAILED)


@command(app, "delete", example="floe catalog delete lake --force")
def delete(
    shell: Shell,
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Cancel its unfinished operations first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, delete nothing.")] = False,
) -> None:
    """Forget a catalog. Its tables are not touched."""
    with shell.connect() as client:
        client.catalogs.delete(name, force=force, validate_only=dry_run)
    if shell.as_json:
        print("{}")
    else:
        print(f"catalog {name} {'would be deleted' if dry_run else 'deleted'}")


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        key, sign, value = text.partition("=")
        if not sign or not key:
            message = f"{option} takes KEY=VALUE, not {key[:40]!r}"
            raise InvalidArgument(message, violations=[FieldViolation(option, message)])
        pairs[key] = value
    return pairs


def _kind(catalog: Catalog) -> str:
    from floe_client.cli.render import short
    from floe_client.types import CatalogType

    return short(CatalogType.Name(catalog.type), "CATALOG_TYPE_").lower()
