"""What pyproject.toml cannot say: which packages lie in folders of another name."""

from setuptools import find_packages, setup

setup(
    packages=[
        "sopose",
        *(f"sopose.{name}" for name in find_packages("gdrn_selfocc_modeling")),
        "sopose.core",
        *(f"sopose.core.{name}" for name in find_packages("core")),
        "sopose.configs",
    ]
)
