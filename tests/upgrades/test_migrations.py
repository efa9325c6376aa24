"""Migrations are numbered, and one that a database may have been through does not change any more."""

import hashlib
from importlib import resources

import pytest

from orchestrator.storage.postgres import schema as postgres_schema
from orchestrator.storage.sqlite import schema as sqlite_schema

FROZEN = {
    "sqlite/0001_core.sql": "a381c111c040b9c3324127b07a4f497388da8eef8a41ad30223c191d7005122b",
    "sqlite/0002_tasks_of_a_case.sql": "8b46e0ae836c06c987ded3f5cc527e5fb1aab716d6a9ca8013195a91ed3ab3ca",
    "sqlite/0003_retention.sql": "abeca636f883fea61eaa2d8d1197c65204ad06799dc5ac1ce8e84cbf1b7720cd",
    "sqlite/0004_keys_at_rest.sql": "7328db89ee733fb4a94ba95a0c0a62ba057656626d1928ea055896da16f83c38",
    "sqlite/0005_segments.sql": "114f480dba618591d4a7ca963a140712c3651d5c75817c202236a62c7031f781",
    "sqlite/0006_events.sql": "39bc2f05e8fceeb86b8e1f8be07e7ef5b95cc85e011be43172cd4db2d3c01c30",
    "sqlite/0007_removed_entries.sql": "0f9aa3e714ff432fe1a8d3b8054ab0755450a54729ae78f16a77af694b165e91",
    "sqlite/0008_keys_by_digest.sql": "1516d42aa6948214d08aac3b26d50fd9d98c681e6719e97786b58245da318e8f",
    "sqlite/0009_parts_of_the_trail.sql": "7eb7a6d428a928da4ac5359d6860eeecf9964dac42ef5d06a850eea2f6f15e31",
    "sqlite/0010_results_by_seq.sql": "7e1e4f029a26a0987bf9dd262a0dab4a1ce5358af73a3fbf586b0ed9cf90a898",
    "sqlite/0011_runs_of_keys.sql": "d85238a6d7f5595c960c7ced49a95d6300e39a5570efac164720a1c10881a275",
    "sqlite/0012_states_one_by_one.sql": "0358c62baa7865dd7f663610b39340e7f3acbc561254b3de09be10c49af8bc6c",
    "postgres/0001_core.sql": "e74ebce00e23030e76004f3424020e67657039076166b96006017fd9dc3f510d",
    "postgres/0002_batch.sql": "799182db23dc756a2ed8c13961fbb26d6685d864a9c7d7b95a107e68fe96b081",
    "postgres/0003_retention.sql": "abeca636f883fea61eaa2d8d1197c65204ad06799dc5ac1ce8e84cbf1b7720cd",
    "postgres/0004_keys_at_rest.sql": "94e69ec51b138d2af52353f0629579bbf201550db1daa3213aa1faac3093a114",
    "postgres/0005_events.sql": "7c4991baf854181a2de45df2721001bf1e9f8ce32ac5de7b71a43da9956dd58c",
    "postgres/0006_removed_entries.sql": "2c102e9285b4e7f8bd20a2f2e5e8a808f8542a2676b346540b6bd85e6f71b2b4",
}
"""SHA-256 of each. A new migration gets a line here with the change that brings it."""
FOLDER = resources.files("orchestrator.storage.migrations")


def files(store: str) -> list[str]:
    """The names of a store's migrations, in their order."""
    return sorted(file.name for file in FOLDER.joinpath(store).iterdir() if file.name.endswith(".sql"))


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_a_migration_that_was_there_before(name: str):
    """It stays byte for byte as it was: what it made is in databases, and would not be made anew."""
    assert hashlib.sha256(FOLDER.joinpath(name).read_bytes()).hexdigest() == FROZEN[name]


def test_each_migration_is_held():
    """None can be changed later without this being seen."""
    assert sorted(FROZEN) == sorted(f"{store}/{name}" for store in ("sqlite", "postgres") for name in files(store))


@pytest.mark.parametrize(("store", "schema"), [("sqlite", sqlite_schema), ("postgres", postgres_schema)])
def test_migrations_are_numbered_from_one_without_a_gap(store: str, schema):
    """Two changes that come together cannot take the same number."""
    assert [int(name[:4]) for name in files(store)] == list(range(1, len(files(store)) + 1))
    assert [number for number, _ in schema.migrations()] == list(range(1, schema.latest_version() + 1))
