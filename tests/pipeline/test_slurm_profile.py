"""The profile for Slurm fits the rules: it names nothing else, and forgets no rule with a GPU."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.pipeline.workflow_run import REPOSITORY, Project, downstream

RULE = re.compile(r"^rule (?P<name>\w+):\n(?P<body>.*?)(?=^\S|\Z)", re.M | re.S)
WARNED = {"train_fold", "train_gan", "train_segmenter"}
"""The rules that store their state when they are warned."""


@pytest.fixture(scope="module")
def profile() -> dict[str, object]:
    return yaml.safe_load((REPOSITORY / "workflow" / "profiles" / "slurm" / "config.yaml").read_text())


def rules_and_gpu_rules() -> tuple[set[str], set[str]]:
    """Return all rules of the rule files, and those that ask for a GPU."""
    rules = [rule for file in REPOSITORY.glob("workflow/rules/*.smk") for rule in RULE.finditer(file.read_text())]
    return {rule["name"] for rule in rules}, {
        rule["name"] for rule in rules if re.search(r"^ +gpu=", rule["body"], re.M)
    }


def test_the_profile_names_rules_alone_and_every_rule_with_a_gpu(
    profile: dict[str, dict[str, dict[str, object]]],
) -> None:
    rules, with_gpu = rules_and_gpu_rules()
    assert len(with_gpu) >= 8 and set(profile["set-resources"]) <= rules and set(profile["groups"]) <= rules
    assert with_gpu <= set(profile["set-resources"])
    assert with_gpu.isdisjoint(profile["groups"]), "a group would hold a GPU for all of its steps"
    warned = {rule for rule, wishes in profile["set-resources"].items() if "slurm_extra" in wishes}
    assert warned == WARNED
    assert all(
        wishes.get("slurm_extra", "'--signal=USR1@120'") == "'--signal=USR1@120'"
        for wishes in profile["set-resources"].values()
    )


def test_no_group_waits_for_itself(profile: dict[str, dict[str, str]], users: dict[str, set[str]]) -> None:
    for group in set(profile["groups"].values()):
        members = {rule for rule, name in profile["groups"].items() if name == group}
        left = {rule for member in members for rule in users[member]} - members
        assert downstream(users, left).isdisjoint(members), f"a path leaves group {group} and comes back"


def test_the_workflow_can_be_planned_with_the_profile(finished: Project) -> None:
    jobs = finished.planned_jobs("--workflow-profile", "workflow/profiles/slurm", "--forceall")
    assert jobs["train_fold"] >= 2 and jobs["write_report"] == 1
