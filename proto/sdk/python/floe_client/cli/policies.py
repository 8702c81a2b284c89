"""`floe policy`: bring policies to what files say, and look at them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from floe_client.cli.groups import group
from floe_client.cli.policy_files import add_to
from floe_client.cli.shell import Shell, command

if TYPE_CHECKING:
    from floe_client.types import Policy

app = group("Policies: which tables are maintained, by which operations, and how.")

add_to(app)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The policy's name.", show_default=False)]


@command(app, "get", example="floe policy get compact-sales")
def get(
    shell: Shell,
    name: Name,
    generation: Annotated[int, typer.Option(min=0, help="As it was when this generation began; 0: as it is.")] = 0,
) -> None:
    """Show one policy, as the YAML that would apply it."""
    from floe_client.cli.render import as_json, print_json

    with shell.connect() as client:
        policy = client.policies.get(name, generation=generation)
    if shell.as_json:
        print_json(as_json(policy, complete=False))
    else:
        _print_yaml(policy)


@command(app, "list", example="floe policy list")
def list_all(shell: Shell) -> None:
    """List the policies."""
    from floe_client.cli.render import age, as_json, print_json, print_table

    with shell.connect() as client:
        policies = list(client.policies.list())
    if shell.as_json:
        print_json({"policies": [as_json(each, complete=False) for each in policies]})
        return
    print_table(
        ("NAME", "TABLES", "ENABLED", "PRIORITY", "OPERATIONS", "GENERATION", "UPDATED"),
        (
            (
                each.name,
                each.table_pattern,
                "no" if each.HasField("enabled") and not each.enabled else "yes",
                str(each.priority),
                _operations(each),
                str(each.generation),
                age(each.update_time),
            )
            for each in policies
        ),
        empty="no policies; `floe policy apply -f FILE` stores some",
    )


@command(app, "delete", example="floe policy delete compact-sales")
def delete(
    shell: Shell,
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, delete nothing.")] = False,
) -> None:
    """Delete a policy. Its operations that have not started are skipped; what runs goes on."""
    with shell.connect() as client:
        client.policies.delete(name, validate_only=dry_run)
    if shell.as_json:
        print("{}")
    else:
        print(f"policy {name} {'would be deleted' if dry_run else 'deleted'}")


def _operations(policy: Policy) -> str:
    from floe_client.types import OperationType

    known = {name.removeprefix("OPERATION_TYPE_") for name, _ in OperationType.items()}
    configured = (field.name.upper() for field, _ in policy.ListFields())
    return ", ".join(name for name in configured if name in known)


def _print_yaml(policy: Policy) -> None:
    from ruamel.yaml import YAML

    from floe_client.cli.render import as_json
    from floe_client.policies import written

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared as None in the library
    yaml.allow_unicode = True
    document = as_json(written(policy), complete=False)
    print(f"# generation {policy.generation}, etag {policy.etag}")
    yaml.dump(_numbers(policy.DESCRIPTOR, document), sys.stdout)


# Any: descriptors have one type in protobuf's stubs, and another at run time.
def _numbers(descriptor: Any, document: dict[str, Any]) -> dict[str, Any]:
    """The document with its 64-bit numbers, texts in protobuf's JSON, as the numbers that people write."""
    fields = {field.json_name: field for field in descriptor.fields}
    return {name: _number(fields[name], value) for name, value in document.items()}


def _number(field: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_number(field, each) for each in value]
    if isinstance(value, dict):
        if not field.message_type.GetOptions().map_entry:
            return _numbers(field.message_type, value)
        content = field.message_type.fields_by_name["value"]
        return {key: _number(content, each) for key, each in value.items()}
    return int(value) if field.cpp_type == field.CPPTYPE_INT64 else value
