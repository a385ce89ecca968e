"""One repository, two packages: the CLI always deploys the agent of its own commit, offline."""

from setuptools import find_namespace_packages, setup

AGENT = "faassupervisor"

setup(
    packages=[
        *find_namespace_packages(include=["scar", "scar.*"]),
        AGENT,
        *(f"{AGENT}.{name}" for name in find_namespace_packages(f"faas-supervisor/{AGENT}")),
    ],
    package_dir={AGENT: f"faas-supervisor/{AGENT}"},
    package_data={"scar": ["py.typed", "**/*.json", "**/*.yaml", "**/*.py", "**/*.png"], AGENT: ["py.typed"]},
)
