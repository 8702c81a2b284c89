"""`floe policy apply|diff|validate|preview`: policies as files say them, before and after they are stored."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from floe_client.cli.exits import printable
from floe_client.cli.shell import Shell, command
from floe_client.errors import FieldViolation, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_client.cli.documents import Document
    from floe_client.sync import Floe
    from floe_client.types import (
        ApplyPoliciesResponse,
        GoverningChange,
        OperationType,
        Policy,
        PolicyChange,
        PreviewedTable,
    )

Source = Annotated[
    str,
    typer.Option("--file", "-f", metavar="FILE|DIR|-", help="YAML or JSON, several documents each, or standard input."),
]
ManagedBy = Annotated[
    str, typer.Option(metavar="NAME", help="Who keeps these policies; what somebody else keeps is left alone.")
]
Prune = Annotated[bool, typer.Option("--prune", help="Delete what --managed-by keeps and the files lack.")]
_CHANGES = {
    "created": "would be created",
    "updated": "would be updated",
    "unchanged": "is as it should be",
    "deleted": "would be deleted",
}
_SIGNS = {"created": "+", "updated": "~", "deleted": "-"}
_MOST_SHOWN = 200
_IN_SET = re.compile(r"policies\[(\d+)\]\.?(.*)")


def add_to(parent: typer.Typer) -> None:
    command(parent, "apply", example="floe policy apply -f policies/ --managed-by data-team --prune")(apply)
    command(parent, "diff", example="floe policy diff -f policies/ --managed-by data-team --prune")(diff)
    command(parent, "validate", example="floe policy validate -f policies/")(validate)
    command(parent, "preview", example="floe policy preview compact-sales")(preview)


def apply(
    shell: Shell,
    source: Source,
    managed_by: ManagedBy = "",
    prune: Prune = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, store nothing.")] = False,
) -> None:
    """Create or update policies as files say. If one of them is wrong, none is stored."""
    from floe_client.cli.render import as_json, print_json
    from floe_client.policies import change_of

    answer = _apply(shell, source, managed_by=managed_by, prune=prune, validate_only=dry_run)
    changes = [(change_of(each), each.policy) for each in answer.changes]
    if shell.as_json:
        print_json({"policies": [{"change": change, "policy": as_json(policy)} for change, policy in changes]})
        return
    for change, policy in changes:
        print(f"policy {policy.name} {_CHANGES[change] if dry_run else change}")


def diff(shell: Shell, source: Source, managed_by: ManagedBy = "", prune: Prune = False) -> None:
    """Show what applying files would change, and which tables another policy would govern. Nothing is stored."""
    from floe_client.cli.render import as_json, print_json
    from floe_client.policies import change_of

    answer = _apply(shell, source, managed_by=managed_by, prune=prune, validate_only=True)
    if shell.as_json:
        print_json(as_json(answer))
        return
    changed = [(change_of(each), each) for each in answer.changes if change_of(each) != "unchanged"]
    with shell.connect() as client:
        for word, change in changed:
            print(f"{_SIGNS[word]} policy {change.policy.name}")
            if word == "updated":
                _print_changes(client.policies.get(change.policy.name), change)
    print(f"{len(answer.changes) - len(changed)} of {len(answer.changes)} policies are as they should be")
    _print_governing(answer)


def validate(shell: Shell, source: Source) -> None:
    """Check files as the server would when they are applied. Nothing is stored."""
    from floe_client.cli.render import print_json

    answer = _apply(shell, source, validate_only=True)
    names = [change.policy.name for change in answer.changes]
    if shell.as_json:
        print_json({"valid": names})
    else:
        print(f"{len(names)} {'policy is' if len(names) == 1 else 'policies are'} valid: {', '.join(names)}")


def preview(
    shell: Shell,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="A stored policy; or else --file.", show_default=False)
    ] = "",
    source: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE|-", help="YAML or JSON of one policy, or standard input.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many tables.")] = 100,
) -> None:
    """Show which tables a policy, stored or in a file, matches, and who would govern them."""
    from floe_client.cli.render import as_json, print_json, print_table

    if bool(name) == bool(source):
        raise InvalidArgument("name a stored policy, or a file with -f: one of them")
    with shell.connect() as client:
        tables, impossible, more = _preview(client, name or _one_document(source), limit)
    types = [_type(each) for each in impossible]
    if shell.as_json:
        print_json({"tables": [as_json(each) for each in tables], "impossibleTypes": types, "more": more})
        return
    print_table(
        ("TABLE", "OPERATION", "GOVERNED BY", "WHY NOT THIS ONE"),
        (
            (_table(each), _type(one.operation_type), one.governing_policy_name or "-", one.detail)
            for each in tables
            for one in each.operations
        ),
        empty="no known table matches",
    )
    if more:
        print(f"the first {limit} tables; --limit shows more", file=sys.stderr)
    if types:
        print(f"no attached executor can do {', '.join(types)}: they would wait", file=sys.stderr)


def _apply(
    shell: Shell, source: str, *, managed_by: str = "", prune: bool = False, validate_only: bool
) -> ApplyPoliciesResponse:
    """Send the documents as one set. What is wrong is named by file and line."""
    from floe_client.cli.documents import read_documents
    from floe_client.types import Policy

    read = [(document, document.message(Policy)) for document in read_documents(source)]
    _refuse_twins(read)
    with shell.connect() as client:
        try:
            return client.policies.apply_all(
                [policy for _, policy in read], managed_by=managed_by, prune=prune, validate_only=validate_only
            )
        except InvalidArgument as error:
            raise _located([document for document, _ in read], error) from error


def _located(documents: list[Document], error: InvalidArgument) -> InvalidArgument:
    """The error, the fields of each policy named by its file and line."""
    violations: list[FieldViolation] = []
    for bad in error.violations:
        found = _IN_SET.fullmatch(bad.field)
        if found is None or int(found[1]) >= len(documents):
            violations.append(bad)
            continue
        place = documents[int(found[1])].place(found[2])
        violations.append(FieldViolation(f"{place} {found[2]}".rstrip(), bad.description))
    if not violations:
        return error
    message = f"{len(violations)} field{'s are' if len(violations) > 1 else ' is'} wrong"
    return InvalidArgument(message, reason=error.reason, metadata=error.metadata, violations=violations)


def _preview(
    client: Floe, policy: Policy | str, limit: int
) -> tuple[list[PreviewedTable], Sequence[OperationType.ValueType], bool]:
    """The first tables, what no executor can do, and whether there are more tables."""
    tables: list[PreviewedTable] = []
    token = ""
    while True:
        answer = client.policies.preview(policy, page_size=min(limit - len(tables), 1_000), page_token=token)
        tables.extend(answer.tables)
        token = answer.next_page_token
        if not token or len(tables) >= limit:
            return tables, answer.impossible_types, bool(token)


def _one_document(source: str) -> Policy:
    from floe_client.cli.documents import read_documents
    from floe_client.types import Policy

    documents = read_documents(source)
    if len(documents) > 1:
        raise InvalidArgument(f"{source} holds {len(documents)} policies; a preview is of one")
    return documents[0].message(Policy)


def _print_changes(before: Policy, change: PolicyChange) -> None:
    from floe_client.cli.render import as_json

    old, new = as_json(before, complete=False), as_json(change.policy, complete=False)
    for path in change.changed_paths:
        print(f"    {path}: {_value(old, path)} → {_value(new, path)}")


def _value(document: Any, path: str) -> str:
    """What stands at a JSON path, as JSON in one line."""
    for part in path.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    text = "unset" if document is None else json.dumps(document, ensure_ascii=False)
    return printable(text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…")


def _print_governing(answer: ApplyPoliciesResponse) -> None:
    from floe_client.cli.render import print_table

    if not answer.governing_change_count:
        print("no known table would be governed by another policy")
        return
    print(f"{answer.governing_table_count:,} tables would be governed by another policy:")
    print_table(
        ("TABLE", "OPERATION", "MODE", "NOW", "THEN"),
        (
            (
                _table(each),
                _type(each.operation_type),
                each.mode,
                each.old_policy_name or "-",
                each.new_policy_name or "-",
            )
            for each in answer.governing_changes
        ),
        empty="",
    )
    if answer.governing_change_count > len(answer.governing_changes):
        print(f"the first {len(answer.governing_changes):,} of {answer.governing_change_count:,} changes")


def _table(message: GoverningChange | PreviewedTable) -> str:
    from floe_client.tables import TableName

    return str(TableName(message.catalog, tuple(message.namespace), message.table))


def _type(value: OperationType.ValueType) -> str:
    from floe_client.cli.render import short
    from floe_client.types import OperationType

    return short(OperationType.Name(value), "OPERATION_TYPE_")


def _refuse_twins(read: list[tuple[Document, Policy]]) -> None:
    places: dict[str, str] = {}
    for document, policy in read:
        place = document.place("name")
        if policy.name in places:
            raise InvalidArgument(f"{place}: policy {policy.name!r} stands in {places[policy.name]} already; keep one")
        places[policy.name] = place
