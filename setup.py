"""One repository, two packages: the CLI always deploys the agent of its own commit, offline."""

from setuptools import find_namespace_packages, setup

AGENT = "faassupervisor"
DEMO = "scar.examples.demo"

setup(
    packages=[
        *find_namespace_packages(include=["scar", "scar.*"]),
        DEMO,
        AGENT,
        *(f"{AGENT}.{name}" for name in find_namespace_packages(f"faas-supervisor/{AGENT}")),
    ],
    package_dir={AGENT: f"faas-supervisor/{AGENT}", DEMO: "examples/demo"},
    package_data={"scar": ["py.typed", "**/*.json", "package/agent/bundles/*"], DEMO: ["*"], AGENT: ["py.typed"]},
)
